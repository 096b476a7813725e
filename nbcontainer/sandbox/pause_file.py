"""The file of a container's pause: it is locked while the pause lasts, and names what was stopped by a signal.

The kernel ends most of a pause when the guard ends (`nbcontainer.sandbox.standstill`). What was stopped by SIGSTOP
stays stopped if the guard is killed: the next command finds it by this file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from typing import TYPE_CHECKING

from nbcontainer.linux.procfs import born_below, descendants, send_signal, state

if TYPE_CHECKING:
    from pathlib import Path


class PauseFile:
    """The file at `path` (host), open and locked. `take` makes one, `remove` ends it."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    @classmethod
    def take(cls, path: Path) -> PauseFile | None:
        """Make the file if it is not there, and lock it; return None while another process has it. Raises `OSError`."""
        while True:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            # The one before may have removed it between the two calls.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(fd).st_ino:
                    return cls(path, fd)
            os.close(fd)

    def note(self, pid: int, born: str) -> None:
        """Write down a process before it is stopped by a signal. Raises `OSError`."""
        os.write(self._fd, f"{pid} {born}\n".encode())

    def resume(self, init: int) -> None:
        """Continue what an earlier pause left stopped: the processes in the file, and all where all are stopped."""
        with open(self._fd, closefd=False) as file:
            noted = [line.split() for line in file]
        left = [(int(words[0]), words[1]) for words in noted if len(words) == 2]
        left += born_below(init).items() if all_stopped(init) else ()
        for pid, born in left:
            send_signal(pid, born, signal.SIGCONT)
        os.ftruncate(self._fd, 0)

    def remove(self) -> None:
        """Remove the file and its lock."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Give up the lock alone, as the end of a process does."""
        os.close(self._fd)


def all_stopped(init: int) -> bool:
    """Whether each process below `init` is stopped by a signal, and there is one.

    A version before this one left a container so when it was killed in a copy. One that stopped itself, to the last
    process, looks the same, and continues too: nothing in it could ever wake it.
    """
    states = {state(pid) for pid in descendants(init)}
    return "T" in states and states <= set("TZX")


def resume_left(init: int, path: Path) -> None:
    """Continue what a pause left stopped whose processes were killed; a pause that lasts is left alone.

    `path` is the pause's file. Raises `OSError`.
    """
    if not path.exists() and not all_stopped(init):
        return
    file = PauseFile.take(path)
    if file is not None:
        try:
            file.resume(init)
        finally:
            file.remove()
