"""What the reader makes of headers, whoever wrote them."""

from __future__ import annotations

import struct
import time

import pytest

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers import tar_format
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.tar_reader import Member, Stream, TarReader
from tests.unit.images import tars


def members(data: bytes, limits: Limits | None = None, *, end_needed: bool = True) -> list[Member]:
    """Every entry of an archive, its data skipped."""
    reader = TarReader(Stream(iter([data] if data else [])), limits or Limits(), end_needed=end_needed)
    return list(iter(reader.next, None))


LONG = b"d/" + b"n" * 200
TARGET = b"t" * 300

NAMES = {
    "ustar keeps 100 bytes without a zero at their end": (tars.entry(b"a" * 100), b"a" * 100),
    "ustar joins prefix and name": (tars.entry(b"name", prefix=b"some/where"), b"some/where/name"),
    "GNU's magic has no prefix there": (tars.entry(b"name", prefix=b"17", magic=tars.GNU), b"name"),
    "V7 has no prefix either": (tars.entry(b"name", prefix=b"17", magic=tars.V7), b"name"),
    "star keeps times behind the prefix": (
        tars.entry(b"name", prefix=b"where".ljust(131, b"\0") + b"12345670123", rest=b"4567\0\0\0\0tar\0"),
        b"where/name",
    ),
    "GNU's long name wins over the header's": (tars.gnu_long(LONG) + tars.entry(b"short"), LONG),
    "pax's path wins over the header's": (tars.pax({b"path": LONG}) + tars.entry(b"short"), LONG),
    "pax's path may be any bytes": (tars.pax({b"path": b"\xff\xfe\x01"}) + tars.entry(b"short"), b"\xff\xfe\x01"),
    "Solaris' X is pax": (tars.pax({b"mtime": b"1"}, kind=b"X") + tars.entry(b"short"), b"short"),
    "a pax header may be padded with zeros": (
        tars.pax(tars.record(b"mtime", b"1") + bytes(7)) + tars.entry(b"short"),
        b"short",
    ),
}


@pytest.mark.parametrize(("data", "name"), NAMES.values(), ids=NAMES.keys())
def test_names(data: bytes, name: bytes) -> None:
    """Each format's way to write a name is understood."""
    (member,) = members(data + tars.END)
    assert member.name == name


NUMBERS = {
    "octal": (tars.entry(b"f", uid=0o123), "uid", 0o123),
    "octal with spaces": (tars.entry(b"f", uid=b"  1750 \0"), "uid", 0o1750),
    "octal to the last byte": (tars.entry(b"f", uid=b"77777777"), "uid", 0o77777777),
    "nothing is 0": (tars.entry(b"f", uid=b"\0" * 8), "uid", 0),
    "base 256": (tars.entry(b"f", uid=b"\x80" + (2**32 - 2).to_bytes(7, "big")), "uid", 2**32 - 2),
    "base 256 below zero": (tars.entry(b"f", mtime=b"\xff" * 11 + b"\xfe"), "mtime", -2 * 10**9),
    "a mode with the type's bits": (tars.entry(b"f", mode=0o104755), "mode", 0o4755),
    "pax's uid": (tars.pax({b"uid": b"4000000000"}) + tars.entry(b"f"), "uid", 4_000_000_000),
    "pax's gid": (tars.pax({b"gid": b"4000000000"}) + tars.entry(b"f"), "gid", 4_000_000_000),
    "pax's time with a fraction": (tars.pax({b"mtime": b"1.5"}) + tars.entry(b"f"), "mtime", 1_500_000_000),
    "pax's time below zero": (tars.pax({b"mtime": b"-1.25"}) + tars.entry(b"f"), "mtime", -1_250_000_000),
    "pax's time past all reason": (tars.pax({b"mtime": b"9" * 20}) + tars.entry(b"f"), "mtime", 2**40 * 10**9),
    "pax's size": (tars.pax({b"size": b"5"}) + tars.header(b"f") + tars.padded(b"12345"), "size", 5),
    "a link's size is its file's, and no data": (tars.hard_link(b"f", b"g", size=7), "size", 0),
    "a directory's size is a hint, and no data": (tars.directory(b"f", size=4096), "size", 0),
}


