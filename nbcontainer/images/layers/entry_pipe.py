"""Entries in a pipe, from the process that reads an archive to the one that makes the files.

The data of files goes through the pipe too, unless the archive is stored uncompressed: then it is read from the stored
file, so that the sender can be far ahead, and the kernel copies the data once.
"""

from __future__ import annotations

import marshal
import os
import struct
from typing import TYPE_CHECKING, Any

from nbcontainer.images.layers.tar_reader import Member

if TYPE_CHECKING:
    from collections.abc import Callable

IN_PIPE = -1
"""In place of an offset: the data follows the entry through the pipe."""

_LENGTH = struct.Struct("=I")
_PARTS_MAX = 1024  # IOV_MAX
_WAITING = 256 << 10  # bytes gathered for one system call
_BUFFER = 256 << 10
_SPLICED = 64 << 10  # bytes; from here on data goes from the pipe to a file without being copied here


class Sender:
    """The end that writes. The caller closes `fd`. All methods raise `OSError`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[bytes | memoryview] = []
        self._waiting = 0

    def entry(self, member: Member, offset: int) -> None:
        """Send an entry. Its `size` bytes of data are in the stored file at `offset`, or are sent next (`IN_PIPE`)."""
        fields = (
            member.name,
            member.type,
            member.mode,
            member.uid,
            member.gid,
            member.size,
            member.mtime,
            member.link,
            member.real_size,
            member.device,
            member.xattrs,
            member.sparse,
        )
        self._frame((offset, fields))

    def data(self, data: bytes | memoryview) -> None:
        """Send data, which must not change until `flush`."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _WAITING or len(self._parts) == _PARTS_MAX:
            self.flush()

    def stored(self, end: int) -> None:
        """Send at once that the stored file is written up to offset `end`."""
        self._frame(end)
        self.flush()

    def flush(self) -> None:
        """Write the gathered data."""
        parts, self._parts = self._parts, []
        left, self._waiting = self._waiting, 0
        while left:
            written = os.writev(self._fd, parts)
            left -= written
            if left:
                parts = [memoryview(b"".join(parts))[written:]]

    def _frame(self, content: Any) -> None:
        frame = marshal.dumps(content)
        self.data(_LENGTH.pack(len(frame)) + frame)


class Receiver:
    """The end that reads. `store_fd` reads the stored file, if there is one.

    `at_end` is called when the sender has closed the pipe; it raises the error of the sender, if any.
    """

    def __init__(self, fd: int, store_fd: int | None, at_end: Callable[[], object]) -> None:
        self._fd = fd
        self._store_fd = -1 if store_fd is None else store_fd
        self._at_end = at_end
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._left = 0  # of the current entry's data
        self._offset = IN_PIPE
        self._stored = 0

    def next(self) -> Member | None:
        """Return the next entry, or None at the end. Unread data of the last one is skipped.

        Raises the error of the sender.
        """
        if self._left and self._offset == IN_PIPE:
            self._skip(self._left)
        while isinstance(found := self._frame(), int):
            self._stored = found
        if found is None:
            return None
        self._offset, fields = found
        member = Member(*fields)
        self._left = member.size
        return member

    def copy(self, fd: int, size: int) -> None:
        """Write the next `size` bytes of the current entry's data to `fd`. Raises as `next` does, and `OSError`."""
        self._left -= size
        while size:
            written = self._from_pipe(fd, size) if self._offset == IN_PIPE else self._from_store(fd, size)
            if not written:
                self._at_end()
                raise EOFError
            size -= written

    def _from_pipe(self, fd: int, size: int) -> int:
        if size >= _SPLICED and self._start == self._end:
            return os.splice(self._fd, fd, size)
        if not self._has(1):
            return 0
        written = os.write(fd, self._view[self._start : min(self._start + size, self._end)])
        self._start += written
        return written

    def _from_store(self, fd: int, size: int) -> int:
        while self._stored <= self._offset:
            found = self._frame()
            if not isinstance(found, int):
                return 0
            self._stored = found
        written = os.sendfile(fd, self._store_fd, self._offset, min(size, self._stored - self._offset))
        self._offset += written
        return written

    def _frame(self) -> Any:
        """Return what was sent next: an entry's offset and fields, or the end of the stored file; None at the end."""
        if not self._has(_LENGTH.size):
            self._at_end()
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        self._start += _LENGTH.size
        if not self._has(length):
            self._at_end()
            return None
        end = self._start + length
        content = marshal.loads(self._view[self._start : end])
        self._start = end
        return content

    def _skip(self, size: int) -> None:
        while size and self._has(1):
            part = min(size, self._end - self._start)
            self._start += part
            size -= part

    def _has(self, size: int) -> bool:
        """Read until `size` bytes are in the buffer; return False if the pipe ends before."""
        left = self._end - self._start
        if left >= size:
            return True
        rest = bytes(self._view[self._start : self._end])
        if size > len(self._buffer):
            self._buffer = bytearray(size)
            self._view = memoryview(self._buffer)
        self._view[:left] = rest
        self._start, self._end = 0, left
        while self._end < size:
            got = os.readv(self._fd, [self._view[self._end :]])
            if not got:
                return False
            self._end += got
        return True
