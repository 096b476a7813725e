"""Archives with odd headers, made at random from what writers of tars have done and what attackers have tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.images import tars

if TYPE_CHECKING:
    import random

Pairs = list[tuple[bytes, bytes]]

NAMES = [b"a", b"b", b"d/", b"d/b", b"./c", b"n" * 100, b"", b"n\0hidden", b"/abs", b"a/../b", b"a b", b"x" * 99 + b"/"]
NAMES += [b"f", b"d//e", b"a\\b", b"a\nb"]
LONG = [b"l" * 120, b"long/" + b"n" * 150 + b"/", b"short", b"", b"nul\0inside", b"./a", b"x\0"]
LINKS = [b"", b"t", b"a", b"t\0u", b"d/", b"l" * 100]
KINDS = b"00000000" + b"\0\0" + b"551122346" + b"7SDVsMNXgALKx"
MAGICS = [tars.USTAR] * 4 + [tars.GNU] * 3
MAGICS += [
    tars.V7,
    b"ustar\0\0\0",
    b"ustar 00",
    b"ustar\x0001",
    b"ustar",
    b"ustar  x",
    b"ustar   ",
    b"USTAR\x0000",
    b"star\0",
]
STAR_TIMES = b"12345670123 12345670123 "
PREFIXES = [b""] * 6 + [b"p", b"p/", b"p\0q", b"17", b"\0p", b"p" * 155]
PREFIXES += [b"where".ljust(131, b"\0") + STAR_TIMES[:-1], b"w" * 131 + STAR_TIMES]
RESTS = [b""] * 6 + [b"4567\0\0\0\0tar\0", b"\0\0\0\0\0\0\0\0tar\0", b"x"]
IDS = [b"\0" * 8, b" " * 8, b"0000000\0", b"\x80\0\0\0\0\0\0\1", b"7777777\0", b"junk\0"]
CONTENTS = [b"", b"", b"", b"12345", b"x" * 512, tars.header(b"planted"), b"1\n0\n5\n".ljust(512, b"\0") + b"12345"]
ENDS = [tars.END] * 8 + [b"", bytes(512), bytes(700), bytes(512) + tars.entry(b"behind")]
ENDS += [tars.END + tars.entry(b"behind"), tars.END + tars.END + tars.entry(b"behind") + tars.END]

VALUES = {
    b"path": [b"q", b"q/", b"", b"q\0r", b"../up", b"a/b", b" q", b"q\n", b"\xc3\xa4", b"\xff"],
    b"linkpath": [b"t", b"", b"t\0u", b"a/b", b"/t"],
    b"size": [
        b"0",
        b"1",
        b"5",
        b"512",
        b"512",
        b"1024",
        b"",
        b"-1",
        b"+1",
        b" 5",
        b"5 ",
        b"0x5",
        b"05",
        b"9" * 19,
        b"5\0",
    ],
    b"GNU.sparse.major": [b"0", b"1", b"1", b"2", b"", b"01"],
    b"GNU.sparse.minor": [b"0", b"0", b"1", b""],
    b"GNU.sparse.name": [b"s", b"", b"s/", b"s\0"],
    b"GNU.sparse.map": [b"0,1", b"0,5", b"0,512", b"", b"0,1,2", b"0,0", b"0,0,5,0", b"5,0"],
    b"GNU.sparse.offset": [b"0", b"512"],
    b"GNU.sparse.numbytes": [b"0", b"1", b"5", b"512"],
    b"GNU.sparse.numblocks": [b"0", b"1", b"2"],
    b"SCHILY.realsize": [b"0", b"1", b"99"],
    b"hdrcharset": [b"BINARY", b"ISO-IR 10646 2000 UTF-8", b"x"],
    b"SCHILY.filetype": [b"dir", b"sparse"],
}
OTHER = [b"0", b"1", b"5", b"512", b"x", b"", b"1.5"]
SPARSE_KEYS = [b"GNU.sparse." + key for key in b"name major minor size realsize map offset numbytes numblocks".split()]
KEYS = (
    SPARSE_KEYS
    + (
        b"path path linkpath size size mtime uid uname atime comment charset hdrcharset PATH VENDOR.path "
        b"SCHILY.realsize SCHILY.xattr.user.a SCHILY.filetype SCHILY.devmajor SCHILY.ino SCHILY.dev SCHILY.fflags "
        b"LIBARCHIVE.xattr.a LIBARCHIVE.symlinktype GNU.volume.filename GNU.volume.size GNU.dumpdir SUN.devmajor "
        b"RHT.security.selinux"
    ).split()
)
KEYS += [b"path ", b"k\0"]

_SIZE, _MAP, _NAME = (b"GNU.sparse.size", b"700"), (b"GNU.sparse.map", b"0,5"), (b"GNU.sparse.name", b"s")
_BLOCKS, _MINOR = (b"GNU.sparse.numblocks", b"1"), (b"GNU.sparse.minor", b"0")
SPARSE: list[Pairs] = [
    [(b"GNU.sparse.major", b"1"), _MINOR, _NAME, (b"GNU.sparse.realsize", b"700")],
    [_SIZE, _MAP, _NAME, _BLOCKS],
    [_SIZE, _BLOCKS, (b"GNU.sparse.offset", b"0"), (b"GNU.sparse.numbytes", b"5")],
    [(b"GNU.sparse.major", b"0"), (b"GNU.sparse.minor", b"1"), _NAME, _SIZE, _MAP, _BLOCKS],
]

SIZES = b"%011o\0|%011o |%012o|%010o \0| %010o\0|     %o\0|     %o |%o\0junk|%o junk|\0%010o\0|\0\0%09o\0|%o".split(
    b"|"
)
SIZES += [b"-%o", b"+%o", b"0x%o", b"%o8", b"\t%o"]
ODD_SIZES = [b"", b" " * 12, b" " * 11 + b"\0", b"0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80\0\0\0" + b"\xff" * 8]
FIRST_OF_BASE_256 = [b"\x80", b"\x80", b"\x81", b"\xff", b"\xc0", b"\xa0"]

# Bytes of a header at the beginnings and ends of its fields.
EDGES = [0, 99, 100, 124, 125, 134, 135, 136, 148, 155, 156, 157, 256, 257, 262, 263, 264, 265, 345, 475, 476, 482, 483]
EDGES += [500, 508, 511]


def number(random_: random.Random, value: int) -> bytes:
    """A size field, in one of the ways to write one."""
    way = random_.random()
    if way < 0.6:
        return b"%011o\0" % value
    if way < 0.75:
        return random_.choice(FIRST_OF_BASE_256) + value.to_bytes(11, "big")
    if way < 0.78:
        return random_.choice(ODD_SIZES)
    return (random_.choice(SIZES) % value)[:12]


def _pair(random_: random.Random, keys: list[bytes]) -> tuple[bytes, bytes]:
    key = random_.choice(keys)
    return key, random_.choice(VALUES.get(key, OTHER))


def _pairs(random_: random.Random) -> Pairs:
    if random_.random() < 0.65:
        return [_pair(random_, KEYS) for _ in range(random_.choice([0, 1, 1, 2, 3]))]
    pairs = list(random_.choice(SPARSE))
    for _ in range(random_.choice([0, 0, 1, 2])):
        match random_.randrange(4):
            case 0:
                pairs.pop(random_.randrange(len(pairs)))
            case 1:
                pairs.insert(random_.randrange(len(pairs) + 1), _pair(random_, SPARSE_KEYS))
            case 2:
                pairs.insert(random_.randrange(len(pairs) + 1), _pair(random_, KEYS))
            case _:
                random_.shuffle(pairs)
    return pairs


def records(random_: random.Random) -> bytes:
    """The content of an extended header; one in three is damaged."""
    data = b"".join(tars.record(key, value) for key, value in _pairs(random_))
    match random_.randrange(12):
        case 0:
            data += random_.choice([b"\0", bytes(7), b"\n", b" "])
        case 1:
            data = random_.choice([b"0", b"00", b" ", b"\n", b"+"]) + data
        case 2:
            data = data.replace(b"=", b" =", 1)
        case 3 if data:
            at = random_.randrange(len(data))
            data = data[:at] + random_.choice([b"", b"\0", b"=", b"\n", b"1"]) + data[at + 1 :]
    return data


def extension(random_: random.Random) -> bytes:
    """An extended header, or a long name or target of GNU's."""
    if random_.random() < 0.55:
        body = records(random_)
        if random_.random() < 0.1:
            fields: dict[str, Any] = {"size": number(random_, len(body)), "magic": random_.choice(MAGICS)}
            return tars.header(b"PaxHeaders/x", kind=b"x", **fields) + tars.padded(body)
        return tars.pax(body, kind=random_.choice([b"x"] * 8 + [b"X", b"g", b"g"]))
    kind, name = random_.choice([b"L", b"L", b"K"]), random_.choice(LONG)
    if random_.random() < 0.15:
        return tars.entry(b"././@LongLink", name, kind=kind, magic=random_.choice(MAGICS))
    return tars.gnu_long(name, kind=kind)


