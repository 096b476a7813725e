"""Compressed streams: told apart, read whole or refused, written the same every time."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import lzma
import os
import random
import sys
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers.compression import Compression, Reader, Writer, detect, write_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = random.Random(1).randbytes(300_000) + bytes(2_000_000) + b"the end"

PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: bytes,
    Compression.GZIP: gzip.compress,
    Compression.ZSTD: zstd.compress,
    Compression.XZ: lzma.compress,
    Compression.BZIP2: bz2.compress,
}
COMPRESSED = [compression for compression in Compression if compression is not Compression.NONE]


def read(data: bytes, step: int = 1 << 17) -> bytes:
    """Everything a reader gives, from a source that gives at most `step` bytes at a time."""
    source = io.BytesIO(data)
    return Reader(lambda size: source.read(min(size, step))).read()


@pytest.mark.parametrize("compression", Compression)
def test_told_by_the_first_bytes(compression: Compression) -> None:
    """Ten bytes tell what a stream is."""
    assert detect(PACK[compression](TEXT)[:10]) is compression


NOT_COMPRESSED = {
    "nothing": b"",
    "a tar that begins with a file BZh9": b"BZh9-notes.txt".ljust(100, b"\0"),
    "gzip's magic with another method": b"\x1f\x8b\x07" + bytes(7),
    "half of zstd's magic": b"\x28\xb5",
}


@pytest.mark.parametrize("data", NOT_COMPRESSED.values(), ids=NOT_COMPRESSED.keys())
def test_what_is_not_compressed(data: bytes) -> None:
    """What only looks a little like a compressed stream is read as it is."""
    assert detect(data) is Compression.NONE
    assert read(data) == data


@pytest.mark.parametrize("step", [1, 7, 1 << 17], ids=["a byte at a time", "seven bytes", "large pieces"])
@pytest.mark.parametrize("compression", Compression)
def test_read_whole(compression: Compression, step: int) -> None:
    """However the source gives it out, all of it is read, and never more than a MiB at once."""
    text = TEXT if step > 7 else TEXT[-20_000:]
    source = io.BytesIO(PACK[compression](text))
    reader = Reader(lambda size: source.read(min(size, step)))
    assert reader.compression is compression
    chunks = list(reader.chunks())
    assert b"".join(chunks) == text
    assert all(0 < len(chunk) <= 1 << 20 for chunk in chunks)


def test_read_in_pieces() -> None:
    """`read(size)` gives at most that, then nothing."""
    reader = Reader(io.BytesIO(gzip.compress(b"abcdefgh")).read)
    assert [reader.read(3), reader.read(100), reader.read(1)] == [b"abc", b"defgh", b""]


@pytest.mark.parametrize("compression", COMPRESSED)
def test_joined_streams_are_one(compression: Compression) -> None:
    """Members, frames and streams one after the other, as pigz, pzstd and `cat` make them, are one stream."""
    pack = PACK[compression]
    assert read(pack(b"one, ") + pack(b"") + pack(TEXT)) == b"one, " + TEXT


def test_skippable_frames() -> None:
    """zstd's skippable frames, first or between, which podman and pzstd write, are passed over."""
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"
    assert read(skipped + zstd.compress(b"one, ") + skipped + zstd.compress(b"two")) == b"one, two"


@pytest.mark.parametrize("compression", COMPRESSED)
def test_zeros_after_the_end(compression: Compression) -> None:
    """A tape's padding after the end is let through, anything else is not."""
    packed = PACK[compression](b"data")
    assert read(packed + bytes(100_000)) == b"data"
    with pytest.raises(HostileArchive, match="has other data after"):
        read(packed + bytes(100_000) + b"x")


@pytest.mark.parametrize("compression", COMPRESSED)
def test_cut_off(compression: Compression) -> None:
    """Data without its end are refused, wherever they were cut."""
    packed = PACK[compression](b"some data " * 100)
    for length in range(10 if compression is Compression.BZIP2 else 6, len(packed)):
        with pytest.raises(HostileArchive, match=f"cut off inside its {compression} data"):
            read(packed[:length])


