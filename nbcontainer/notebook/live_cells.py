"""`--live`: a cell in a container that runs between cells, as the magics run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.commands.grammar import Option, ValueKind
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.cell import Request, Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome
    from nbcontainer.progress import Listener

OPTION = Option(
    ("--live",),
    "INTERPRETER",
    "keep the container of --name running, with its shell or with `python`, for the next cells with --live",
    alone="",
    kind=ValueKind.CHOICE,
    choices=("shell", "python"),
)


def runs_live(engine: Engine, words: Words) -> bool:
    """Return whether a cell runs in a live container."""
    return words.has(OPTION.name) or words.one("name") in engine.live


def described(engine: Engine, words: Words) -> str:
    """Return how a cell runs in a live container, for its footer; empty if it has a container of its own."""
    if not runs_live(engine, words):
        return ""
    if words.has(OPTION.name):
        return f"in its {words.one(OPTION.name) or 'shell'}"
    return "by a new process in it"


class CellOutput:
    """The output of one cell, from the thread of a live container: a `ShellListener`."""

    def __init__(self, streams: Streams, *, trust: bool) -> None:
        self.stdout: Callable[[bytes], None] = streams.stdout
        self.stderr: Callable[[bytes], None] = streams.stderr
        self._trust = trust

    def shown(self, mime: str, data: bytes) -> None:
        """Display data, made inert unless it is trusted."""
        from IPython.display import display

        from nbcontainer.values.inert import bundle

        try:
            shown = bundle(mime, data, trust=self._trust)
        except ValueError as error:
            self.stderr(f"nbcontainer: display: {error}\n".encode())
        else:
            display(shown, raw=True)  # type: ignore[no-untyped-call]

    def cleared(self, wait: bool) -> None:
        """Clear the cell's output."""
        from IPython.display import clear_output

        clear_output(wait)  # type: ignore[no-untyped-call]


def run(
    engine: Engine, request: Request, streams: Streams, *, words: Words, trust: bool, progress: Listener | None
) -> tuple[Container, Outcome]:
    """Return the container of a live cell, and the cell's outcome. Raises this package's errors."""
    from nbcontainer.containers.live import live_container

    if request.script is None or request.command:
        hint = "write the cell below `%%container`, without a command"
        raise UsageError("--live runs the cell's body", hint=hint)
    live = live_container.open_live(engine, request, words.one(OPTION.name))
    output = CellOutput(streams, trust=trust)
    outcome, note = live.run(request.script, output, timeout=request.options.timeout, progress=progress)
    if note:
        streams.notify(note)
    container: Any = live.session.container
    return container, outcome
