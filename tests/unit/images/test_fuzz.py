"""Archives cut off and changed at random, the same every time: they are read, or refused, and never hang."""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images.layers.extractor import Extractor
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.tar_reader import Stream, TarReader
from tests.unit.images import tars
from tests.unit.images.in_process import opened

if TYPE_CHECKING:
    from pathlib import Path

SEED = tars.archive(
    tars.directory(b"./", mtime=1),
    tars.pax({b"comment": b"global"}, kind=b"g"),
    tars.directory(b"dir", mtime=2),
    tars.entry(b"dir/file", b"some data " * 60, mode=0o4755),
    tars.pax({b"path": b"n/" * 60 + b"n", b"mtime": b"1.5", b"SCHILY.xattr.user.a": b"b"}) + tars.entry(b"n", b"x"),
    tars.gnu_long(b"long/" + b"l" * 150) + tars.gnu_long(b"t" * 150, kind=b"K") + tars.symlink(b"l", b"t"),
    tars.symlink(b"dir/link", b"../dir"),
    tars.entry(b"dir/link/through", b"y"),
    tars.hard_link(b"hard", b"dir/file"),
    tars.header(b"fifo", kind=tars.FIFO),
    tars.pax({b"GNU.sparse.size": b"70000", b"GNU.sparse.map": b"0,5,65536,3"}) + tars.entry(b"sparse", b"12345678"),
    tars.entry(b"dir/.wh.gone"),
    tars.entry(b"dir/.wh..wh..opq"),
    tars.entry(b"dir/link", b"a file over a link"),
)
LIMITS = Limits(entries=1000, bytes=1 << 20, apparent_size=1 << 24)


def reader_of(data: bytes) -> TarReader:
    """A reader of the archive, in chunks of an odd length."""
    return TarReader(Stream(data[at : at + 1500] for at in range(0, len(data), 1500)), LIMITS, end_needed=True)


def extract(root: Path, data: bytes) -> int:
    """Extracts into a new directory, in this process and without the other one; the number of entries."""
    root.mkdir()
    reader = reader_of(data)
    contents = b""

    def copy(fd: int, size: int) -> None:
        nonlocal contents
        os.write(fd, contents[:size])
        contents = contents[size:]

    with opened(root, os.O_DIRECTORY) as fd:
        extractor = Extractor(fd, copy, LIMITS, single_id=True, whiteouts=True)
        try:
            for member in iter(reader.next, None):
                contents = b"".join(reader.data(member))
                extractor.add(member)
            extractor.finish()
        finally:
            extractor.close()
    return extractor.entries


def test_the_seed_is_good(tmp_path: Path) -> None:
    """What is changed below is a good archive to begin with."""
    assert extract(tmp_path / "root", SEED) == 13


WHOLE = len(SEED) - 2 * 512


def entries_of(data: bytes) -> tuple[list[bytes], bool]:
    """The names in an archive, and whether its end mark is missing."""
    reader = reader_of(data)
    return [member.name for member in iter(reader.next, None)], reader.unmarked


@pytest.mark.slow
def test_cut_off_anywhere() -> None:
    """Cut after an entry, an archive is read to there and has no end mark; cut at any other byte, it is refused."""
    accepted = 0
    for length in range(WHOLE):
        try:
            names, unmarked = entries_of(SEED[:length])
        except HostileArchive:
            continue
        accepted += 1
        assert unmarked
        assert names == entries_of(SEED)[0][: len(names)]
        assert length == 0 or not any(SEED[length : -(-length // 512) * 512])
    assert 14 < accepted < WHOLE / 2


def test_extracted_until_it_is_cut_off(tmp_path: Path) -> None:
    """The same while it is extracted: it never has its end mark."""
    for length in range(0, WHOLE, 97):
        with contextlib.suppress(HostileArchive):
            assert entries_of(SEED[:length])[1]
            extract(tmp_path / f"root{length}", SEED[:length])


def _mutated(random_: random.Random) -> bytes:
    data = bytearray(SEED)
    for _ in range(random_.choice([1, 1, 2, 5, 20])):
        at = random_.randrange(len(data))
        match random_.randrange(5):
            case 0:
                data[at] = random_.randrange(256)
            case 1:
                del data[at : at + random_.choice([1, 512, 1024])]
            case 2:
                data[at:at] = data[random_.randrange(len(data)) :][:512]
            case 3:
                words = [
                    b"../",
                    b"/",
                    b"\0",
                    b"99999999999",
                    b"\x80\xff\xff",
                    b"-1",
                    b".wh.",
                    b"GNU.sparse.map=",
                    b"=\n",
                ]
                word = random_.choice(words)
                data[at : at + len(word)] = word
            case _:
                block = at // 512 * 512
                data[block + 156 : block + 157] = random_.choice(b"01234567gxLKSVDs\0").to_bytes()
        if not data:
            break
    if random_.random() < 0.8:
        _repair_checksums(data)
    return bytes(data)


def _repair_checksums(data: bytearray) -> None:
    for block in range(0, len(data) - 511, 512):
        if data[block + 257 : block + 262] == b"ustar":
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])


@pytest.mark.slow
def test_changed_at_random(tmp_path: Path) -> None:
    """Whatever is changed, the archive is extracted below its root or refused with one of three errors."""
    random_ = random.Random(20261124)
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness" / "file").write_text("untouched")
    before = tars.snapshot(tmp_path / "witness")
    refused = []
    for number in range(600):
        data = _mutated(random_)
        try:
            extract(tmp_path / f"root{number}", data)
        except (HostileArchive, ImageError, OSError) as error:
            refused.append(str(error))
    assert 100 < len(refused) < 600
    assert not any("\n" in message for message in refused)
    assert tars.snapshot(tmp_path / "witness") == before
    assert {path.name for path in tmp_path.iterdir()} == {"witness"} | {f"root{n}" for n in range(600)}


def test_noise(tmp_path: Path) -> None:
    """Random blocks with good checksums are no less harmless."""
    random_ = random.Random(7)
    for number in range(300):
        blocks = bytearray()
        for _ in range(random_.randrange(1, 8)):
            block = bytearray(random_.randbytes(512))
            block[100:148] = b"0000644\0" * 6
            block[156] = random_.choice(b"01234567gxLKSVDs\0")
            block[257:265] = random_.choice([b"ustar\x0000", b"ustar  \0", random_.randbytes(8)])
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            blocks += block
        with contextlib.suppress(HostileArchive, ImageError, OSError):
            extract(tmp_path / f"root{number}", bytes(blocks))