def entry(random_: random.Random) -> bytes:
    """An entry, whose type, size, magic, prefix and data often do not fit together."""
    kind = bytes([random_.choice(KINDS)])
    data = random_.choice(CONTENTS)
    fields: dict[str, Any] = {
        "size": number(random_, len(data)) if random_.random() < 0.5 else len(data),
        "uid": random_.choice(IDS) if random_.random() < 0.2 else 0,
        "link": random_.choice(LINKS) if kind in b"12" or random_.random() < 0.1 else b"",
        "magic": random_.choice(MAGICS),
        "prefix": random_.choice(PREFIXES),
        "rest": random_.choice(RESTS),
        "major": random_.choice([b"", b"0000001\0"]),
        "minor": random_.choice([b"", b"0000003\0"]),
    }
    return tars.header(random_.choice(NAMES), kind=kind, **fields) + tars.padded(data)


def archive(random_: random.Random) -> bytes:
    """One archive; one in three is changed once more, with its checksums repaired."""
    parts = []
    for _ in range(random_.choice([1, 1, 2])):
        parts += [extension(random_) for _ in range(random_.choice([0, 0, 1, 1, 2, 3]))]
        parts.append(entry(random_))
    if random_.random() < 0.8:
        parts.append(tars.entry(b"last", b"the end"))
    data = bytearray(b"".join(parts) + random_.choice(ENDS))
    if random_.random() < 0.3:
        _change(random_, data)
        _repair(data)
    return bytes(data)


def _change(random_: random.Random, data: bytearray) -> None:
    for _ in range(random_.choice([1, 1, 2])):
        if len(data) < 1024:
            return
        at = random_.randrange(len(data) // 512 * 512)
        match random_.randrange(3):
            case 0:
                data[at] = random_.randrange(256)
            case 1:
                data[at // 512 * 512 + random_.choice(EDGES)] = random_.choice([0, 32, 48, 49, 55, 56, 128, 255])
            case _:
                block = at // 512 * 512
                del data[block : block + 512]


def _repair(data: bytearray) -> None:
    """Write the right checksum into each block that looks like a header."""
    for block in range(0, len(data) - 511, 512):
        if data[block + 257 : block + 261] == b"usta" or data[block + 100 : block + 107] == b"0000644":
            data[block + 148 : block + 156] = b" " * 8
            data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
