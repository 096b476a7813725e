"""What the verbs for jobs return: the list of jobs, and the output of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.output import OUTPUT_LIMIT, FloodGate
from nbcontainer.rendering.fields import Sign, State, When
from nbcontainer.rendering.inert_text import InertText
from nbcontainer.rendering.quantities import duration
from nbcontainer.rendering.table import Column, Table, listing
from nbcontainer.rendering.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nbcontainer.outcome import Outcome

    Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class JobRow:
    """A job as `jobs` lists it. `started` is in RFC 3339; `seconds` is how long it has run, or ran.

    `state` is a phrase, `outcome` None while it runs, or if it has none. `health` is that of the image's HEALTHCHECK.
    """

    name: str
    image: str
    state: str
    started: str
    seconds: float
    command: str
    notebook: str = ""
    health: str = ""
    outcome: Outcome | None = None
    running: bool = False


def _state(row: JobRow) -> State:
    text = f"{row.state}, {row.health}" if row.health else row.state
    if row.running:
        return State(text, Sign.BAD if row.health == "unhealthy" else Sign.GOOD)
    return State(text, Sign.BAD if row.outcome is None else row.outcome.sign)


def job_list(rows: Sequence[JobRow]) -> Table:
    """Return jobs as a table."""
    shown = (
        Column("job", lambda row: row.name),
        Column("image", lambda row: row.image),
        Column("state", _state),
        Column("started", lambda row: When(row.started)),
        Column("duration", lambda row: duration(row.seconds)),
        Column("command", lambda row: one_line(row.command)),
        Column("notebook", lambda row: row.notebook),
    )
    return listing(shown, rows, "no jobs; `%%container --bg` starts one")


@dataclass(frozen=True)
class Piece:
    """A piece of output; `error` is whether it is standard error."""

    data: bytes
    error: bool = False


class LogOutput:
    """The output of the job `name`: as text, or piece by piece while it runs. With `follow`, it is shown as it comes.

    `inert` is whether it must not control a terminal. `limit` is how many bytes of it a notebook's page shows.
    """

    limit = OUTPUT_LIMIT

    def __init__(
        self, pieces: Iterable[Piece], *, name: str = "NAME", follow: bool = False, inert: bool = False
    ) -> None:
        self.follow = follow
        self._name = name
        self._inert = inert
        self._pieces = iter(pieces)
        self._read: list[Piece] = []

    def __iter__(self) -> Iterator[Piece]:
        """Yield the pieces, those that were read before first."""
        yield from self._read
        for piece in self._pieces:
            self._read.append(piece)
            yield piece

    def write(
        self, stdout: Callable[[bytes], None], stderr: Callable[[bytes], None], *, terminal: bool = False
    ) -> None:
        """Write each piece to the sink of its stream; `terminal` is whether they are a terminal, or a page like one."""
        inert = self._inert and terminal
        out, err = (InertText(stdout), InertText(stderr)) if inert else (stdout, stderr)
        for piece in self._pieces:
            (err if piece.error else out)(piece.data)

    def gate(self) -> FloodGate:
        """Return what the output passes on its way to a notebook's page."""
        ways = f"choose a part with --tail or --since, or run `nbcontainer logs {self._name} > FILE` in a terminal"
        return FloodGate(self.limit, None, f"are in the log: {ways}")

    def __str__(self) -> str:
        parts: list[bytes] = []
        self._pass_to(parts.append)
        return _text(parts)

    __repr__ = __str__

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        parts: list[bytes] = []
        gate = self.gate()
        self._pass_to(gate.through(parts.append))
        gate.finish(parts.append)
        printer.text(_text(parts))

    def _pass_to(self, sink: Sink) -> None:
        sink = InertText(sink) if self._inert else sink
        for piece in self:
            sink(piece.data)

    def as_json(self) -> str:
        """Return the output as text."""
        return b"".join(piece.data for piece in self).decode("utf-8", "replace")


def _text(parts: Iterable[bytes]) -> str:
    return b"".join(parts).decode("utf-8", "replace").removesuffix("\n")


@dataclass(frozen=True)
class JobEnds:
    """How jobs ended: a phrase and the outcome of each, by the names of their containers."""

    ends: Mapping[str, tuple[str, Outcome | None]]

    def __str__(self) -> str:
        return "\n".join(f"{name}: {visible(phrase)}" for name, (phrase, _) in self.ends.items())

    __repr__ = __str__

    def as_json(self) -> dict[str, Any]:
        """Return the outcomes, by name."""
        return {
            name: {"ended": phrase, "outcome": None if outcome is None else outcome.as_dict()}
            for name, (phrase, outcome) in self.ends.items()
        }
