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
from nbcontainer.linux.pipes import output_pipe, read_now
from nbcontainer.sandbox import protocol

_CHUNK = 1 << 16


def feed_of(source: int, taken: bytes = b"") -> Feed | None:
    """Return what feeds a cell from `source`; None for a sealed memory file, which the container may have itself.

    `taken` is what an attempt that failed has read from it.
    """
    return None if protocol.is_sealed(source) else Feed(source, taken)


class Feed:
    """Passes on what `source` reads. The thread that supervises the cell calls everything from `connect` on.

    The container gets `reader`, which the caller closes when it is sent; `source` is the caller's, too, until `close`.
    `writer` is the pipe's other end, None when the input has ended; `close` closes it.

    `taken` is all that the container was given or that waits for it: if its program has not begun, another container
    gets it first. It is empty if that was more than the pipe holds: then a program has read a part.
    """

    def __init__(self, source: int, taken: bytes = b"") -> None:
        self.source = source
        self.taken = bytearray(taken)
        self.reader, writer = output_pipe()
        os.set_blocking(writer, False)
        self.writer: int | None = writer
        self._most = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) + _CHUNK
        self._poll: select.poll | None = None
        self._waiting = taken

    def connect(self, poll: select.poll) -> None:
        """Wait for input, and for the end of all readers, by `poll`."""
        assert self.writer is not None
        self._poll = poll
        if self._waiting:
            poll.register(self.writer, select.POLLOUT)
        else:
            poll.register(self.source, select.POLLIN)
            poll.register(self.writer, 0)

    def take(self, fd: int) -> bool:
        """Handle an event of a descriptor; return False if it is not one of these. Raises `SandboxError`."""
        if self.writer is None or fd not in (self.source, self.writer):
            return False
        try:
            if fd == self.source:
                self._read(self.writer)
            elif self._waiting:
                self._write(self.writer)
            else:  # it is polled for the end of all readers alone
                self.close()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # nothing in the container reads it any more
            self.close()
        return True

    def _read(self, writer: int) -> None:
        """Read what is there, and not again until the pipe has taken that. Raises `BlockingIOError` if nothing is."""
        assert self._poll is not None
        try:
            self._waiting = read_now(self.source, _CHUNK)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno != errno.EIO or not os.isatty(self.source):  # a terminal that was hung up is at its end
                problem = f"cannot read the standard input: {error.strerror}"
                raise SandboxError(problem, hint="the cell was ended: run it again with another input") from error
        if not self._waiting:
            self.close()
            return
        if self._most:
            self.taken += self._waiting
            if len(self.taken) > self._most:
                self._most = 0
                self.taken.clear()
        self._poll.unregister(self.source)
        self._poll.modify(writer, select.POLLOUT)
        self._write(writer)

    def _write(self, writer: int) -> None:
        assert self._poll is not None
        self._waiting = self._waiting[os.write(writer, self._waiting) :]
        if not self._waiting:
            self._poll.modify(writer, 0)
            self._poll.register(self.source, select.POLLIN)

    def close(self) -> None:
        """End the input. Idempotent."""
        writer, self.writer = self.writer, None
        if writer is None:
            return
        if self._poll is not None:
            self._poll.unregister(writer)
            if not self._waiting:
                self._poll.unregister(self.source)
        os.close(writer)
