"""Locks on files: the lock of a whole store, attempts to lock a single file, and locks that only show something."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Wait = Callable[[], Callable[[], None] | None]
"""Called before a wait; what it returns is called meanwhile, and may end the wait by an error."""


_FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, pid
_TURN = 0.02  # seconds between two attempts of a wait that can be ended


_kept: set[int] = set()
"""The descriptors by which this process holds locks. A lock is of an open file description, which a fork(2) shares."""


def keep(fd: int) -> int:
    """Note that this process holds, or is about to take, the lock of a descriptor (flock(2)); return the descriptor.

    A child by fork(2) closes it at once: else it would hold the lock after this process has ended. `release` it.
    """
    _kept.add(fd)
    return fd


def release(fd: int) -> None:
    """Unlock and close a kept descriptor: a child may have it open still. In a child by fork(2) it is closed."""
    if fd not in _kept:
        return
    _kept.discard(fd)
    try:
        with contextlib.suppress(OSError):  # the last close(2) does it, too
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _drop_parents() -> None:
    for fd in _kept:
        with contextlib.suppress(OSError):
            os.close(fd)
    _kept.clear()


os.register_at_fork(after_in_child=_drop_parents)


class StoreLock:
    """The lock of one store, on the file `path` (host). Thread-safe.

    Processes and threads that use names of images hold it shared, those that add or remove names hold it exclusively.
    The kernel releases it when the process ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = threading.local()

    @contextlib.contextmanager
    def hold(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the lock inside the `with` block. Waits until it is free.

        A thread that holds it exclusively can take it again. A thread that holds it shared must not take it again
        exclusively: it would wait for itself. Raises `OSError`.
        """
        if getattr(self._held, "exclusive", False):
            yield
            return
        fd = keep(open_lock(self._path))
        try:
            fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            self._held.exclusive = not shared
            yield
        finally:
            self._held.exclusive = False
            release(fd)


class Presence:
    """How often this process does something now, and whether others do it, too. Thread-safe.

    Each process that does it has the file `path` (host) open, with a read lock of its open file description
    (F_OFD_SETLK, Linux 3.15): the kernel releases that when the process ends. A child by fork(2) is another process.
    """

    def __init__(self, path: Path) -> None:
        """The file is made when it is first needed."""
        self._path = path
        self._lock = threading.Lock()
        self._number = 0
        self._fd = -1
        self._pid = os.getpid()

    def begin(self) -> None:
        """Do it once more: others see it when this returns. Raises `OSError`."""
        with self._lock:
            self._notice_fork()
            if self._number:
                self._number += 1
                return
            fd = self._open()
            try:
                _lock_description(fd, fcntl.F_RDLCK)
                self._fd, self._number = fd, 1
            except BaseException:
                os.close(fd)
                raise

    def end(self) -> None:
        """Do it once less."""
        with self._lock:
            self._notice_fork()
            if self._number == 1:
                self._close()
            self._number = max(0, self._number - 1)  # it may have been closed, or begun before a fork(2)

    def has_other(self) -> bool:
        """Return whether it is done more than once, in this process or in any; true if that cannot be known."""
        with self._lock:
            self._notice_fork()
            if self._number > 1:
                return True
            try:
                fd = self._open() if self._fd < 0 else self._fd
                try:
                    found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0))
                finally:
                    if fd != self._fd:
                        os.close(fd)
            except OSError:
                return True
            return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """Do it no more. Idempotent."""
        with self._lock:
            self._close()
            self._number = 0

    def _notice_fork(self) -> None:
        """Begin anew in a child: it has the parent's description, and none of what the parent does."""
        if self._pid != os.getpid():
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)  # the lock of the description is the parent's
            self._pid, self._number = os.getpid(), 0

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                _lock_description(fd, fcntl.F_UNLCK)  # a child by fork(2) can have the description open still
            finally:
                os.close(fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock_description(fd: int, kind: int) -> None:
    """Set the lock of an open file description. Raises `OSError`; none waits for it, since all are read locks."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, 0, 0, 0))


def open_lock(path: Path | str) -> int:
    """Open a file to lock it; to read only on a read-only file system: flock(2) takes both. Raises `OSError`."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def try_lock(fd: int) -> bool:
    """Lock the file of `fd` exclusively and return True, or return False if another descriptor has it locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_in_place(path: Path | str, wait: Wait | None = None) -> int:
    """Lock the file at `path` (host) exclusively; return its descriptor, which the caller gives to `release`.

    A file that was renamed or removed before this had the lock is released, and the one at the path is locked. If
    another descriptor has it locked, `wait` is called once, and this waits; without `wait`, that is a
    `BlockingIOError`. If `wait` returns a function, that is called again and again meanwhile, and ends the wait by an
    error. Raises `OSError`.
    """
    check = None
    while True:
        fd = keep(open_lock(path))
        try:
            if not try_lock(fd):
                if wait is None:
                    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path))
                check, wait = wait() or check, _nothing
                _wait_for(fd, check)
            if _is_at(path, fd):
                return fd
        except BaseException:
            release(fd)
            raise
        release(fd)


def _wait_for(fd: int, check: Callable[[], None] | None) -> None:
    if check is None:
        fcntl.flock(fd, fcntl.LOCK_EX)
        return
    while not try_lock(fd):
        check()
        time.sleep(_TURN)


def _nothing() -> None:
    pass


def _is_at(path: Path | str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return False