@pytest.mark.parametrize(("data", "field", "value"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers(data: bytes, field: str, value: int) -> None:
    """Each way to write a number is understood."""
    (member,) = members(data + tars.END)
    assert getattr(member, field) == value


TYPES = {
    "0": (tars.entry(b"f"), tar_format.REGULAR),
    "a zero byte, as V7 has it": (tars.entry(b"f", kind=b"\0", magic=tars.V7), tar_format.REGULAR),
    "contiguous": (tars.entry(b"f", kind=b"7"), tar_format.REGULAR),
    "V7's directory, a file with a slash": (tars.entry(b"d/", kind=b"\0", magic=tars.V7), tar_format.DIRECTORY),
    "a directory": (tars.directory(b"d"), tar_format.DIRECTORY),
    "a symbolic link": (tars.symlink(b"l", b"to"), tar_format.SYMLINK),
    "a hard link": (tars.hard_link(b"l", b"to"), tar_format.HARD_LINK),
    "a fifo": (tars.header(b"p", kind=tars.FIFO), tar_format.FIFO),
}


@pytest.mark.parametrize(("data", "kind"), TYPES.values(), ids=TYPES.keys())
def test_types(data: bytes, kind: bytes) -> None:
    """Each format's type flags are understood."""
    (member,) = members(data + tars.END)
    assert member.type == kind


def test_device_numbers() -> None:
    """A device's numbers are read, those of other files ignored."""
    device, file = members(
        tars.archive(
            tars.header(b"d", kind=tars.CHAR, major=b"0000001\0", minor=b"0000003\0"),
            tars.header(b"f", major=b"rubbish!", minor=b"rubbish!"),
        )
    )
    assert device.device == (1, 3)
    assert file.device == (0, 0)


def test_attributes() -> None:
    """Extended attributes come as SCHILY.xattr records, with GNU tar's escapes for = and %, and any bytes as value."""
    records = {b"SCHILY.xattr.user.a": b"\x00=\n", b"SCHILY.xattr.user.%3D%25%41": b"", b"comment": b"no attribute"}
    (member,) = members(tars.pax(records) + tars.entry(b"f") + tars.END)
    assert member.xattrs == {b"user.a": b"\x00=\n", b"user.=%%41": b""}


def test_a_checksum_of_signed_bytes() -> None:
    """Old tars added bytes up as signed ones."""
    block = tars.header(b"\xe4\xf6\xfc")
    signed = sum(struct.unpack("512b", block[:148] + b" " * 8 + block[156:]))
    (member,) = members(tars.archive(tars.header(b"\xe4\xf6\xfc", checksum=b"%06o\0 " % signed)))
    assert member.name == b"\xe4\xf6\xfc"


def test_one_block_of_zeros_ends_an_archive() -> None:
    """Some writers end with one block of zeros instead of two."""
    assert len(members(tars.entry(b"f") + bytes(512))) == 1


def test_what_follows_the_end_is_not_read() -> None:
    """After two blocks of zeros nothing is an entry any more."""
    assert len(members(tars.archive(tars.entry(b"f")) + tars.entry(b"g"))) == 1


def test_layers_without_an_end_mark_are_read() -> None:
    """A layer's digest vouches for its length, so that the mark at its end may be missing, as some writers have it."""
    assert len(members(tars.entry(b"f"), end_needed=False)) == 1


PIECES = [(0, 512), (4096, 100)]
SPARSE_DATA = b"a" * 512 + b"b" * 100


def old_sparse(name: bytes, pieces: list[tuple[int, int]], data: bytes, size: int) -> bytes:
    """GNU's old format: four pieces in the header, 21 in each block behind it."""
    entries = [b"%011o\0%011o\0" % piece for piece in pieces]
    more = b"\1" if len(entries) > 4 else b"\0"
    block = bytearray(tars.header(name, kind=b"S", magic=tars.GNU, size=len(data)))
    block[386:495] = b"".join(entries[:4]).ljust(96, b"\0") + more + b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    blocks = [entries[at : at + 21] for at in range(4, len(entries), 21)]
    behind = [b"".join(part).ljust(504, b"\0") + b"\1" + bytes(7) for part in blocks[:-1]]
    behind += [b"".join(part).ljust(512, b"\0") for part in blocks[-1:]]
    return bytes(block) + b"".join(behind) + tars.padded(data)


def _pairs(pieces: list[tuple[int, int]]) -> bytes:
    return b"".join(
        tars.record(b"GNU.sparse.offset", b"%d" % offset) + tars.record(b"GNU.sparse.numbytes", b"%d" % length)
        for offset, length in pieces
    )


def _map_lines(pieces: list[tuple[int, int]]) -> bytes:
    return tars.padded(b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces))


SPARSE = {
    "old GNU": old_sparse(b"f", PIECES, SPARSE_DATA, 8192),
    "pax 0.0": tars.pax(tars.record(b"GNU.sparse.size", b"8192") + _pairs(PIECES)) + tars.entry(b"f", SPARSE_DATA),
    "pax 0.1": tars.pax(
        {b"GNU.sparse.name": b"f", b"GNU.sparse.size": b"8192", b"GNU.sparse.map": b"0,512,4096,100"},
    )
    + tars.entry(b"GNUSparseFile.1/f", SPARSE_DATA),
    "pax 1.0": tars.pax(
        {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": b"f",
            b"GNU.sparse.realsize": b"8192",
        }
    )
    + tars.entry(b"GNUSparseFile.1/f", _map_lines(PIECES) + SPARSE_DATA),
}


@pytest.mark.parametrize("data", SPARSE.values(), ids=SPARSE.keys())
def test_sparse_files(data: bytes) -> None:
    """The four ways GNU tar has written sparse files give the same map."""
    member, after = members(tars.archive(data, tars.entry(b"after")))
    assert (member.name, member.type) == (b"f", tar_format.REGULAR)
    assert (member.sparse, member.size, member.real_size) == (PIECES, len(SPARSE_DATA), 8192)
    assert after.name == b"after"


@pytest.mark.parametrize("count", [4, 5, 25, 26, 70])
def test_old_sparse_maps_of_any_length(count: int) -> None:
    """GNU's old maps go on in blocks behind the header."""
    pieces = [(8192 * number, 512) for number in range(count)]
    (member,) = members(tars.archive(old_sparse(b"f", pieces, b"x" * 512 * count, 8192 * count)))
    assert member.sparse == pieces


@pytest.mark.parametrize("step", [1, 100, 512, 5000])
def test_data_in_pieces(step: int) -> None:
    """However the stream is cut into chunks, entries and their data are the same, read or skipped."""
    data = tars.archive(tars.entry(b"f", b"a" * 700), tars.entry(b"skipped", b"b" * 9000), tars.entry(b"g", b"c"))
    reader = TarReader(Stream(data[at : at + step] for at in range(0, len(data), step)), Limits(), end_needed=True)
    found = {}
    while (member := reader.next()) is not None:
        if member.name != b"skipped":
            found[member.name] = b"".join(reader.data(member))
    assert found == {b"f": b"a" * 700, b"g": b"c"}


BROKEN = {
    "an empty file": (b"", "the archive is empty"),
    "less than a block": (b"x" * 100, "not a tar archive: it has only 100 bytes"),
    "an image of a disk": (bytes(1024) + b"\x53\xef" * 512, "it begins with zeros, as images of disks do"),
    "an image of a disk with a large hole": (
        bytes(1 << 16) + b"_BHRfS_M",
        "it begins with zeros, as images of disks do",
    ),
    "garbage": (b"garbage" * 500, "not a tar archive: it does not begin with a tar header"),
    "a wrong checksum at the beginning": (tars.archive(tars.header(b"f", checksum=b"000001\0 ")), "not a tar archive"),
    "a wrong checksum later": (
        tars.archive(tars.entry(b"first"), tars.header(b"f", checksum=b"000001\0 ")),
        "damaged: the header after 'first' has a wrong checksum",
    ),
    "a checksum that is no number": (tars.archive(tars.header(b"f", checksum=b"a\0      ")), "not a tar archive"),
    "a header cut off": (tars.entry(b"first") + tars.header(b"f")[:300], "cut off: it ends inside or after 'first'"),
    "data cut off": (tars.entry(b"f", b"12345")[:514], "cut off: it ends inside or after 'f'"),
    "the next header cut off": (tars.entry(b"f") + tars.entry(b"g")[:5], "cut off: it ends inside or after 'f'"),
    "an extended header cut off": (tars.pax({b"path": b"n"})[:700], "cut off: it ends inside its first header"),
    "nothing after an extended header": (tars.pax({b"path": b"n"}), "cut off"),
    "the end after an extended header": (tars.archive(tars.pax({b"path": b"n"})), "ends between headers"),
    "a block of zeros in the middle": (
        tars.entry(b"f") + bytes(512) + tars.archive(tars.entry(b"g")),
        "damaged: a block of zeros after 'f'",
    ),
    "a number that is none": (tars.archive(tars.entry(b"f", uid=b"0009\0")), "damaged header: b'0009' is not an octal"),
    "a number below zero": (tars.archive(tars.entry(b"f", uid=b"-7\0")), "is not an octal number"),
    "a size below zero": (tars.archive(tars.header(b"f", size=b"\xff" * 12)), "'f' has a negative size"),
    "a size past all limits": (tars.archive(tars.header(b"f", size=b"\x80" + b"\x7f" * 11)), "the limit is"),
    "a size with no data": (tars.archive(tars.header(b"f", size=1 << 30)), "cut off"),
    "an unknown type": (tars.archive(tars.entry(b"f", kind=b"Z")), "an entry of unknown type b'Z': 'f'"),
    "a continued file": (tars.archive(tars.entry(b"f", kind=b"M")), "an entry of unknown type b'M'"),
    "too many extended headers": (
        tars.archive(tars.pax({b"c": b"d"}, kind=b"x") * 17, tars.entry(b"f")),
        "two extended headers in a row",
    ),
    "too many global headers": (tars.archive(tars.pax({b"a": b"b"}, kind=b"g") * 101), "global headers"),
    "too many global records": (
        tars.archive(tars.pax({b"k%d" % n: b"v" for n in range(101)}, kind=b"g"), tars.entry(b"f")),
        "global headers or records",
    ),
    "a huge pax header": (tars.archive(tars.pax(b"x" * (1 << 21))), "an extended header of 2097152 bytes"),
    "a pax header that says it is huge": (
        tars.archive(tars.header(b"x", kind=b"x", size=b"\x80" + b"\x01" * 11)),
        "an extended header of",
    ),
    "a pax header below zero": (tars.archive(tars.header(b"x", kind=b"x", size=b"\xff" * 12)), "extended header of -1"),
    "a huge GNU long name": (tars.archive(tars.gnu_long(b"n" * (2 << 20)), tars.entry(b"f")), "an extended header of"),
    "a pax record without its length": (tars.archive(tars.pax(b"path=x\n"), tars.entry(b"f")), "without its length"),
    "a pax record without =": (tars.archive(tars.pax(b"8 path\n\n"), tars.entry(b"f")), "of the wrong length"),
    "a pax record too long for its header": (tars.archive(tars.pax(b"99 a=b\n"), tars.entry(b"f")), "wrong length"),
    "a pax record of length 0": (tars.archive(tars.pax(b"0 a=b\n"), tars.entry(b"f")), "wrong length"),
    "a pax record without a key": (tars.archive(tars.pax(b"5 =b\n"), tars.entry(b"f")), "wrong length"),
    "a pax time that is none": (tars.archive(tars.pax({b"mtime": b"nan"}), tars.entry(b"f")), "b'nan' is not a time"),
    "a pax uid that is none": (tars.archive(tars.pax({b"uid": b"-1"}), tars.entry(b"f")), "b'-1' is not a number"),
    "a pax size that is none": (tars.archive(tars.pax({b"size": b"1e3"}), tars.entry(b"f")), "b'1e3' is not a number"),
    "a pax name with a zero byte": (
        tars.archive(tars.pax({b"path": b"safe\0/../../evil"}), tars.entry(b"f")),
        "has a zero byte in its name",
    ),
    "a pax target with a zero byte": (
        tars.archive(tars.pax({b"linkpath": b"safe\0evil"}), tars.symlink(b"l", b"t")),
        "has a zero byte in its name or its target",
    ),
    "attributes past the limit": (
        tars.archive(tars.pax({b"SCHILY.xattr.user.a": b"v" * 70000}), tars.entry(b"f")),
        "bytes of extended attributes",
    ),
    "sparse pieces that overlap": (
        tars.archive(old_sparse(b"f", [(0, 512), (100, 100)], SPARSE_DATA, 8192)),
        "its pieces overlap",
    ),
    "sparse pieces past the file's end": (
        tars.archive(old_sparse(b"f", PIECES, SPARSE_DATA, 4100)),
        "does not fit its size",
    ),
    "sparse pieces that have other data": (
        tars.archive(old_sparse(b"f", PIECES, SPARSE_DATA + b"more", 8192)),
        "does not fit its size",
    ),
    "a sparse file past the limit": (
        tars.archive(
            tars.pax({b"GNU.sparse.size": b"9" * 18, b"GNU.sparse.map": b"0,0"}) + tars.entry(b"f"),
        ),
        "the limit is 1099511627776",
    ),
    "half a piece": (
        tars.archive(tars.pax({b"GNU.sparse.size": b"8192", b"GNU.sparse.map": b"0,512,4096"}) + tars.entry(b"f")),
        "damaged sparse map",
    ),
    "a sparse map that never ends": (
        tars.archive(
            tars.pax({b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"9"})
            + tars.entry(b"f", b"99999999\n" + b"0\n" * 1000)
        ),
        "damaged sparse map",
    ),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_archives(data: bytes, words: str) -> None:
    """What is broken is refused in one line that says what and where."""
    with pytest.raises(HostileArchive) as raised:
        members(data)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_names_in_messages_are_printable() -> None:
    """A name with control characters cannot play tricks with the terminal or the notebook."""
    with pytest.raises(HostileArchive) as raised:
        members(tars.archive(tars.entry(b"a\n\x1b[31m\xff"), tars.header(b"f", checksum=b"1\0      ")))
    assert str(raised.value).isprintable()


def test_many_attributes_take_linear_time() -> None:
    """An extended header full of the smallest attributes is read in no time, not in the square of their number."""
    names = [b"%x" % n for n in range(9000)]
    records = b"".join(tars.record(b"SCHILY.xattr." + name, b"") for name in names)
    begin = time.process_time()
    (member,) = members(tars.archive(tars.pax(records), tars.entry(b"f")))
    assert member.xattrs is not None
    assert len(member.xattrs) == len(names)
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("end", [b"", bytes(100), bytes(512), bytes(700)])
def test_an_end_that_is_missing(end: bytes) -> None:
    """Without its end mark, all entries of an archive are read, and the reader says that it is missing."""
    reader = TarReader(
        Stream(iter([tars.entry(b"f", b"12345")[: 512 + 5] + bytes(507) + end])), Limits(), end_needed=True
    )
    assert [member.name for member in iter(reader.next, None)] == [b"f"]
    assert reader.unmarked == (len(end) < 512)


def test_padding_that_is_missing() -> None:
    """The last entry's data can end without padding to a whole block."""
    reader = TarReader(Stream(iter([tars.entry(b"f", b"12345")[: 512 + 5]])), Limits(), end_needed=True)
    assert [member.name for member in iter(reader.next, None)] == [b"f"]
    assert reader.unmarked


def test_a_layer_of_no_bytes() -> None:
    """A layer of 0 bytes has no entries."""
    assert TarReader(Stream(iter([])), Limits(), end_needed=False).next() is None


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"LZIP\1", "lzip"),
        (b"PK\3\4", "zip"),
        (b"\x5d\0\0\x80", "lzma"),
        (b"hsqs", "squashfs"),
    ],
)
@pytest.mark.parametrize("size", [20, 2000])
def test_an_unsupported_format_is_named(first: bytes, name: str, size: int) -> None:
    """The error for a stream in a format that is not supported names the format."""
    with pytest.raises(HostileArchive, match=f"unsupported format {name}"):
        TarReader(Stream(iter([first.ljust(size, b"x")])), Limits(), end_needed=True).next()


