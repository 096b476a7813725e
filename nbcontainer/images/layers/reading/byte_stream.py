"""The bytes of an archive, one after the other, without seeking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers.tar_format import BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART = 64 << 10  # bytes
_ZEROS = bytes(_PART)


class Stream:
    """The uncompressed bytes, from chunks that are not empty. Every method raises the errors of making the chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._view = memoryview(b"")
        self._before = 0  # bytes of earlier chunks
        self._start = 0  # of what was not given out yet

    @property
    def offset(self) -> int:
        """The number of bytes that were returned so far."""
        return self._before + self._start

    def block(self) -> bytes:
        """Return the next 512 bytes; fewer only at the end of the stream."""
        start = self._start
        end = start + BLOCK
        block = self._chunk[start:end]
        if len(block) < BLOCK:
            return self.read(BLOCK)
        self._start = end
        return block

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only at the end of the stream."""
        parts = []
        while size and (part := self.some(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def some(self, size: int) -> memoryview:
        """Return between 1 and `size` of the next bytes; none at the end of the stream."""
        if self._start == len(self._chunk):
            self._before += self._start
            self._chunk = next(self._chunks, b"")
            self._view = memoryview(self._chunk)
            self._start = 0
        part = self._view[self._start : self._start + size]
        self._start += len(part)
        return part

    def drain(self, limit: int) -> None:
        """Read to the end of the stream. Raises `HostileArchive` after more than `limit` bytes."""
        while part := self.some(limit + 1):
            limit -= len(part)
            if limit < 0:
                raise HostileArchive("the archive has more bytes after its end than the limit for its data")

    def is_zero(self) -> bool:
        """Whether only zeros are left, which are read."""
        while part := self.some(_PART):
            if part != _ZEROS[: len(part)]:
                return False
        return True
