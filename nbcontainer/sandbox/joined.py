"""The notebook's handle on one more process in a running container."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import signal
from typing import TYPE_CHECKING, Any

from nbcontainer.outcome import Reason
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.sandbox.steps.program import CallFunction, Execute
    from nbcontainer.sandbox.steps.rights.user import SetUser

ENDED = (errno.EPIPE, errno.ECONNRESET, errno.EBADF, errno.ESRCH)
"""The errors of messages to a container whose init is dead, and whose handle may be closed."""

_GRACE = 2000.0
"""Milliseconds in which a copy may remove what it has not finished."""

_numbers = itertools.count(1)


class JoinedHandle(ContainerHandle):
    """A process that init has started in addition to the cell: the messages about it, and signals to it.

    `container` is the handle of its container, which another thread may read. `pidfd` is init's, so the process is dead
    if it is readable.
    """

    lost = Reason.CONTAINER_ENDED

    def __init__(self, container: ContainerHandle) -> None:
        """Join the container of a handle. Raises `OSError` if that is closed."""
        if container.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        pidfd = os.dup(container.pidfd)
        try:
            channel, self._theirs = protocol.pair()
        except OSError:
            os.close(pidfd)
            raise
        container.touched = "another command ran in its container"
        self.container = container
        self.number = next(_numbers)
        super().__init__(channel, container.pid, pidfd)
        container.joined[self.number] = self._theirs

    def start(
        self,
        execute: Execute,
        files: Sequence[int],
        script: str = "",
        *,
        user: SetUser | None = None,
        terminal: int = 0,
        limit: float | None = None,
    ) -> None:
        """Have init start the process, with copies of `files`: its streams, and the body of its script if it has one.

        `script` is the container path of that. `user` is another user than the container's. The first `terminal`
        streams are a new terminal. `limit` is in seconds; init applies it if the notebook cannot. Raises `OSError` if
        init has ended.
        """
        (step,) = plan.encode((execute,))
        other = None if user is None else plan.encode((user,))[0]
        self._send({"execute": step, "script": script, "user": other, "terminal": terminal, "limit": limit}, files)

    def call(self, step: CallFunction, files: Sequence[int]) -> None:
        """Have a copy of init call a function of this package; its answer is `answer`. Raises as `start`."""
        (encoded,) = plan.encode((step,))
        self._send({"call": encoded}, files)

    def _send(self, request: dict[str, Any], files: Sequence[int] = ()) -> None:
        protocol.send(self.container.channel, {"join": self.number, **request}, files)
        signal.pidfd_send_signal(self.pidfd, signal.SIGIO)  # init looks at its channel then

    def read(self) -> bool:
        """See `ContainerHandle.read`. A process that could not start has ended."""
        more = super().read()
        if self.failed is not None and self.ended is None:
            self.ended = {"ended": 127 << 8, "cpu": 0.0, "peak_memory": 0}
        return more

    def read_or_end(self) -> bool:
        """Read one message as `read` does, and wait for it no longer than init lives."""
        poll = select.poll()
        for fd in (self.channel.fileno(), self.pidfd):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        return self.channel.fileno() in ready and self.read()

    def signal(self, number: int) -> None:
        """Send a signal to the process's group. A dead init is ignored."""
        if self.ended is None and self.failed is None:
            with contextlib.suppress(OSError):
                self._send({"signal": int(number)})

    def wait(self) -> None:
        """Wait until the process has ended, or init."""
        with contextlib.suppress(OSError):
            while self.ended is None and self.failed is None and self.read_or_end():
                pass

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        self.container.joined.pop(self.number, None)
        self._theirs.close()
        super().close()


def end_copy(process: ContainerHandle) -> None:
    """End a process that copies files, and wait for it: it first removes what it has not finished, if it can.

    The container may have stopped it, with an end of the pipe of the copy.
    """
    try:
        process.signal(signal.SIGINT)
        readable(process.channel.fileno(), _GRACE)
    finally:
        process.kill()
        process.wait()