TWO_READINGS = {
    "a GNU name and a pax path": tars.gnu_long(b"a" * 120) + tars.pax({b"path": b"b"}) + tars.entry(b"c"),
    "a GNU target and a pax target": tars.gnu_long(b"a" * 120, kind=b"K")
    + tars.pax({b"linkpath": b"b"})
    + tars.symlink(b"l", b"c"),
    "a global path": tars.pax({b"path": b"b"}, kind=b"g") + tars.entry(b"c"),
    "a global size": tars.pax({b"size": b"1"}, kind=b"g") + tars.entry(b"c", b"xy"),
    "a global sparse map": tars.pax({b"GNU.sparse.size": b"1"}, kind=b"g") + tars.entry(b"c", b"xy"),
    "two pax headers": tars.pax({b"path": b"a"}) + tars.pax({b"size": b"1"}) + tars.entry(b"c", b"x"),
}


@pytest.mark.parametrize("entries", TWO_READINGS.values(), ids=TWO_READINGS.keys())
def test_what_programs_read_in_two_ways_is_refused(entries: bytes) -> None:
    """An entry for which GNU tar and Go's archive/tar read another name, target or size is refused."""
    reader = TarReader(Stream(iter([tars.archive(entries)])), Limits(), end_needed=True)
    with pytest.raises(HostileArchive):
        list(iter(reader.next, None))
