"""The input of a cell from a descriptor of the caller: it goes through a pipe, as the cell takes it.

A container that had the caller's own descriptor could open the file behind it for writing (/proc/self/fd/0), change the
mode of that file (fchmod(2)), and read a terminal or write to it after the cell has ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select

from nbcontainer.errors import SandboxError
from nbcontainer.linux.pipes import output_pipe

_CHUNK = 1 << 16


def feed_of(source: int) -> Feed | None:
    """Return what feeds a cell from `source`; None for a sealed memory file, which the container may have itself."""
    try:
        sealed = fcntl.fcntl(source, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    except OSError:  # not a memory file: EINVAL
        sealed = 0
    return None if sealed else Feed(source)


class Feed:
    """Passes on what `source` reads. The thread that supervises the cell calls everything from `connect` on.

    The container gets `reader`, which the caller closes, and the caller closes `source`, too. `writer` is the pipe's
    other end, None when the input has ended; `close` closes it.
    """

    def __init__(self, source: int) -> None:
        self.source = source
        self.reader, writer = output_pipe()
        os.set_blocking(writer, False)
        self.writer: int | None = writer
        self._poll: select.poll | None = None
        self._polled: set[int] = set()
        self._waiting = b""

    def connect(self, poll: select.poll) -> None:
        """Wait for input, and for the end of all readers, by `poll`."""
        self._poll = poll
        self._wait()

    def take(self, fd: int) -> bool:
        """Handle an event of a descriptor; return False if it is not one of these. Raises `SandboxError`."""
        if self.writer is None or fd not in (self.source, self.writer):
            return False
        try:
            if fd == self.source:
                self._read()
            elif self._waiting:
                self._write()
            else:  # it is polled for the end of all readers alone
                self.close()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # nothing in the container reads it any more
            self.close()
        self._wait()
        return True

    def _read(self) -> None:
        try:
            self._waiting = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO or not os.isatty(self.source):  # a terminal that was hung up is at its end
                problem = f"cannot read the standard input: {error.strerror}"
                raise SandboxError(problem, hint="the cell was ended: run it again with another input") from error
        if self._waiting:
            self._write()
        else:
            self.close()

    def _write(self) -> None:
        assert self.writer is not None
        self._waiting = self._waiting[os.write(self.writer, self._waiting) :]

    def _wait(self) -> None:
        """Poll the source, or the pipe while it has not taken what was read."""
        if self._poll is None or self.writer is None:
            return
        wanted = {self.writer: select.POLLOUT} if self._waiting else {self.source: select.POLLIN, self.writer: 0}
        for fd in self._polled - set(wanted):
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            self._poll.register(fd, events)
        self._polled = set(wanted)

    def close(self) -> None:
        """End the input. Idempotent."""
        writer, self.writer = self.writer, None
        if self._poll is not None:
            for fd in self._polled:
                self._poll.unregister(fd)
            self._polled = set()
        if writer is not None:
            os.close(writer)
