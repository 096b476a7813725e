"""Entries that GNU tar, bsdtar or Go's archive/tar read in another way than this package. They are refused.

A program that examines an archive would otherwise see other files than the ones that are made here. The facts are those
of GNU tar 1.34 (list.c, xheader.c), libarchive 3.6 (archive_read_support_format_tar.c) and Go 1.19
(archive/tar/reader.go).
`tests/unit/images/layers/test_two_readings.py` compares all four programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.limits import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_HINT = "unpack the archive with a program that you trust, and pack the files again"
_OF_ONE = frozenset({b"path", b"linkpath", b"size"})
_LINKS = frozenset({tar.HARD_LINK, tar.SYMLINK})
_SPARSE = b"GNU.sparse."
_STAR_SIZE = b"SCHILY.realsize"
_STAR_PREFIX = 131  # bytes; star keeps two times behind it
_GO_SPARSE = frozenset({(b"0", b"0"), (b"0", b"1"), (b"1", b"0")})


def two_readings(name: bytes, why: str) -> HostileArchive:
    """Return the error for the entry of that name."""
    return HostileArchive(f"programs read {shown(name)} in two ways: {why}", hint=_HINT)


def is_name(key: bytes) -> bool:
    """Whether a record of an extended header sets a name, a target or a size."""
    return key in _OF_ONE or key == _STAR_SIZE or key.startswith(_SPARSE)


def check_record(key: bytes, value: bytes, after: bytes, *, plain: bool) -> None:
    """Refuse a name, a target or a size that is empty, or in a header that is not `plain`.

    For Go an empty one is not there, for GNU tar it is empty. A plain header is of POSIX' type (Go does not use those
    of Solaris) and not padded with zeros (libarchive does not use such a one, or records after a key with a zero
    byte).
    """
    if b"\0" in key and not key.startswith(tar.XATTR_PREFIX):
        raise two_readings(after, f"the extended header after it has the key {shown(key)}")
    if not (plain and value) and is_name(key):
        why = f"the record {shown(key)} without a value" if plain else "the type of Solaris, or zeros after its records"
        raise two_readings(after, f"the extended header after it has {why}")


def check_global(key: bytes) -> None:
    """Refuse a name, a target or a size for all entries: GNU tar applies it, Go does not."""
    if is_name(key):
        raise HostileArchive(f"the archive has a global header with the record {shown(key)}", hint=_HINT)


def check_long(data: bytes, after: bytes) -> None:
    """Refuse a GNU long name or target that is empty, where Go uses the header's own, or not ended by a zero byte.

    GNU tar 1.34 reads beyond one without an end.
    """
    if data.startswith(b"\0") or not data.endswith(b"\0") or b"\0" in data.rstrip(b"\0"):
        raise two_readings(after, "the GNU long name or target after it is empty, or does not end with a zero byte")


def check_label(name: bytes, size: int, *, extended: bool) -> None:
    """Refuse a label of a volume with data or extended headers: libarchive takes them for the next entry."""
    if size or extended:
        raise two_readings(name, "it is a label with data or with extended headers")


def check_prefix(name: bytes, magic: bytes, prefix: bytes, block: bytes) -> None:
    """Refuse a prefix that only some programs put before `name`.

    GNU's format has two times there; Go reads them as a prefix if they are not numbers. libarchive has a prefix for
    each magic that begins with `ustar`, except GNU's. star has fewer bytes of prefix, for Go alone.
    """
    if not name:
        raise two_readings(prefix.rstrip(b"\0"), "its header has a prefix and no name")
    if magic == tar.GNU_MAGIC:
        if not (_is_time(block[345:357]) and _is_time(block[357:369])):
            raise two_readings(name, f"the times of its header are not numbers: {shown(prefix[:24])}")
    elif not magic.startswith(tar.USTAR_MAGIC):
        if magic.startswith(b"ustar"):
            raise two_readings(name, f"its header has the unknown format {shown(magic)} and a prefix")
    elif block.endswith(tar.STAR_TRAILER) and b"\0" not in prefix[:_STAR_PREFIX]:
        raise two_readings(name, "its prefix has no end before the times of star's format")


def _is_time(field: bytes) -> bool:
    try:
        tar.number(field)
    except HostileArchive:
        return False
    return True


def may_have_data(magic: bytes, pax: Mapping[bytes, bytes]) -> bool:
    """Whether libarchive may skip data after a hard link that has a size: not in the formats V7 and GNU."""
    return b"size" in pax or (magic.startswith(b"ustar") and magic != tar.GNU_MAGIC)


def check_slash(name: bytes, kind: bytes) -> None:
    """Refuse a file whose name ends with a slash, except in the V7 format: a directory for all but Go."""
    if kind != b"\0":
        raise two_readings(name, "it is a file, and its name ends with a slash")


def check_fields(name: bytes, kind: bytes, magic: bytes, target: bytes, block: bytes) -> None:
    """Refuse a link without a target, and the fields of a sparse file for another type in GNU's format.

    `target` is the header's own beside a GNU long target: libarchive does not use the long one if that is empty. It
    uses the map and the size in each header of GNU's.
    """
    if kind in _LINKS and not target:
        raise two_readings(name, "it is a link without a target")
    if magic == tar.GNU_MAGIC and kind != tar.GNU_SPARSE and block[386:495].strip(b"\0"):
        raise two_readings(name, "it has the fields of a sparse file, and another type")


def check_star_size(name: bytes, stated: bytes, size: int) -> None:
    """Refuse another size of star's for a file: libarchive uses it."""
    if tar.unsigned(stated) != size:
        raise two_readings(name, f"it has {size} bytes and states {shown(stated)}")


def check_sparse(name: bytes, pax: Mapping[bytes, bytes], *, pairs: bool, plain: bool) -> None:
    """Refuse records of a sparse file that are incomplete, contradict each other, or stand before another type.

    `pairs` says that the header has the map of format 0.0, `plain` that the entry is a file without a map of its own.
    """
    keys = [key for key in pax if key.startswith(_SPARSE)]
    if not keys and not pairs:
        return
    if not plain:
        raise two_readings(name, "it has records of a sparse file, and another type")
    version = pax.get(b"GNU.sparse.major"), pax.get(b"GNU.sparse.minor")
    mapped = pairs or b"GNU.sparse.map" in pax
    if version not in _GO_SPARSE and (version != (None, None) or not mapped):
        raise two_readings(name, "it has records of a sparse file without a known version or map")
    if mapped == (version == (b"1", b"0")) or (pairs and b"GNU.sparse.map" in pax):
        raise two_readings(name, "it has two maps of a sparse file, or none")
    if b"GNU.sparse.size" in pax and b"GNU.sparse.realsize" in pax:
        raise two_readings(name, "it has two sizes of a sparse file")