DAMAGED = {
    "gzip's checksum": (lambda data: data[:-8] + bytes(4) + data[-4:], Compression.GZIP),
    "gzip's length": (lambda data: data[:-4] + bytes(4), Compression.GZIP),
    "gzip's data": (lambda data: data[:12] + b"\xff" * 4 + data[16:], Compression.GZIP),
    "a second gzip member": (lambda data: data + b"\x1f\x8b\x08" + b"\xff" * 20, Compression.GZIP),
    "zstd's data": (lambda data: data[:6] + b"\xff" * 8 + data[14:], Compression.ZSTD),
    "xz's data": (lambda data: data[:20] + b"\xff" * 8 + data[28:], Compression.XZ),
    "bzip2's data": (lambda data: data[:200] + b"\xff" * 8 + data[208:], Compression.BZIP2),
}


@pytest.mark.parametrize(("damage", "compression"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged(damage: Callable[[bytes], bytes], compression: Compression) -> None:
    """Damaged data are refused in one line."""
    with pytest.raises(HostileArchive, match=f"the archive's {compression} data cannot be decompressed") as raised:
        read(damage(PACK[compression](TEXT)))
    assert "\n" not in str(raised.value)


def test_windows_past_all_reason() -> None:
    """A zstd frame that wants gigabytes of memory to be read is refused, as the zstd command does."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 28,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    with pytest.raises(HostileArchive, match="zstd data cannot be decompressed"):
        read(compressor.compress(TEXT) + compressor.flush())


def test_dictionaries_past_all_reason() -> None:
    """An xz stream that wants more than 256 MiB of memory to be read is refused."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    header = lzma.compress(b"data", filters=filters)
    with pytest.raises(HostileArchive, match="xz data cannot be decompressed"):
        read(header)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_memory_is_flat(compression: Compression) -> None:
    """Reading 64 MiB of zeros takes a few MiB of memory, not 64."""
    packed = PACK[compression](bytes(64 << 20))
    tracemalloc.start()
    try:
        assert sum(len(chunk) for chunk in Reader(io.BytesIO(packed).read).chunks()) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_errors_of_the_source_are_its_own() -> None:
    """What reading the source raises is no fault of the archive."""

    def broken(_: int) -> bytes:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        Reader(broken)


def test_a_descriptor_is_read() -> None:
    """`Reader` reads a descriptor from where it stands, and leaves it open."""
    fd = os.memfd_create("data")
    try:
        os.write(fd, b"??" + gzip.compress(b"data"))
        os.lseek(fd, 2, os.SEEK_SET)
        assert Reader(functools.partial(os.read, fd)).read() == b"data"
        os.fstat(fd)
    finally:
        os.close(fd)


WRITTEN = [Compression.NONE, Compression.GZIP, Compression.ZSTD]


def write(compression: Compression, *parts: bytes) -> tuple[bytes, str, int]:
    """(what was written, its digest, its size)."""
    fd = os.memfd_create("out")
    try:
        writer = Writer(fd, compression)
        for part in parts:
            writer.write(part)
        writer.finish()
        return os.pread(fd, 1 << 30, 0), writer.digest, writer.size
    finally:
        os.close(fd)


@pytest.mark.parametrize("compression", WRITTEN)
def test_written_and_read_back(compression: Compression) -> None:
    """What is written is read back, and its digest and size are those of the compressed bytes."""
    data, digest, size = write(compression, b"one, ", b"", TEXT)
    assert detect(data[:10]) is compression
    assert read(data) == b"one, " + TEXT
    assert (digest, size) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


@pytest.mark.parametrize("compression", WRITTEN)
def test_written_the_same_every_time(compression: Compression) -> None:
    """The same bytes in give the same bytes out: no time, no name."""
    assert write(compression, TEXT) == write(compression, TEXT)
    if compression is Compression.GZIP:
        assert write(compression, b"")[0][4:8] == bytes(4)


def test_written_for_everybody() -> None:
    """Python's own gzip and zstd read what is written, and zstd has a checksum."""
    assert gzip.decompress(write(Compression.GZIP, TEXT)[0]) == TEXT
    data = write(Compression.ZSTD, TEXT)[0]
    assert zstd.decompress(data) == TEXT
    assert data[4] & 4  # the frame header's Content_Checksum_flag (RFC 8878, 3.1.1.1.1)


@pytest.mark.parametrize("compression", [Compression.XZ, Compression.BZIP2])
def test_not_written(compression: Compression) -> None:
    """OCI has no layers in xz or bzip2, so none are written."""
    with pytest.raises(ValueError, match=f"not written as {compression}"):
        Writer(-1, compression)


def test_all_is_written_to_a_slow_pipe() -> None:
    """A pipe that takes a part at a time gets everything, in order."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write_all(writing, TEXT)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert zlib.crc32(file.read()) == zlib.crc32(TEXT)
    os.waitpid(child, 0)
