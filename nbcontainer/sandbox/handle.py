"""The notebook's handle on one container: init's socket, its pidfd, and what init has sent."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from typing import TYPE_CHECKING, Any, Self

from nbcontainer.outcome import Reason
from nbcontainer.sandbox import plan, protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nbcontainer.sandbox.steps.base import Plan

SIGNALLED = "it got a signal from outside"


class ContainerHandle:
    """One init: first a spare that waits for the rest of its plan, then a container.

    `pid` is init's host pid. `pidfd` becomes readable when init is dead, and with it every process, mount and namespace
    of the container (the kernel's do_exit releases them first). `helper` is a pidfd of the program that carries the
    container's network, `terminal` the controlling end of its terminal, `control_directory` a descriptor of that
    directory and of its terminal, `display` one of the directory of a program that shows data, `values` are those that
    init has sent for `/in` and `/out` (`MountValues`). If it was asked for, `explained` is the part of what init called
    that was not handed on, and `sent` the time at which its plan was sent (CLOCK_MONOTONIC, ns). `joined` are
    sockets, by the numbers of more processes in the container, that get the messages about them. If other processes
    can join, `began` is whether the program runs, and `network_namespace` a descriptor of that which init began with.
    `joined_network` is the one of another container that it has in place of it: which one, and a descriptor.

    `lost` is why a process has ended of whose end init has said nothing, and `grace` how many seconds it had to end.

    The caller closes the handle, which is also a context manager. Closing it ends a spare; a container runs on,
    and `kill` ends it.
    """

    lost = Reason.KILLED
    grace = 0.0

    def __init__(self, channel: socket.socket, pid: int, pidfd: int) -> None:
        self.channel = channel
        self.pid = pid
        self.pidfd = pidfd
        self.helper: int | None = None
        self.terminal: int | None = None
        self.control_directory: tuple[int, int] | None = None
        self.values: list[int] | None = None
        self.display: int | None = None
        self.joined: dict[int, socket.socket] = {}
        self.progress = 0
        self.began = False
        self.network_namespace: int | None = None
        self.joined_network: tuple[str, int] | None = None
        self.explained: str | None = None
        self.sent = 0
        self.ended: dict[str, Any] | None = None
        self.failed: dict[str, Any] | None = None
        self.answer: dict[str, Any] | None = None
        self.killed_at: float | None = None
        """When `kill` was called first (time.monotonic()); None before."""
        self.touched = ""
        """What acted on the cell from outside, for the result of a cached one: empty if nothing did."""
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the handle is closed: its descriptors may be others'."""
        return self._closed

    @property
    def is_alone(self) -> bool:
        """Whether init has reported that it has reaped all other processes of the container."""
        return self.ended is not None and not self.ended.get("left")

    def failed_ahead(self) -> bool:
        """Return whether this is a spare of which a step has failed. The launcher keeps no such interpreted one."""
        return False

    def begin(
        self,
        todo: Plan,
        done: int,
        files: Sequence[int],
        *,
        explain: bool = False,
        joinable: bool = False,
        limit: float | None = None,
    ) -> None:
        """Send a spare the rest of its plan, with copies of `files` (0, 1 and 2 are the cell's streams).

        The spare has applied the first `done` steps already. With `explain`, init sends its calls when the cell has
        begun. If it is `joinable`, init says that the cell has begun, and starts more processes in the container
        (`nbcontainer.sandbox.joined`). `limit` is the cell's time limit in seconds, which init applies if the notebook
        cannot. Raises `OSError`.
        """
        made = todo.encoded.get(done)
        if made is not None and limit is None and not explain and not joinable:
            protocol.send_encoded(self.channel, made, files)
            return
        message = plan.rest(todo, done)
        if limit is not None:
            message["limit"] = limit
        if explain:
            message["explain"] = True
            self.sent = time.monotonic_ns()
        if joinable:
            message["joinable"] = True
        protocol.send(self.channel, message, files)

    def network(self) -> int:
        """Return a descriptor of a spare's network namespace; the caller closes it. Raises `OSError`."""
        protocol.send(self.channel, {"network": True})
        files: list[int] = []
        message = protocol.receive(self.channel, files)
        if message is None or len(files) != 1:
            protocol.close(files)
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return files[0]

    def read(self) -> bool:
        """Read one message; return False at the end. Raises `OSError` for what `protocol.send` did not write."""
        files: list[int] = []
        message = protocol.receive(self.channel, files)
        if message is None:
            return False
        if "join" in message:
            self._pass_on(message, files)
        elif files:
            self._take_files(message, files)
        else:
            self._take(message)
        protocol.close(files)
        return True

    def _take(self, message: dict[str, Any]) -> None:
        """Keep what a message without descriptors says."""
        if "progress" in message:
            self.progress = int(message["progress"])
        elif "values" in message and self.values is None:
            self.values = []
        elif "explained" in message:
            self.explained = str(message["explained"])
        elif "began" in message:
            self.began = True
        elif "answer" in message:
            self.answer = message["answer"]
        elif "failed" in message:
            self.failed = message["failed"]
        elif "ended" in message:
            self.ended = message

    def _pass_on(self, message: dict[str, Any], files: list[int]) -> None:
        """Pass a message on to the socket of the process that it is about (`nbcontainer.sandbox.joined`)."""
        found = self.joined.get(message.pop("join"))
        if found is not None:
            with contextlib.suppress(OSError):  # nothing waits for it any more
                protocol.send(found, message, files)

    def _take_files(self, message: dict[str, Any], files: list[int]) -> None:
        """Take over the descriptors of a message that this handle expects; the others stay in `files`."""
        if "terminal" in message:
            self.terminal = files.pop()
        elif "began" in message:
            self.began, self.network_namespace = True, files.pop()
        elif "control_directory" in message and len(files) == 2:
            self.control_directory = (files[0], files[1])
            files.clear()
        elif "display" in message and self.display is None:
            self.display = files.pop()
        elif "values" in message and self.values is None:
            self.values = files[:]
            files.clear()

    def go_on(self) -> None:
        """Let init continue after it has sent `values`. A dead init is ignored."""
        with contextlib.suppress(OSError):
            protocol.send(self.channel, {"written": True})

    def signal(self, number: int) -> None:
        """Send init a signal, which it forwards to the cell; SIGKILL ends the container. A dead init is ignored."""
        self.touched = SIGNALLED
        if not self._closed:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.Signals(number))

    def note_end(self, reason: Reason, grace: float = 0.0) -> None:
        """Note why this process is about to kill the container: its outcome says so. The first reason holds."""
        if self.lost is Reason.KILLED:
            self.lost, self.grace = reason, grace

    def kill(self) -> None:
        """Kill every process of the container: they end with pid 1 (pid_namespaces(7))."""
        self.killed_at = time.monotonic() if self.killed_at is None else self.killed_at
        self.signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait until init is dead and its last messages are read, and until the helper has released its ports."""
        with contextlib.suppress(OSError):
            while self.read():
                pass
        if not self._closed:
            wait_readable(self.pidfd)
        if self.helper is not None:
            wait_readable(self.helper)

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self.channel.close()
        while self.joined:
            self.joined.popitem()[1].close()
        joined = None if self.joined_network is None else self.joined_network[1]
        single = (self.helper, self.terminal, self.display, self.network_namespace, joined)
        more = (fd for fd in single if fd is not None)
        protocol.close((self.pidfd, *more, *(self.control_directory or ()), *(self.values or ())))
        self.helper = self.terminal = self.control_directory = self.values = self.display = None
        self.network_namespace = self.joined_network = None


def wait_readable(fd: int) -> None:
    """Block until `fd` is readable. Uses poll(2), since select(2) takes no descriptor above 1023."""
    readable(fd, None)


def readable(fd: int, patience: float | None = 0) -> bool:
    """Return whether `fd` becomes readable within `patience` milliseconds. With None, wait until it does."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(patience))
