"""A watch over a process that joins a container: another process of the container can lock its pipes, or stop it.

A process that waits in sendfile(2), splice(2), tee(2) or vmsplice(2) locks the pipe that it writes to. A thread that
reads or closes that pipe waits uninterruptibly (`nbcontainer.sandbox.launcher.notebook_watch`). The end of a process
that joined ends no other process of its container, so it frees no lock.

Init waits for a process that it starts until that is the program (vfork(2)). One that is stopped before blocks init,
and with it the signals that are to end the process: no signal of the container continues what another one stops again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nbcontainer.linux.procfs import descendants
from nbcontainer.sandbox.handle import readable
from nbcontainer.sandbox.launcher.notebook_watch import Notebook, state_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.sandbox.handle import ContainerHandle

INTERVAL = 0.25
"""Seconds between two looks at the thread. A process that ends sooner causes none."""

PATIENCE = 3.0
"""Seconds until the whole container is ended: since the first look that finds the thread waiting for a lock, or that
finds init blocked after it was asked to kill the process."""

_WAITS = re.compile(rb"^State:\s+D", re.MULTILINE)

_WRITES = {
    "x86_64": {275: 2, 40: 0, 276: 1, 278: 0},
    "aarch64": {76: 2, 71: 0, 77: 1, 75: 0},
}
"""For splice, sendfile, tee and vmsplice (syscalls(2)): which argument is the descriptor that it writes to."""


class JoinWatch:
    """Watches the thread that makes it, in another thread, from `__enter__` to `__exit__`.

    If the thread waits for a pipe whose process has ended, or has an interrupt that it cannot take, the processes that
    lock the pipe are killed. If that does not help, or init is blocked when it is to kill the process, `end` is called,
    which is to end the container.
    """

    def __init__(
        self,
        joined: ContainerHandle,
        pipes: Iterable[int],
        end: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the watch over the process of `joined`, whose messages come through that handle's channel."""
        self._joined = joined
        self._end = end
        self._now = now
        self._pipes = {_identity(os.fstat(fd)) for fd in pipes}
        self._status = Path(f"/proc/self/task/{threading.get_native_id()}/status")
        self._init_status = Path(f"/proc/{joined.pid}/status")
        self._over = threading.Event()
        self._since: float | None = None
        self._init_since: float | None = None
        self.ended_container = False
        """Whether the container was ended."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="nbcontainer-join", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, signal.valid_signals()
        )  # an interrupt stays pending for the other thread
        while not self._over.wait(INTERVAL):
            with contextlib.suppress(OSError):
                self._look()

    def _look(self) -> None:
        """Free the pipe from the second look on that finds the thread waiting, and end the container at a late one."""
        now = self._now()
        if self._init_is_blocked():
            self._init_since = now if self._init_since is None else self._init_since
        else:
            self._init_since = None
        if self._init_since is not None and now - self._init_since >= PATIENCE:
            self._end_container()
        elif not self._is_blocked():
            self._since = self._since if self._has_ended() else None
        elif self._since is None:
            self._since = now
        elif now - self._since < PATIENCE:
            self._free()
        else:
            self._end_container()

    def _end_container(self) -> None:
        if not self.ended_container:
            self.ended_container = True
            self._end()

    def _init_is_blocked(self) -> bool:
        """Return whether the process was to be killed, and init, which does that, waits in the kernel.

        A process may take long to die, on a slow disk for example. That does not block init.
        """
        if self._joined.killed_at is None or self._has_ended():
            return False
        try:
            return bool(_WAITS.search(self._init_status.read_bytes()))
        except OSError:  # this user does not see it (hidepid in proc(5)), or it has just ended
            return True

    def _is_blocked(self) -> bool:
        """Return whether the thread waits in the kernel, and nothing but the lock can end the wait."""
        status = self._status.read_bytes()
        return state_in(status) is Notebook.INTERRUPTED or (bool(_WAITS.search(status)) and self._has_ended())

    def _has_ended(self) -> bool:
        """Return whether the joined process has ended; the message that says so may not have been read."""
        if self._joined.ended is not None or self._joined.failed is not None:
            return True
        channel = self._joined.channel.fileno()
        return channel < 0 or readable(channel)

    def _free(self) -> None:
        """Kill the processes of the container that write to one of the pipes in a system call that locks it."""
        for pid in descendants(self._joined.pid):
            with contextlib.suppress(OSError):
                self._free_from(pid)

    def _free_from(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        try:
            if any(fact in self._pipes for fact in _locked_by(pid)):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def _locked_by(pid: int) -> Iterator[tuple[int, int]]:
    """Yield the identities of the files that the threads of a process write to in a call that locks a pipe."""
    calls = _WRITES.get(platform.machine(), {})
    for task in Path(f"/proc/{pid}/task").iterdir():
        words = (task / "syscall").read_text().split()
        if words[0].isdecimal() and (argument := calls.get(int(words[0]))) is not None:
            yield _identity((task / "fd" / str(int(words[1 + argument], 16))).stat())


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino
