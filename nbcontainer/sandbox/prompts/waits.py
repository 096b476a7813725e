"""The threads of a container that wait for input from one terminal, found in the notebook's /proc."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.linux.procfs import descendants, status

if TYPE_CHECKING:
    from collections.abc import Iterator

_TTY = os.makedev(5, 0)


@dataclass(frozen=True)
class _Calls:
    """Numbers of the system calls that wait for input (syscalls(2))."""

    read: frozenset[int]
    splice: frozenset[int]
    sendfile: frozenset[int]
    poll: frozenset[int]
    select: frozenset[int]
    epoll: frozenset[int]


_CALLS = {
    # read, readv; splice; sendfile; poll, ppoll; select, pselect6; epoll_wait, epoll_pwait, epoll_pwait2
    "x86_64": _Calls(*map(frozenset, ((0, 19), (275,), (40,), (7, 271), (23, 270), (232, 281, 441)))),
    "aarch64": _Calls(*map(frozenset, ((63, 65), (76,), (71,), (73,), (72,), (22, 441)))),
}


class Wait(NamedTuple):
    """A thread that waits for input, after it gave up the processor for the `turns`th time.

    `copying` is whether it waits in sendfile(2) or splice(2). If it copies to a pipe, the kernel locks the pipe
    meanwhile, so that a process that reads the pipe waits too, and no signal ends that wait.
    """

    thread: int
    turns: int
    copying: bool


class Terminal:
    """The container's end of a terminal, recognized by its device and inode among the descriptors of a process."""

    def __init__(self, device: int, inode: int) -> None:
        self.identity = (device, inode)

    def is_open_as(self, pid: int, fd: int) -> bool:
        """Return whether a process has it open under that number, or as its controlling terminal (tty(4))."""
        try:
            facts = Path(f"/proc/{pid}/fd/{fd}").stat()
        except OSError:
            return False
        if not stat.S_ISCHR(facts.st_mode):
            return False
        return facts.st_rdev == _TTY or (facts.st_dev, facts.st_ino) == self.identity

    def waiting(self, init: int) -> Wait | None:
        """Return a thread below `init` that waits for input from this terminal only; None if there is none.

        The kernel reports the system call it waits in (/proc/PID/task/TID/syscall). An event loop with other sources
        counts only if it is an epoll(7) set, as in node, which has sources of its own. Raises `PermissionError` if no
        readable process waits and some processes cannot be read.
        """
        calls = _CALLS.get(platform.machine())
        if calls is None:
            return None
        denied: PermissionError | None = None
        for pid in descendants(init):
            for thread in _threads(pid):
                try:
                    found = self._wait_of(pid, thread, calls)
                except PermissionError as error:
                    denied = error
                except (OSError, ValueError, LookupError):
                    continue
                else:
                    if found is not None:
                        return found
        if denied is not None:
            raise denied
        return None

    def _wait_of(self, pid: int, thread: int, calls: _Calls) -> Wait | None:
        words = Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()
        if not words[0].isdecimal():
            return None  # it is running or stopped
        number, arguments = int(words[0]), [int(word, 16) for word in words[1:]]
        if not self._waits(pid, calls, number, arguments):
            return None
        return Wait(thread, _turns(pid, thread), number in calls.splice | calls.sendfile)

    def _waits(self, pid: int, calls: _Calls, number: int, arguments: list[int]) -> bool:
        if number in calls.read | calls.splice:
            return self.is_open_as(pid, arguments[0])
        if number in calls.sendfile:
            return self.is_open_as(pid, arguments[1])
        if number in calls.epoll:
            return any(self.is_open_as(pid, fd) for fd in _in_epoll(pid, arguments[0]))
        if number in calls.poll:
            watched = _in_poll(pid, arguments[0], arguments[1])
        elif number in calls.select:
            watched = _in_select(pid, arguments[0], arguments[1])
        else:
            return False
        return bool(watched) and all(self.is_open_as(pid, fd) for fd in watched)


def _threads(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from (int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())


def _turns(pid: int, thread: int) -> int:
    return int(status(pid, thread)["voluntary_ctxt_switches"])


def _memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:  # noqa: PTH123 - pread(2) on what no Path is
        return os.pread(file.fileno(), size, address)


def _in_poll(pid: int, address: int, count: int) -> list[int]:
    """Return the descriptors in an array for poll(2); none if there are more than 16: that is not a prompt."""
    if not 0 < count <= 16:
        return []
    return [fd for fd, _, _ in struct.iter_unpack("ihh", _memory(pid, address, count * 8)) if fd >= 0]


def _in_select(pid: int, count: int, address: int) -> list[int]:
    """Return the descriptors in the read set of select(2)."""
    if not address or not 0 < count <= 1024:
        return []
    bits = int.from_bytes(_memory(pid, address, (count + 63) // 64 * 8), "little")
    return [fd for fd in range(count) if bits >> fd & 1]


def _in_epoll(pid: int, fd: int) -> list[int]:
    """Return the descriptors in an epoll(7) set (proc_pid_fdinfo(5))."""
    lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("tfd:")]
