"""Compressed streams: detected by their first bytes, read and written with bounded memory.

Sources: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file format 1.1, bzip2's own manual.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import sys
import zlib
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import HostileArchive, UsageError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# OpenSSL reads its configuration at the first digest. Callers pivot into an image later: make it read the host's now.
hashlib.sha256(b"")

_RAW = 128 << 10
_OUT = 1 << 20
_MAGIC = 10  # the longest signature looked at: bzip2's with that of its first block
_XZ_MEMORY = 256 << 20  # `xz -9` needs 65 MiB
_ZSTD_WINDOW_LOG = 27  # what the zstd command reads without --long
_GZIP_WBITS = 31


class Compression(StrEnum):
    """How a stream is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"
    BZIP2 = "bzip2"


def detect(first_bytes: bytes) -> Compression:
    """Return the compression whose signature `first_bytes` (10 bytes are enough) begin with, else `NONE`."""
    if first_bytes.startswith(b"\x1f\x8b\x08"):
        return Compression.GZIP
    if first_bytes.startswith(b"\x28\xb5\x2f\xfd"):
        return Compression.ZSTD
    # A skippable frame, which podman's zstd:chunked and pzstd write.
    if first_bytes[1:4] == b"\x2a\x4d\x18" and first_bytes[0] & 0xF0 == 0x50:
        return Compression.ZSTD
    if first_bytes.startswith(b"\xfd7zXZ\x00"):
        return Compression.XZ
    # A plain tar may begin with a file called BZh9: look for a block's or the end's signature too.
    if first_bytes.startswith(b"BZh") and first_bytes[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return Compression.BZIP2
    return Compression.NONE


_UNSUPPORTED = (
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"\x02\x21\x4c\x18", "lz4"),
    (0, b"\x5d\x00\x00", "lzma"),
    (0, b"LZIP", "lzip"),
    (0, b"\x89LZO", "lzop"),
    (0, b"\x1f\x9d", "compress (.Z)"),
    (0, b"\x1f\xa0", "compress (.Z)"),
    (0, b"\x1f\x1e", "pack (.z)"),
    (0, b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (0, b"LRZI", "lrzip"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"hsqs", "squashfs"),
    (0, b"sqsh", "squashfs"),
    (0, b"070701", "cpio"),
    (0, b"070702", "cpio"),
    (0, b"070707", "cpio"),
    (0, b"\xc7\x71", "cpio"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"!<arch>\n", "ar (.deb)"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"xar!", "xar"),
    (32, b"SIF_MAGIC", "SIF"),
    (0, b"\x7fELF", "ELF"),
    (0, b"{", "JSON"),
    (0, b"<", "HTML or XML"),
)
"""Offset and bytes of the signatures (magic(5)) of formats that are not read here, and the names of the formats."""


def unsupported_format(first: bytes) -> str:
    """Return the name of the format that a stream with these first bytes has; empty if it is unknown."""
    return next((name for at, sign, name in _UNSUPPORTED if first.startswith(sign, at)), "")


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data` to `fd`, also if write(2) takes only a part. Raises `OSError`."""
    written = os.write(fd, data)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(view):
        written += os.write(fd, view[written:])


class _Decoder(Protocol):
    """The common interface of the decompressors of bz2, lzma and zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _GzipDecoder:
    """zlib's decompressor for one gzip member, with the interface of the other three."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=_GZIP_WBITS)
        self._filled = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not (self._zlib.eof or self._filled or self._zlib.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        tail = self._zlib.unconsumed_tail
        out = self._zlib.decompress(tail + data if tail else data, max_length)
        # zlib can hold output back although no input is left.
        self._filled = len(out) == max_length
        return out


def _decoder(compression: Compression) -> _Decoder:
    match compression:
        case Compression.GZIP:
            return _GzipDecoder()
        case Compression.ZSTD:
            return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        case Compression.XZ:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        case Compression.BZIP2:
            return bz2.BZ2Decompressor()
        case Compression.NONE:
            raise ValueError(compression)


class Reader:
    """Reads a stream and decompresses it; never seeks.

    Joined gzip members, zstd frames and xz streams are one stream; zeros after the last one are allowed.
    `read_raw(size)` supplies the compressed bytes, as os.read does. Memory is bounded: 1 MiB of output, 256 MiB
    for xz, a window of 128 MiB for zstd.
    """

    def __init__(self, read_raw: Callable[[int], bytes]) -> None:
        self._read_raw = read_raw
        self._first = self._at_least(b"", _MAGIC)
        self.compression = detect(self._first)
        self._chunks = self._decompressed() if self.compression is not Compression.NONE else self._plain()
        self._rest = b""

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the stream, in pieces of at most 1 MiB, none empty.

        Raises `HostileArchive` for damaged or truncated data and for anything but zeros after the end, `OSError`
        from reading.
        """
        if self._rest:
            yield self._rest
            self._rest = b""
        yield from self._chunks

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, or the whole rest if negative; empty at the end. Raises as `chunks` does."""
        if size < 0:
            return b"".join(self.chunks())
        data = self._rest or next(self._chunks, b"")
        self._rest = data[size:]
        return data[:size]

    def _at_least(self, data: bytes, size: int) -> bytes:
        while len(data) < size and (more := self._read_raw(_RAW)):
            data += more
        return data

    def _plain(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
        while data := self._read_raw(_RAW):
            yield data

    def _decompressed(self) -> Iterator[bytes]:
        data = self._first
        while data:
            decoder = _decoder(self.compression)
            while not decoder.eof:
                if not data and decoder.needs_input:
                    data = self._read_raw(_RAW)
                    if not data:
                        raise HostileArchive(f"the archive is cut off inside its {self.compression} data")
                out = self._decode(decoder, data)
                data = b""
                if out:
                    yield out
            data = self._at_least(decoder.unused_data, _MAGIC)
            if detect(data) is not self.compression:
                self._only_zeros(data)
                return

    def _decode(self, decoder: _Decoder, data: bytes) -> bytes:
        try:
            return decoder.decompress(data, _OUT)
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, ValueError, EOFError) as error:
            # bz2 raises OSError for damaged data; nothing is read from a descriptor here.
            raise HostileArchive(f"the archive's {self.compression} data cannot be decompressed: {error}") from error

    def _only_zeros(self, data: bytes) -> None:
        while data:
            if data.count(0) != len(data):
                raise HostileArchive(f"the archive has other data after its {self.compression} data")
            data = self._read_raw(_RAW)


class _Encoder(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes | memoryview: ...
    def flush(self) -> bytes: ...


class _PlainEncoder:
    def compress(self, data: bytes | memoryview, /) -> bytes | memoryview:
        return data

    def flush(self) -> bytes:
        return b""


def _encoder(compression: Compression) -> _Encoder:
    match compression:
        case Compression.NONE:
            return _PlainEncoder()
        case Compression.GZIP:
            # zlib's own gzip header: no name, time 0, so the same bytes every time from the same zlib.
            return zlib.compressobj(6, zlib.DEFLATED, _GZIP_WBITS)
        case Compression.ZSTD:
            return zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
        case _:
            raise ValueError(f"layers are not written as {compression}")


class Writer:
    """Compresses data, writes it to `fd`, and keeps the size and, if `hashed`, the digest of what was written.

    `compression` is NONE, GZIP or ZSTD (`ValueError` else). `fd` stays the caller's to close. The bytes are the
    same for the same input and the same library versions.
    """

    def __init__(self, fd: int, compression: Compression, *, hashed: bool = True) -> None:
        self._fd = fd
        self._encoder = _encoder(compression)
        self._hash = hashlib.sha256() if hashed else None
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compress and write `data`. Raises `OSError`."""
        self._out(self._encoder.compress(data))

    def finish(self) -> None:
        """End the compressed stream; nothing can be written after it. Raises `OSError`."""
        self._out(self._encoder.flush())

    @property
    def digest(self) -> str:
        """`sha256:…` of what was written so far; empty if not `hashed`."""
        return f"sha256:{self._hash.hexdigest()}" if self._hash else ""

    def _out(self, data: bytes | memoryview) -> None:
        if data:
            if self._hash is not None:
                self._hash.update(data)
            self.size += len(data)
            write_all(self._fd, data)


_COMPRESSIONS = {
    ".gz": Compression.GZIP,
    ".tgz": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".tzst": Compression.ZSTD,
}


def compression_of(target: Path) -> Compression:
    """Return how an archive is compressed, by its file's name. Raises `UsageError` for an unsupported compression."""
    if target.suffix in (".xz", ".bz2", ".txz", ".tbz2"):
        raise UsageError(f"cannot write {target.suffix} archives", hint="use .tar, .tar.gz or .tar.zst")
    return _COMPRESSIONS.get(target.suffix, Compression.NONE)
