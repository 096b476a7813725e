"""How a cell ended: a value made of facts, none of which the container can write."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass
from typing import Any

EXITED = "exited"
SIGNAL = "signal"
TIMEOUT = "timeout"
INTERRUPTED = "interrupted"
KILLED = "killed"
MEMORY = "out of memory"
PROCESSES = "too many processes"
STORAGE = "disk quota"


@dataclass(frozen=True)
class Outcome:
    """Who ended a cell, and what it cost.

    `reason` is `exited`, `signal` (it died of one of its own), `timeout`, `interrupted`, `killed` (from outside),
    `out of memory`, `too many processes` or `disk quota` (it came to that limit, `limit` bytes or processes, and ended
    badly).
    `exit_code` is the shell's: 128 and the signal where there was one. Times in seconds, `peak_memory` in bytes, of
    the largest process, or of all together where memory was limited.
    """

    reason: str
    exit_code: int
    signal: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    limit: int = 0

    @property
    def ok(self) -> bool:
        """Whether the cell ended by itself with exit code 0."""
        return self.reason == EXITED and self.exit_code == 0

    def describe(self) -> str:
        """The outcome in one short phrase."""
        if self.reason == EXITED:
            return f"exit code {self.exit_code}"
        if self.reason == SIGNAL:
            return f"ended by {signal_name(self.signal)}"
        if self.reason == TIMEOUT:
            return f"stopped after its time limit ({self.wall_time:.1f} s)"
        if self.reason == INTERRUPTED:
            return "interrupted"
        if self.reason == MEMORY:
            return f"out of memory (limit {_mebibytes(self.limit)}, peak {_mebibytes(self.peak_memory)})"
        if self.reason == PROCESSES:
            return f"too many processes (limit {self.limit})"
        if self.reason == STORAGE:
            return f"no space left of its disk quota (limit {_mebibytes(self.limit)})"
        return "killed from outside the container"

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def _mebibytes(number: int) -> str:
    return f"{number / (1 << 20):.4g} MiB"


def signal_name(number: int) -> str:
    """`SIGKILL` and so on; real-time signals by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def from_status(
    status: int | None, *, stopped: str, wall_time: float, cpu_time: float = 0.0, peak_memory: int = 0
) -> Outcome:
    """The outcome of a wait status (None where init died without a word).

    `stopped` is why the notebook ended the container, empty where it did not.
    """
    code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
    number = -code if code < 0 else 0
    if stopped:
        reason = stopped
    elif status is None:
        reason = KILLED
    else:
        reason = SIGNAL if number else EXITED
    return Outcome(reason, 128 + number if number else code, number, wall_time, cpu_time, peak_memory)
