"""Back-pressure: no more containers than this machine can take. A start waits, and says what it waits for."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import resource
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.errors import SetupFailed
from nbcontainer.mapping.neighbours import Neighbours
from nbcontainer.rendering.quantities import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RESERVE = 64 << 20
"""Bytes of memory that stay free, beside those of the new container."""

_MEMORY, _PROCESSES, _DESCRIPTORS = 8 << 20, 8, 24
"""What one container needs on the notebook's side, rounded up: bytes, processes and descriptors."""

_AGAIN = 0.2
"""Seconds after which the machine is looked at again: other programs end without notice."""

_PATIENCE = 60.0
"""Seconds for which a start is tried again beside items of other processes: their ends are not reported."""

_REFUSED = "another container's end, since the machine refused this one"

_SHORT = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EUSERS})
"""Errors of a start that another container's end may cure (clone(2), open(2), user_namespaces(7))."""

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


_MOST = 1 << 20
"""Containers for which there is room if nothing is known."""

_VALID = 0.05
"""Seconds for which a room that was found counts: a look reads some 15 files."""


class Room(NamedTuple):
    """How many more containers a machine can take, and of what it has the least, as a phrase."""

    containers: int
    least: str


@dataclass(frozen=True)
class Machine:
    """What is left on this machine. Each method returns None if that is not known."""

    proc: Path = _PROC
    cgroup: Path = _CGROUP

    def memory(self) -> int | None:
        """Return the bytes of memory that are available, in this machine and in this process's control group."""
        lines = _text(self.proc / "meminfo").splitlines()
        found = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
        return _least(found, self._in_group("memory.max", "memory.current"))

    def processes(self) -> int | None:
        """Return how many processes can be started (kernel.pid_max, kernel.threads-max, pids.max)."""
        limits = (_number(self.proc / "sys/kernel" / name) for name in ("pid_max", "threads-max"))
        running = _text(self.proc / "loadavg").split()[3:4]
        count = int(running[0].partition("/")[2]) if running else 0
        machine = _least(*limits)
        return _least(None if machine is None else machine - count, self._in_group("pids.max", "pids.current"))

    def descriptors(self) -> int | None:
        """Return how many more descriptors this process may open (RLIMIT_NOFILE, getrlimit(2))."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit == resource.RLIM_INFINITY:
            return None
        with contextlib.suppress(OSError):
            return limit - len(os.listdir(self.proc / "self/fd"))  # noqa: PTH208 - this is called for each start
        return None

    def _in_group(self, limit: str, current: str) -> int | None:
        """Return what is left of a limit of this process's control group (version 2) and of those above it."""
        line = _text(self.proc / "self/cgroup").strip()
        path = self.cgroup / line.removeprefix("0::/") if line.startswith("0::/") else self.cgroup
        left: int | None = None
        while path.is_relative_to(self.cgroup):
            most, used = _number(path / limit), _number(path / current)
            if most is not None and used is not None:
                left = _least(left, most - used)
            if path == self.cgroup:
                break
            path = path.parent
        return left

    def room(self) -> Room:
        """Return how many more containers this machine can take."""
        memory, processes, descriptors = self.memory(), self.processes(), self.descriptors()
        rooms = []
        if memory is not None:
            rooms.append(Room((memory - _RESERVE) // _MEMORY, f"memory ({size(max(0, memory))} available)"))
        if processes is not None:
            rooms.append(Room(processes // _PROCESSES, f"processes ({max(0, processes)} left)"))
        if descriptors is not None:
            text = f"file descriptors ({max(0, descriptors)} left, ulimit -n)"
            rooms.append(Room(descriptors // _DESCRIPTORS, text))
        return min(rooms, key=lambda room: room.containers, default=Room(_MOST, ""))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _least(*values: int | None) -> int | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None


class Gate:
    """Lets the containers of one process start. Thread-safe.

    A start waits while the machine lacks something and another container of this gate runs, or an item of another
    process (`Neighbours`): with none, it is the only one, and its own error says what is wrong. The machine is looked
    at when the starts have used up what room there was, and when that was found too long ago.
    """

    def __init__(self, machine: Machine | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._machine = machine or Machine()
        self.clock = clock
        self.forget()

    def forget(self) -> None:
        """Forget all containers: in a fork(2) of this process, none of them is there."""
        self._changed = threading.Condition()
        self._running = 0
        self._room = 0
        self._looked = -math.inf
        self._ended = 0
        self._refused = 0  # of those that run, how many wait for the end of another

    @contextlib.contextmanager
    def admitted(
        self, on_wait: Callable[[str], None], stopped: Callable[[], bool], store: Path | None = None
    ) -> Iterator[Place]:
        """Hold a place for one container; wait for it unless `stopped` is true.

        `on_wait` gets a phrase for what it waits for, and "" when it continues. `store` is the store (host) that the
        items of other processes use, too; None if there are none.
        """
        with Neighbours(store) as neighbours:
            with self._changed:
                self._wait_for_machine(on_wait, stopped, neighbours)
                self._running += 1
            try:
                neighbours.hold()
                yield Place(self, on_wait, stopped, neighbours)
            finally:
                neighbours.release()  # before the starts that wait look again
                with self._changed:
                    self._running -= 1
                    self._ended += 1
                    self._changed.notify_all()

    def _wait_for_machine(
        self, on_wait: Callable[[str], None], stopped: Callable[[], bool], neighbours: Neighbours
    ) -> None:
        waited = False
        while not stopped() and (self._running or not neighbours.hold_alone()) and (lacking := self._lacks()):
            waited = True
            on_wait(lacking)
            self._changed.wait(_AGAIN)
        if waited:
            on_wait("")

    def _lacks(self) -> str:
        """Return what is too little for one more container, as a phrase; empty if nothing is."""
        now = self.clock()
        if self._room <= 0 or now - self._looked >= _VALID:
            self._room, least = self._machine.room()
            self._looked = now
            if self._room <= 0:
                return least
        self._room -= 1
        return ""

    def wait_for_other(self, on_wait: Callable[[str], None], stopped: Callable[[], bool]) -> bool:
        """Wait until another container ends; return False at once if none runs that does not wait here, too."""
        with self._changed:
            before = self._ended
            if self._running - self._refused == 1:
                return False
            self._refused += 1
            try:
                on_wait(_REFUSED)
                while self._ended == before and not stopped():
                    self._changed.wait(_AGAIN)
                on_wait("")
            finally:
                self._refused -= 1
        return True

    def is_alone(self) -> bool:
        """Return whether one container has a place."""
        with self._changed:
            return self._running == 1


class Place:
    """The place of one container among those of a gate. Use it in one thread."""

    def __init__(
        self, gate: Gate, on_wait: Callable[[str], None], stopped: Callable[[], bool], neighbours: Neighbours
    ) -> None:
        self._gate = gate
        self._on_wait = on_wait
        self._stopped = stopped
        self._neighbours = neighbours
        self._was_last = False
        self._first = math.inf
        """When the machine refused it for the first time."""

    def may_start_again(self, error: BaseException) -> bool:
        """Wait until a start that failed may succeed; return False if it cannot.

        It may if the machine had too little of something, and another container ends. If the machine refused all of
        them, the last one starts once more while the others wait: what it fails with then is what is wrong.
        """
        if not is_short(error):
            return False
        if self._gate.is_alone():
            return self._waits_for_neighbours()
        if self._gate.wait_for_other(self._on_wait, self._stopped):
            self._was_last = False
        elif self._was_last:
            return False
        else:
            self._was_last = True
        return not self._stopped()

    def _waits_for_neighbours(self) -> bool:
        """Wait a moment for items of other processes; return False if there are none, or after _PATIENCE seconds.

        It does not count as running meanwhile: if the machine refuses all of them, none waits for the others.
        """
        now = self._gate.clock()
        self._first = min(self._first, now)
        if self._neighbours.hold_alone() or now - self._first > _PATIENCE:
            return False
        self._on_wait(_REFUSED)
        time.sleep(_AGAIN)
        self._on_wait("")
        self._neighbours.hold()
        return not self._stopped()


def is_short(error: BaseException) -> bool:
    """Return whether an error of a start says that the machine had too little of something at that moment."""
    if isinstance(error, SetupFailed):
        return error.errno in _SHORT
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.errno in _SHORT
        seen = seen.__cause__
    return False
