"""`--live`: a cell in a container that runs between cells, as the magics run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nbcontainer.commands.grammar import Option, ValueKind
from nbcontainer.errors import UsageError
from nbcontainer.notebook import python_cells

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Words
    from nbcontainer.containers.cell import Request, Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.notebook.shown_data import CellOutput
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


def run(
    engine: Engine, request: Request, streams: Streams, *, words: Words, progress: Listener | None
) -> tuple[Container, Outcome]:
    """Return the container of a live cell, and the cell's outcome. Raises this package's errors."""
    from nbcontainer.containers.live import live_container

    if request.script is None or request.command:
        hint = "write the cell below `%%container`, without a command"
        raise UsageError("--live runs the cell's body", hint=hint)
    word = words.one(OPTION.name) or ("python" if words.has(python_cells.OPTION.name) else "")
    live = live_container.open_live(engine, request, word)
    output = cast("CellOutput", streams.display)
    outcome, note = live.run(request.script, output, timeout=request.options.timeout, progress=progress)
    if note:
        streams.notify(note)
    container: Any = live.session.container
    return container, outcome
