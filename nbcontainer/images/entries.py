"""Entries on their way through a pipe, from the process that reads an archive to the one that makes the files."""

from __future__ import annotations

import marshal
import os
import struct
from typing import TYPE_CHECKING

from nbcontainer.images.tar_reader import Member

if TYPE_CHECKING:
    from collections.abc import Callable

_LENGTH = struct.Struct("=I")
_PARTS_MAX = 1024  # IOV_MAX
_WAITING = 256 << 10  # bytes gathered for one system call
_BUFFER = 256 << 10
_SPLICED = 64 << 10  # bytes; from here on data goes from the pipe to a file without being copied here


class Sender:
    """The end that writes: each entry, then its `size` bytes of data. `fd` stays the caller's. Raises `OSError`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[bytes | memoryview] = []
        self._waiting = 0

    def entry(self, member: Member) -> None:
        """Sends an entry."""
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
        frame = marshal.dumps(fields)
        self.data(_LENGTH.pack(len(frame)) + frame)

    def data(self, data: bytes | memoryview) -> None:
        """Sends data, which must not change until `flush`."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _WAITING or len(self._parts) == _PARTS_MAX:
            self.flush()

    def flush(self) -> None:
        """Writes what was gathered."""
        parts, self._parts = self._parts, []
        left, self._waiting = self._waiting, 0
        while left:
            written = os.writev(self._fd, parts)
            left -= written
            if left:
                parts = [memoryview(b"".join(parts))[written:]]


class Receiver:
    """The end that reads. `at_end` is called when the other has closed the pipe; it raises if that one has failed."""

    def __init__(self, fd: int, at_end: Callable[[], object]) -> None:
        self._fd = fd
        self._at_end = at_end
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def next(self) -> Member | None:
        """The next entry, when the last one's data was taken; None at the end. Raises what the other has met."""
        if not self._has(_LENGTH.size):
            self._at_end()
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, self._start)
        self._start += _LENGTH.size
        if not self._has(length):
            self._at_end()
            return None
        end = self._start + length
        fields = marshal.loads(self._view[self._start : end])
        self._start = end
        return Member(*fields)

    def copy(self, fd: int, size: int) -> None:
        """Writes the next `size` bytes of the current entry's data to `fd`. Raises as `next` does, and `OSError`."""
        while size:
            if size >= _SPLICED and self._start == self._end:
                written = os.splice(self._fd, fd, size)
            elif self._has(1):
                written = os.write(fd, self._view[self._start : min(self._start + size, self._end)])
                self._start += written
            else:
                written = 0
            if not written:
                self._at_end()
                raise EOFError
            size -= written

    def _has(self, size: int) -> bool:
        """Reads until `size` bytes are in the buffer; False if the pipe ends before."""
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
