"""Init's watch over the notebook, which a container can block: init then ends the cell in its place.

A process that waits in sendfile(2), splice(2) or vmsplice(2) locks the pipe that it writes to (fs/splice.c). A process
that reads the pipe, closes it or asks for its size waits for the lock, and no signal ends that wait, not even SIGKILL.
So init keeps no end of a pipe that the container can open, and does what the notebook cannot do while it waits there.
"""

from __future__ import annotations

import enum
import os
import re
import select
import signal
import time
from typing import TYPE_CHECKING

from nbcontainer.linux.process import PR_SET_PDEATHSIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.linux.kernel import Kernel

INTERVAL = 1.0
"""Seconds between two looks at the notebook. A cell that ends sooner causes none."""

PATIENCE = 1.0
"""Seconds after the time limit in which the notebook may end the cell itself."""

_CHUNK = 1 << 16
_PENDING = re.compile(rb"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$", re.MULTILINE)
_MEMORY = re.compile(rb"^VmSize:", re.MULTILINE)
_WAITS = re.compile(rb"^State:\s+D", re.MULTILINE)


class Notebook(enum.Enum):
    """What the notebook is able to do."""

    ACTS = enum.auto()
    """It takes its signals."""
    INTERRUPTED = enum.auto()
    """It has a SIGINT, and waits in the kernel."""
    GONE = enum.auto()
    """It has been killed, or has ended."""


def open_status(pid: int) -> int:
    """Return a descriptor of a process's status (proc_pid_status(5)); -1 if there is none. The caller closes it."""
    try:
        return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def state_in(status: bytes) -> Notebook:
    """Return what the text of a process's status says. A process that ends has no memory any more, and no VmSize."""
    pending = 0
    for mask in _PENDING.findall(status):
        pending |= int(mask, 16)
    if not _MEMORY.search(status) or pending & 1 << signal.SIGKILL - 1:
        return Notebook.GONE
    interrupted = pending & 1 << signal.SIGINT - 1 and _WAITS.search(status)
    return Notebook.INTERRUPTED if interrupted else Notebook.ACTS


def end_with(kernel: Kernel, launcher: int) -> None:
    """Have the kernel end this process with the launcher; if that has ended before it was asked, end it now."""
    kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


class TimeLimit:
    """A time limit that begins now, in seconds; None for none."""

    def __init__(self, limit: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._deadline = None if limit is None else now() + limit + PATIENCE
        self._asked = False

    def due(self) -> signal.Signals | None:
        """Return the signal for a process that should have ended: SIGTERM, SIGKILL from the second call on."""
        return self.ask(signal.SIGTERM) if self._deadline is not None and self._now() >= self._deadline else None

    def ask(self, number: signal.Signals) -> signal.Signals:
        """Return `number` the first time, and SIGKILL when a signal was returned before."""
        asked, self._asked = self._asked, True
        return signal.SIGKILL if asked else number


class NotebookWatch:
    """The watch over the notebook during one cell. `limit` is the cell's time limit in seconds; None for none."""

    def __init__(self, status: int, limit: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """Begin. `status` is a descriptor as `open_status` returns it; the caller closes it."""
        self._status = status
        self._limit = TimeLimit(limit, now)
        self._before = Notebook.ACTS

    def look(self) -> signal.Signals | None:
        """Return the signal that the cell is due, None for none.

        SIGKILL is for all processes of the container. It comes at the end of the notebook, and one look after another
        signal that did not help.
        """
        found = self._state()
        twice = found is self._before
        self._before = found
        if found is Notebook.GONE:
            return signal.SIGKILL
        if found is Notebook.INTERRUPTED and twice:
            return self._limit.ask(signal.SIGINT)
        return self._limit.due()

    def _state(self) -> Notebook:
        if self._status < 0:
            return Notebook.ACTS
        try:
            return state_in(_whole(self._status))
        except ProcessLookupError:
            return Notebook.GONE
        except OSError:
            return Notebook.ACTS


def _whole(fd: int) -> bytes:
    """Return the content of a file to its end: a user with many groups has them before the lines that count."""
    found = b""
    while part := os.pread(fd, _CHUNK, len(found)):
        found += part
    return found
