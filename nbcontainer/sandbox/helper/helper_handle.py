"""The notebook's handle on a container whose init is the compiled helper."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from nbcontainer.linux.procfs import unreached_in
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable
from nbcontainer.sandbox.helper import helper_server, operations

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nbcontainer.sandbox.helper.remote_init import RemoteInit
    from nbcontainer.sandbox.steps.base import Plan


class HelperHandle(ContainerHandle):
    """See `ContainerHandle`. `remote` has the steps of this init; its first batch was sent with its order.

    `likely` is the plan that it will probably run, None if that is not known.
    """

    def __init__(
        self, channel: socket.socket, pid: int, pidfd: int, remote: RemoteInit, likely: Plan | None = None
    ) -> None:
        super().__init__(channel, pid, pidfd)
        self._remote = remote
        self._likely = likely
        self.failed = remote.failed

    def wake(self) -> None:
        """Wake the spare: the rest of its plan comes soon. A dead init is ignored."""
        with contextlib.suppress(OSError):
            helper_server.send(self.channel, operations.batch(0, b""))

    def settle(self, *, wait: bool) -> None:
        """Answer the reports of a spare until it has done what it was ordered to do; without `wait`, those that came.

        Raises `ConnectionError` if it has ended.
        """
        while not self._remote.settled and self.failed is None and (wait or readable(self.channel.fileno())):
            if not self.read():
                raise ConnectionResetError("init has ended")

    def expect(self, done: int) -> None:
        """Make the message that `begin` will probably send; `done` steps of the plan have been applied."""
        if self._likely is not None and self._remote.settled and self.failed is None:
            self._remote.expect(*self._likely.rest(done))

    def failed_ahead(self) -> bool:
        """See `ContainerHandle.failed_ahead`. Waits until init has done its steps, or has ended."""
        with contextlib.suppress(OSError):  # it has ended: `begin` reports that
            self.settle(wait=True)
        return self.failed is not None

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
        """See `ContainerHandle.begin`. It explains nothing, and no process joins."""
        assert not explain
        assert not joinable
        self.settle(wait=True)
        if self.failed is not None:
            return
        self._send(self._remote.start(*todo.rest(done), files, limit), files)

    def _send(self, packet: bytes | None, files: Sequence[int] = ()) -> None:
        """Send the next batch, or take note of a failure, which ends init."""
        self.failed = self._remote.failed
        if self.failed is not None:
            self.kill()
        elif packet is not None:
            helper_server.send(self.channel, packet, files)

    def read(self) -> bool:
        """See `ContainerHandle.read`."""
        packet, files = helper_server.receive(self.channel)
        try:
            if not packet:
                return False
            message = operations.read_message(packet)
            if isinstance(message, operations.Report):
                with contextlib.suppress(ConnectionError):  # it has been killed: its end is what comes next
                    self._send(self._remote.answer(message))
            elif isinstance(message, operations.Ended):
                self._end(message)
            elif self.display is None and files:
                self.display = files.pop()
            return True
        finally:
            protocol.close(files)

    def _end(self, message: operations.Ended) -> None:
        """Keep how the cell ended, as an interpreted init reports it."""
        killed = {"killed": message.killed} if message.killed else {}
        if message.left:
            killed["left"] = 1
        times = {"cpu": message.time / 1e6, "peak_memory": message.memory * 1024}
        self.ended = {**_unreached_in(message.counters), **killed, "ended": message.status, **times}


_unreached_in = functools.lru_cache(8)(unreached_in)
"""Most cells send nothing, and end with the same text."""
