"""Ending runs from the notebook that asked for them: by a stop that all of them share, and by a socket that closes.

A notebook listens on an abstract socket (unix(7)). Each worker process of the same machine connects to it once, and
reads it. When the notebook closes the socket, or ends in any way, the worker's runs end. Nothing is sent over it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import socket
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbcontainer.sandbox.handle import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEATH = 1000  # milliseconds between the end of a notebook's sockets and its own, at most

_BACKLOG = 4096  # somaxconn; connections are never accepted: the end of the listener resets them


class Stoppable(Protocol):
    """A run: `nbcontainer.runs.calls.Call`."""

    def stop(self, *, gently: bool = True) -> None:
        """End it."""


class Runs:
    """Runs that end together. Thread-safe. `stopped` says whether they have been ended: a later one ends at once."""

    def __init__(self) -> None:
        self._runs: set[Stoppable] = set()
        self._lock = threading.Lock()
        self.stopped = False

    @contextlib.contextmanager
    def holding(self, run: Stoppable) -> Iterator[None]:
        """Count a run among these while the block lasts."""
        with self._lock:
            self._runs.add(run)
            stopped = self.stopped
        if stopped:
            run.stop(gently=False)
        try:
            yield
        finally:
            with self._lock:
                self._runs.discard(run)

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            self.stopped = True
            runs = list(self._runs)
        for run in runs:
            run.stop(gently=False)


class Lifeline:
    """The notebook's end: `name` is for the workers of this machine. The caller closes it.

    A fork(2) of the notebook closes its copy, which would keep the socket open after the notebook's end.
    """

    def __init__(self) -> None:
        self.name = f"nbcontainer-map-{secrets.token_hex(16)}-{_here()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.bind(f"\0{self.name}")
        self._socket.listen(_BACKLOG)
        _OPEN.add(self)

    def close(self) -> None:
        """End the runs of all workers that hold it. Idempotent."""
        self._socket.close()


_OPEN: weakref.WeakSet[Lifeline] = weakref.WeakSet()


def _close_copies() -> None:
    for lifeline in list(_OPEN):
        lifeline.close()


os.register_at_fork(after_in_child=_close_copies)


class Lifelines:
    """A worker's ends, one for each notebook. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, Runs] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def runs(self, name: str) -> Runs:
        """Return the runs of the notebook with this lifeline; they end when it closes, and at once if it is closed.

        On another machine, or in another network namespace, that socket is missing: nothing ends them from here.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._known, self._pid = {}, os.getpid()
            if (known := self._known.get(name)) is not None:
                return known
            found = Runs()
            if name.endswith(_here()):
                with contextlib.ExitStack() as stack:
                    connection = stack.enter_context(
                        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                    )
                    owner = stack.enter_context(contextlib.closing(Owner()))
                    work = functools.partial(self._watch, name, found, connection, owner)
                    threading.Thread(target=work, name="nbcontainer-lifeline", daemon=True).start()
                    stack.pop_all()
            self._known[name] = found
            return found

    def _watch(self, name: str, runs: Runs, connection: socket.socket, owner: Owner) -> None:
        with connection, contextlib.suppress(OSError):
            connection.connect(f"\0{name}")
            connection.recv(1)
        runs.stop()
        with self._lock:
            self._known.pop(name, None)
        with contextlib.closing(owner):
            if owner.dies():
                _end_orphan()


def _here() -> str:
    """Return a name of this machine since its start, and of its network namespace: sockets reach no further."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{Path('/proc/self/ns/net').stat().st_ino}"


class Owner:
    """The process whose process pool this process belongs to, if it belongs to one. Make it while that runs.

    It is the process that made the pool, which is the parent only with `fork` and `spawn`: with `forkserver`, that is
    the server. The caller closes it.
    """

    def __init__(self) -> None:
        import multiprocessing

        parent = multiprocessing.parent_process()
        self._pidfd = -1
        self._dead = False
        if parent is not None and parent.pid is not None:
            try:
                self._pidfd = os.pidfd_open(parent.pid)
            except ProcessLookupError:
                self._dead = True

    def dies(self) -> bool:
        """Return whether it is dead, or dies now: its sockets close before it is (do_exit in kernel/exit.c)."""
        return self._dead or (self._pidfd >= 0 and readable(self._pidfd, _DEATH))

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1


def _end_orphan() -> None:
    """End this process, which is a process pool's whose owner is dead: nothing reaches it any more.

    The processes of `concurrent.futures.ProcessPoolExecutor` wait for ever then, since each holds the other end of
    their queue.
    """
    from nbcontainer.containers.engine import close_default_engine

    close_default_engine()
    os._exit(1)
