"""How a cell ended: a value that holds only facts which the container cannot forge."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import Mapping  # noqa: TC003 - typing.get_type_hints reads it
from dataclasses import dataclass
from typing import Any

from nbcontainer.rendering.fields import Sign, State


class Reason(enum.StrEnum):
    """Why a cell ended. The values are those in records on disk."""

    EXITED = "exited"
    SIGNAL = "signal"
    """A signal from inside the container ended it."""
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    """It was killed from outside the container, and not by this package: by another program, or by the kernel."""
    STOPPED = "stopped"
    """It was stopped, and killed since it had not ended in time after its stop signal."""
    ENDED_BY_KILL = "ended by kill"
    """The verb `kill` ended it."""
    NOT_READY = "not ready"
    """It was a job, and was killed because the wait for it failed (`--wait-for`)."""
    CONTAINER_ENDED = "container ended"
    """It was started in a running container, and was killed when that ended."""
    OUT_OF_MEMORY = "out of memory"
    TOO_MANY_PROCESSES = "too many processes"
    STORAGE_LIMIT = "disk quota"


_TYPES = frozenset({Reason, int, float})
"""The types of an outcome's fields."""

_PHRASES = {
    Reason.INTERRUPTED: "interrupted",
    Reason.CONTAINER_ENDED: "ended with its container",
    Reason.ENDED_BY_KILL: "killed by the verb `kill`",
    Reason.NOT_READY: "killed after `--wait-for` failed",
    Reason.KILLED: "killed from outside the container",
}
"""The phrases of reasons without figures."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended, and which resources it used.

    With the last three reasons, the cell ended badly after it reached a limit; `limit` is that limit in bytes or
    processes. `exit_code` is the shell's: 128 plus the signal if there was one. Times are in seconds. `peak_memory` is
    in bytes: of the largest process, or of all processes together if memory was limited; 0 if it is not known, as that
    of a program which is smaller than an interpreted init. `grace` is how long a stopped cell had to end before it was
    killed.

    >>> outcome = run("busybox", script="kill -TERM $$", check=False).outcome
    >>> outcome.describe(), outcome.ok, outcome.exit_code
    ('ended by SIGTERM', False, 143)
    """

    reason: Reason
    exit_code: int
    signal: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    limit: int = 0
    grace: float = 0.0

    def __repr__(self) -> str:
        return f"<Outcome: {self.describe()}, {self.wall_time:.3g} s>"

    def _repr_html_(self) -> str:
        from nbcontainer.rendering.quantities import duration, size
        from nbcontainer.rendering.table import facts

        used = f"{size(self.peak_memory)} at most" if self.peak_memory else ""
        times = (("time", duration(self.wall_time)), ("CPU time", duration(self.cpu_time)), ("memory", used))
        return facts("outcome", (("ended", self.state), *times))

    @property
    def sign(self) -> Sign:
        """Its sign in lists: an interrupt is the user's own action, and not a failure."""
        if self.ok:
            return Sign.GOOD
        return Sign.WARN if self.reason == Reason.INTERRUPTED else Sign.BAD

    @property
    def state(self) -> State:
        """Its phrase with its sign, for a table."""
        return State(self.describe(), self.sign)

    @property
    def ok(self) -> bool:
        """Whether the cell ended by itself with exit code 0."""
        return self.reason == Reason.EXITED and self.exit_code == 0

    def describe(self) -> str:
        """Return the outcome in one short phrase."""
        if self.reason == Reason.EXITED:
            return f"exit code {self.exit_code}"
        if self.reason == Reason.SIGNAL:
            return f"ended by {signal_name(self.signal)}"
        if self.reason == Reason.TIMEOUT:
            return f"stopped after its time limit ({self.wall_time:.1f} s)"
        if self.reason == Reason.OUT_OF_MEMORY:
            return f"out of memory (limit {_mebibytes(self.limit)}, peak {_mebibytes(self.peak_memory)})"
        if self.reason == Reason.TOO_MANY_PROCESSES:
            return f"too many processes (limit {self.limit})"
        if self.reason == Reason.STORAGE_LIMIT:
            return f"storage limit reached ({_mebibytes(self.limit)})"
        if self.reason == Reason.STOPPED:
            return f"killed {self.grace:g} s after its stop signal" if self.grace else "killed when it was stopped"
        return _PHRASES[self.reason]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Return the outcome that `as_dict` wrote. Raises `ValueError`, `KeyError` or `TypeError` for others."""
        found = cls(**{**values, "reason": Reason(values["reason"])})
        if not _TYPES.issuperset(map(type, vars(found).values())):
            raise TypeError("a value of an outcome is not a number")
        return found


def _mebibytes(number: int) -> str:
    return f"{number / (1 << 20):.4g} MiB"


def signal_name(number: int) -> str:
    """Return `SIGKILL` and so on; real-time signals by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def from_status(
    status: int | None,
    *,
    stopped: Reason | None,
    wall_time: float,
    cpu_time: float = 0.0,
    peak_memory: int = 0,
    grace: float = 0.0,
) -> Outcome:
    """Return the outcome for a wait status; `status` is None if init died without reporting one.

    `stopped` is why the notebook ended the container; None if it did not. `grace` is as in `Outcome`.
    """
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else 0
    if stopped is not None:
        reason = stopped
    elif status is None:
        reason = Reason.KILLED
    else:
        reason = Reason.SIGNAL if number else Reason.EXITED
    return Outcome(reason, 128 + number if number else code, number, wall_time, cpu_time, peak_memory, grace=grace)
