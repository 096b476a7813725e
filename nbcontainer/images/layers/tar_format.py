"""The tar formats' fields: 512-byte headers, numbers, extended records, sparse maps.

Sources: POSIX.1-2017 pax (ustar, pax), the GNU tar manual "Tar Internals" (GNU headers, sparse formats), star(5).
Names are bytes throughout.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from os import major as major_of
from os import minor as minor_of
from zlib import adler32

from nbcontainer.errors import HostileArchive

BLOCK = 512
ZEROS = bytes(BLOCK)

# name mode uid gid size mtime checksum type linkname magic+version uname gname devmajor devminor prefix+rest
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
# The same as a reader needs them: name mode+uid+gid size mtime type linkname magic devmajor+devminor prefix
FIELDS = struct.Struct("100s24s12s12s8xc100s8s64x16s155s12x")

REGULAR, HARD_LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % n for n in range(7))
CONTIGUOUS = b"7"
PAX, PAX_SOLARIS, PAX_GLOBAL = b"x", b"X", b"g"
GNU_LONG_NAME, GNU_LONG_LINK, GNU_SPARSE = b"L", b"K", b"S"
GNU_DUMP_DIRECTORY, GNU_VOLUME = b"D", b"V"

USTAR_MAGIC = b"ustar\0"
GNU_MAGIC = b"ustar  \0"
STAR_TRAILER = b"tar\0"

XATTR_PREFIX = b"SCHILY.xattr."

Sparse = list[tuple[int, int]]
"""(offset, length) of each piece of data, in bytes, in order."""

_DECIMAL = re.compile(rb"-?\d{1,20}(?:\.\d{0,64})?", re.ASCII)
_UNSIGNED = re.compile(rb"\d{1,20}", re.ASCII)
TIME_MAX = (1 << 40) * 10**9  # nanoseconds; file systems clamp to their own range, this keeps the arithmetic in range
_SPARSE_ENTRY = 24


def checksum_fits(block: bytes) -> bool:
    """Whether a header's checksum is right, added up as unsigned or (old tars) as signed bytes."""
    try:
        wanted = _plain_sum(block[148:156])
    except HostileArchive:
        return False
    total = checksum(block)
    if total == wanted:
        return True
    high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    return total - 256 * high == wanted


@lru_cache(maxsize=4096)
def _plain_sum(field: bytes) -> int:
    """The sum of a header's bytes, those of the checksum too, that its checksum (counted as spaces) asks for."""
    return number(field) - 8 * 32 + sum(field)


def checksum(block: bytes) -> int:
    """The sum of a header's bytes."""
    # adler32's low half is 1 + the sum of the bytes modulo 65521, and 256 bytes cannot reach that: some twenty times
    # faster than sum(), which would take a tenth of the time for a small file.
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def header(
    name: bytes,
    prefix: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    device: int = 0,
) -> bytes:
    """One ustar header of values that fit its fields (see `split_name` for the name)."""
    major, minor = (b"%07o\0" % major_of(device), b"%07o\0" % minor_of(device)) if device else (b"", b"")
    block = HEADER.pack(
        name,
        b"%07o\0" % mode,
        b"%07o\0" % uid,
        b"%07o\0" % gid,
        b"%011o\0" % size,
        b"%011o\0" % mtime,
        b"        ",
        kind,
        link,
        b"ustar\x0000",
        b"",
        b"",
        major,
        minor,
        prefix,
        b"",
    )
    return b"%b%06o\0 %b" % (block[:148], checksum(block), block[156:])


def split_name(path: bytes) -> tuple[bytes | None, bytes]:
    """(name, prefix) of a path in a ustar header; the name is None where it fits in neither way."""
    if len(path) <= 100:
        return path, b""
    # The slash between the two is not stored: name at most 100 bytes, prefix at most 155.
    at = path.find(b"/", len(path) - 101)
    if 0 < at <= 155 and at < len(path) - 1:
        return path[at + 1 :], path[:at]
    return None, b""


@lru_cache(maxsize=1024)
def mode_and_owner(field: bytes) -> tuple[int, int, int]:
    """(permissions, uid, gid) of a header's three fields. Raises `HostileArchive`."""
    return number(field[:8]) & 0o7777, number(field[8:16]), number(field[16:])


@lru_cache(maxsize=4096)
def number(field: bytes) -> int:
    """A number field: octal digits, or base 256 as GNU tar writes what does not fit. Raises `HostileArchive`."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        digits = field.strip(b" \0")  # a zero byte before digits: Go reads them, bsdtar does not
        if not digits:
            return 0
        raise HostileArchive(f"the archive has a damaged header: {field!r} has a zero byte before its digits")
    try:
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise HostileArchive(f"the archive has a damaged header: {digits[:12]!r} is not an octal number")


def unsigned(value: bytes) -> int:
    """A decimal number of a pax record or a sparse map. Raises `HostileArchive`."""
    if _UNSIGNED.fullmatch(value) is None:
        raise HostileArchive(f"the archive has a damaged extended header: {value[:40]!r} is not a number")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """A pax time, decimal seconds with any number of places, in nanoseconds, rounded down."""
    if _DECIMAL.fullmatch(value) is None:
        raise HostileArchive(f"the archive has a damaged extended header: {value[:40]!r} is not a time")
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    parts = int(fraction[:9].ljust(9, b"0"))
    total = abs(int(whole)) * 10**9 + parts
    return clamp_time(-total if negative else total)


def clamp_time(value: int) -> int:
    """`value` nanoseconds, brought into a range every system call takes."""
    return max(-TIME_MAX, min(TIME_MAX, value))


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records "LENGTH KEY=VALUE\\n" of an extended header, in order. Raises `HostileArchive`."""
    records = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        if space < 0 or not data[at:space].isdigit():
            if data.count(0, at) == len(data) - at:
                break  # some writers pad with zeros
            raise HostileArchive("the archive has a damaged extended header: a record without its length")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1] != 0x0A or not equals or not key:
            raise HostileArchive("the archive has a damaged extended header: a record of the wrong length")
        records.append((key, value))
        at = end
    return records


def pax_record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def xattr_key(name: bytes) -> bytes:
    """The record's key for an extended attribute, with GNU tar's escapes: a key has no `=`."""
    return XATTR_PREFIX + name.replace(b"%", b"%25").replace(b"=", b"%3D")


def xattr_name(key: bytes) -> bytes:
    """The extended attribute that a record's key names."""
    return key[len(XATTR_PREFIX) :].replace(b"%3D", b"=").replace(b"%25", b"%")


def old_sparse_entries(data: bytes) -> Sparse:
    """The map entries of a GNU sparse header or of its extension blocks, up to the first empty one."""
    entries: Sparse = []
    for at in range(0, len(data) - _SPARSE_ENTRY + 1, _SPARSE_ENTRY):
        if data[at] == 0:
            break
        entries.append((number(data[at : at + 12]), number(data[at + 12 : at + 24])))
    return entries


def check_sparse(sparse: Sparse, *, stored: int, size: int) -> None:
    """Raise `HostileArchive` unless the map is in order, fits `size` and accounts for `stored` bytes."""
    end = total = 0
    for offset, length in sparse:
        if offset < end or length < 0:
            raise HostileArchive("the archive has a damaged sparse file: its pieces overlap")
        end = offset + length
        total += length
    if end > size or total != stored:
        raise HostileArchive("the archive has a damaged sparse file: its map does not fit its size")
