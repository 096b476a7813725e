"""Where the output of a cell goes, and what its end means for the notebook."""

from __future__ import annotations

import contextlib
import keyword
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.jobs.interruption import WaitInterrupted
from nbcontainer.errors import CellFailed, UsageError
from nbcontainer.outcome import Reason, from_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.outcome import Outcome
    from nbcontainer.runs.results import Result
    from nbcontainer.sandbox.supervisor import Supervisor

_HINTS = {
    Reason.TIMEOUT: "set a longer one with `--timeout`",
    Reason.OUT_OF_MEMORY: "set a higher one with `-m`",
    Reason.TOO_MANY_PROCESSES: "set a higher one with `--pids-limit`",
    Reason.STORAGE_LIMIT: "set a higher one with `--storage`, or write to a volume",
}


class Watch:
    """Keeps what init reports of a cell's end."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | None = None

    def __call__(self, supervisor: Supervisor) -> None:
        """Keep the supervisor of the cell."""
        self._supervisor = supervisor

    @property
    def ended(self) -> dict[str, Any]:
        """The report; empty if there is none."""
        return (self._supervisor and self._supervisor.running.ended) or {}


class Destination:
    """A variable that gets a stream, if one is named."""

    def __init__(self, name: str) -> None:
        if name and (not name.isidentifier() or keyword.iskeyword(name)):
            raise UsageError(f"invalid variable name {name!r}", hint="write --out NAME")
        self.name = name
        self._parts: list[bytes] = []

    def sink(self, shown: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Return the sink of the stream: the variable, or `shown`."""
        return self._parts.append if self.name else shown

    def fill(self, namespace: dict[str, Any]) -> None:
        """Set the variable, if one is named."""
        if self.name:
            namespace[self.name] = b"".join(self._parts).decode("utf-8", "replace")


def both(first: Callable[[bytes], None], second: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return a sink that passes all to two sinks."""

    def take(data: bytes) -> None:
        first(data)
        second(data)

    return take


def failure(outcome: Outcome, line: str = "") -> CellFailed:
    """Return the error of a run that failed: one line. `line` is the script's line that the shell reported."""
    text = f"{outcome.describe()} at {line}" if line else outcome.describe()
    return CellFailed(text, outcome=outcome, hint=_HINTS.get(outcome.reason, ""))


@contextlib.contextmanager
def interrupts_as_errors() -> Iterator[None]:
    """Raise `CellFailed`, an error in one line that also stops Run All, for an interrupt inside the block."""
    try:
        yield
    except KeyboardInterrupt as error:
        outcome = from_status(None, stopped=Reason.INTERRUPTED, wall_time=0.0)
        if isinstance(error, WaitInterrupted):
            raise CellFailed(error.message, outcome=outcome, hint=error.hint) from None
        raise failure(outcome) from None


class Captured:
    """Keeps a copy of both streams for the result of a run."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._err: list[bytes] = []

    def take_part(self, streams: Streams) -> None:
        """Copy what goes to the streams from now on."""
        streams.stdout = both(self._out.append, streams.stdout)
        streams.stderr = both(self._err.append, streams.stderr)

    def result(self, container: Container, outcome: Outcome) -> Result:
        """Return the result of the run."""
        from nbcontainer.runs.results import Result

        return Result(container, outcome, b"".join(self._out), b"".join(self._err))
