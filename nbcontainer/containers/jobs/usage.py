"""What runs in a container and what it uses, from the host's /proc: processor time, memory and tasks.

A process of the container chooses its own name and arguments: they are only shown.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.linux.procfs import descendants, read_text, status

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ARGUMENTS = 4096  # bytes of a command line that are read


@dataclass(frozen=True)
class ProcessFacts:
    """A process of a container. `pid` is the container's, `seconds` its processor time, `memory` resident bytes."""

    pid: int
    state: str
    seconds: float
    memory: int
    tasks: int
    command: str


@dataclass(frozen=True)
class Usage:
    """What a container uses: `processors` in a moment, `memory` resident bytes of all processes, and `tasks`."""

    processors: float
    seconds: float
    memory: int
    tasks: int


def processes_of(init: int) -> list[ProcessFacts]:
    """Return the processes of the container with this init (host pid), without init, by their pids."""
    found = []
    for pid in descendants(init):
        with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
            found.append(_facts(pid))
    return sorted(found, key=lambda facts: facts.pid)


def _facts(pid: int) -> ProcessFacts:
    """Return the facts of a process by its host pid (proc_pid_stat(5), proc_pid_status(5)). Raises if it has ended."""
    head, _, rest = read_text(f"/proc/{pid}/stat").rpartition(")")
    fields = rest.split()
    return ProcessFacts(
        int(status(pid)["NSpid"].split()[-1]),
        fields[0],
        (int(fields[11]) + int(fields[12])) / _TICKS,
        max(0, int(fields[21])) * _PAGE,
        int(fields[17]),
        _command(pid) or f"[{_readable(head.partition('(')[2])}]",
    )


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")


def _command(pid: int) -> str:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/cmdline").open("rb") as file:
        return file.read(_ARGUMENTS).rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def usage_of(inits: dict[str, int], moment: float = 0.2) -> dict[str, Usage]:
    """Return what containers use, by name, from two looks `moment` seconds apart; `inits` are host pids."""
    before, began = {name: _seconds(processes_of(init)) for name, init in inits.items()}, time.monotonic()
    time.sleep(moment)
    return {name: _usage(processes_of(init), before[name], time.monotonic() - began) for name, init in inits.items()}


def _seconds(processes: list[ProcessFacts]) -> float:
    return sum(one.seconds for one in processes)


def _usage(processes: list[ProcessFacts], before: float, passed: float) -> Usage:
    seconds = _seconds(processes)
    memory, tasks = sum(one.memory for one in processes), sum(one.tasks for one in processes)
    return Usage(max(0.0, seconds - before) / passed, seconds, memory, tasks)
