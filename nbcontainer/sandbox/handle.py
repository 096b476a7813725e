"""The notebook's handle on one container: its init's socket, its pidfd, and what has come back over it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox import plan, protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nbcontainer.sandbox.steps.base import Plan


class ContainerHandle:
    """One init: first a spare that waits for the rest of its plan, then a container.

    `helper` is a pidfd of the program that carries its network, -1 for none.

    `pid` is init's, on the host; `pidfd` becomes readable when init is dead, and with it every process, mount and
    namespace of the container (the kernel's do_exit lets go of them before it tells). The caller closes it, being a
    context manager too: that ends a spare, and leaves a container running, which `kill` ends.
    """

    def __init__(self, channel: socket.socket, pid: int, pidfd: int) -> None:
        self.channel = channel
        self.pid = pid
        self.pidfd = pidfd
        self.helper = -1
        self.terminal = -1
        self.control_directory: tuple[int, ...] = ()
        self.progress = 0
        self.ended: dict[str, Any] | None = None
        self.failed: dict[str, Any] | None = None
        self.answer: dict[str, Any] | None = None

    def __enter__(self) -> ContainerHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, todo: Plan, done: int, files: Sequence[int]) -> None:
        """Sends a spare what is left of its plan, `done` steps of which it has behind it.

        With it go copies of `files` (0, 1 and 2 are the cell's streams).
        """
        done -= len(todo.prepare)
        setup, enter = todo.setup[done:], todo.enter[max(0, done - len(todo.setup)) :]
        protocol.send(self.channel, {"setup": plan.encode(setup), "enter": plan.encode(enter)}, files)

    def network(self) -> int:
        """A descriptor of a spare's network namespace; the caller closes it. Raises `OSError`."""
        protocol.send(self.channel, {"network": True})
        files: list[int] = []
        message = protocol.receive(self.channel, files)
        if message is None or len(files) != 1:
            protocol.close(files)
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return files[0]

    def read(self) -> bool:
        """Takes one message; False at the end. Raises `OSError` for what no init of ours would send."""
        files: list[int] = []
        message = protocol.receive(self.channel, files)
        if message is None:
            return False
        if "progress" in message:
            self.progress = int(message["progress"])
        elif "terminal" in message and files:
            self.terminal = files.pop()
        elif "control_directory" in message and len(files) == 2:
            self.control_directory = tuple(files)
            files.clear()
        elif "answer" in message:
            self.answer = message["answer"]
        elif "failed" in message:
            self.failed = message["failed"]
        elif "ended" in message:
            self.ended = message
        protocol.close(files)
        return True

    def signal(self, number: int) -> None:
        """Sends init a signal, which it hands on to the cell; SIGKILL ends the whole container. Dead is no error."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.Signals(number))

    def kill(self) -> None:
        """Ends every process of the container (pid_namespaces(7): they go with pid 1)."""
        self.signal(signal.SIGKILL)

    def wait(self) -> None:
        """Waits until init is dead and its last words are read, and until its helper has let go of its ports."""
        with contextlib.suppress(OSError):
            while self.read():
                pass
        for process in (self.pidfd, self.helper):
            if process >= 0:
                wait_readable(process)

    def close(self) -> None:
        """Closes the descriptors. Idempotent."""
        self.channel.close()
        protocol.close(fd for fd in (self.pidfd, self.helper, self.terminal, *self.control_directory) if fd >= 0)
        self.pidfd = self.helper = self.terminal = -1
        self.control_directory = ()


def wait_readable(fd: int) -> None:
    """Blocks until `fd` is readable. poll(2), since select(2) ends at descriptor 1023."""
    readable(fd, None)


def readable(fd: int, patience: float | None = 0) -> bool:
    """Whether `fd` is readable within `patience` milliseconds, or ever."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience))
