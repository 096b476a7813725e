"""The sockets of a kernel in a container, for the frontends outside.

The kernel makes its sockets in a directory that it shares with this process. In the place of a socket it could put a
link to any socket of the host, and a frontend that connects to the path would connect to that one. So frontends use
another directory, which no container sees: it has a link to the descriptor of each socket. A descriptor is opened
without following a link, and only a socket of that directory is taken (openat2(2)).
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from typing import TYPE_CHECKING

from nbcontainer.linux import inotify
from nbcontainer.linux.files import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

if TYPE_CHECKING:
    from collections.abc import Iterable

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
_PAUSE = 0.02  # seconds between rounds: a container that makes files without an end must not keep a processor busy
_EVENTS = 1 << 16  # bytes of events that are read at once


class KernelSockets:
    """Links in the directory `outside` to the sockets `names` of the directory `shared` (both host), while it is open.

    The links are made in a thread, as the kernel makes its sockets. They are links into /proc of this process, so they
    work as long as it lives, for programs of the same user (proc_pid_fd(5)).
    """

    def __init__(self, shared: str, outside: str, names: Iterable[str]) -> None:
        """Begin. Raises `OSError`. What a kernel before left at these names is removed."""
        self._names = tuple(names)
        self._sockets: dict[str, tuple[int, tuple[int, int]]] = {}
        with contextlib.ExitStack() as stack:
            self._shared = _opened(shared, stack)
            self._outside = _opened(outside, stack)
            for name in self._names:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._shared)
            self._events = inotify.watch(self._shared, inotify.CREATED | inotify.MOVED_TO)
            stack.callback(os.close, self._events)
            self._end = os.eventfd(0, os.EFD_CLOEXEC)
            stack.callback(os.close, self._end)
            self._stack = stack.pop_all()
        self._thread = threading.Thread(target=self._follow, name="nbcontainer-sockets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove the links and close the sockets' descriptors. Idempotent."""
        if self._thread.is_alive():
            os.eventfd_write(self._end, 1)
            self._thread.join()
        for name, (fd, _) in self._sockets.items():
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._outside)
            os.close(fd)
        self._sockets.clear()
        self._stack.close()

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._events, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while True:
            for name in self._names:
                self._link(name)
            if any(fd == self._end for fd, _ in poll.poll()):
                return
            time.sleep(_PAUSE)
            with contextlib.suppress(BlockingIOError):
                os.read(self._events, _EVENTS)

    def _link(self, name: str) -> None:
        """Make the link to a socket if there is a new one of that name. Anything else is left alone."""
        with contextlib.suppress(OSError):
            fd = openat2(self._shared, name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, resolve=_RESOLVE)
            facts = os.fstat(fd)
            identity = facts.st_dev, facts.st_ino
            before = self._sockets.get(name)
            if not stat.S_ISSOCK(facts.st_mode) or (before and before[1] == identity):
                os.close(fd)
                return
            try:
                with contextlib.suppress(FileNotFoundError):  # of an attempt that failed
                    os.unlink(f"{name}.new", dir_fd=self._outside)
                os.symlink(f"/proc/{os.getpid()}/fd/{fd}", f"{name}.new", dir_fd=self._outside)
                os.replace(f"{name}.new", name, src_dir_fd=self._outside, dst_dir_fd=self._outside)
            except OSError:
                os.close(fd)
                raise
            self._sockets[name] = fd, identity
            if before:
                os.close(before[0])


def _opened(path: str, stack: contextlib.ExitStack) -> int:
    fd = os.open(path, _FOLDER)
    stack.callback(os.close, fd)
    return fd
