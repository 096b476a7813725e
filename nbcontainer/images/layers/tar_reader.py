"""The entries of a tar stream, read one after the other, without seeking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import unsupported_format
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.reading import ambiguity
from nbcontainer.images.layers.reading.byte_stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Member", "Stream", "TarReader"]

_GLOBALS = 100
_HEADER_ONLY = frozenset({tar.HARD_LINK, tar.SYMLINK, tar.CHAR, tar.BLOCK_DEVICE, tar.DIRECTORY, tar.FIFO})
_LINKS = frozenset({tar.HARD_LINK, tar.SYMLINK})
_DEVICES = frozenset({tar.CHAR, tar.BLOCK_DEVICE})
_FILES = frozenset({tar.REGULAR, b"\0", tar.CONTIGUOUS})
_KNOWN = _HEADER_ONLY | _FILES | {tar.GNU_SPARSE, tar.GNU_DUMP_DIRECTORY, tar.GNU_VOLUME}


@dataclass(slots=True)
class Member:
    """One entry. `size` is a file's bytes in the archive, `real_size` its length on disk (holes included)."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Nanoseconds since 1970."""
    link: bytes
    real_size: int
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] | None = None
    sparse: tar.Sparse | None = None


class _Extension:
    """The values of extended headers for the next entry."""

    __slots__ = ("count", "has_pax", "has_sparse", "link", "name", "pax", "sparse_pairs", "xattr_bytes", "xattrs")

    def __init__(self) -> None:
        self.count = 0
        self.has_pax = self.has_sparse = False
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.pax: dict[bytes, bytes] = {}
        self.xattrs: dict[bytes, bytes] = {}
        self.xattr_bytes = 0
        self.sparse_pairs: list[int] = []

    @property
    def is_mixed(self) -> bool:
        """Whether they are from a pax header and from GNU's headers."""
        return self.has_pax and (self.name is not None or self.link is not None)


def _not_a_tar(first: bytes, why: str) -> HostileArchive:
    """Return the error for a stream that is not a tar; it names the format if `first`, its first bytes, show it."""
    form = unsupported_format(first)
    if form:
        hint = "write the archive again as a tar, plain or with gzip, zstd, xz or bzip2"
        return HostileArchive(f"the file is not a tar archive: it is in the unsupported format {form}", hint=hint)
    return HostileArchive(f"the file is not a tar archive: {why}")


class TarReader:
    """The entries of a tar in the ustar, pax, GNU and V7 formats.

    An archive can end after any entry, with or without its end mark (a block of zeros) and the padding of its last
    entry: GNU tar reads such archives. With `end_needed` it must not have 0 bytes, as a layer can.
    """

    def __init__(self, stream: Stream, limits: Limits, *, end_needed: bool) -> None:
        self._stream = stream
        self._limits = limits
        self._end_needed = end_needed
        self._globals: _Extension | None = None
        self._left = 0  # of the current entry's data
        self._padding = 0
        self._headers = 0
        self._sized = b""  # the newest entry, if it has a size and no data
        self.unmarked = False
        """Whether the archive has ended without its end mark."""
        self.current = b""
        """Name of the newest entry, for messages."""

    def next(self) -> Member | None:
        """Return the next entry, or None at the end of the archive. Unread data of the last one is skipped.

        Raises `HostileArchive` if the stream is not a tar, is damaged or truncated, or exceeds a limit.
        """
        extension: _Extension | None = None
        while True:
            self._skip_rest()
            block = self._stream.block()
            if not self._is_header(block, inside=extension is not None):
                return None
            self._headers += 1
            kind = block[156:157]
            if kind in _KNOWN:
                return self._member(block, extension)
            size = tar.number(block[124:136])
            if kind == tar.PAX_GLOBAL:
                if extension is not None:
                    raise self._between("a global header")
                self._global(size)
            else:
                extension = self._extend(extension or _Extension(), kind, size, block)

    def data(self, member: Member) -> Iterator[memoryview]:
        """Yield the content of the newest entry in pieces, `member.size` bytes in total."""
        while self._left:
            part = self._stream.some(self._left)
            if not part:
                raise self._cut_off()
            self._left -= len(part)
            yield part

    def _is_header(self, block: bytes, *, inside: bool) -> bool:
        if len(block) < tar.BLOCK:
            if block.strip(b"\0") or (block and not self._headers):
                if not self._headers:
                    raise _not_a_tar(block, f"it has only {len(block)} bytes")
                raise self._cut_off()
            if not self._headers and self._end_needed:
                raise HostileArchive("the archive is empty: it has 0 bytes")
            if inside:
                raise self._cut_off()
            self.unmarked = True
            return False
        if block == tar.ZEROS:
            self._end(inside=inside)
            return False
        if self._sized and tar.checksum_fits(block):
            raise ambiguity.two_readings(self._sized, "it has a size, and its type has no data")
        if not tar.checksum_fits(block):
            if not self._headers:
                raise _not_a_tar(block, "it does not begin with a tar header")
            raise HostileArchive(f"the archive is damaged: the header after {shown(self.current)} has a wrong checksum")
        return True

    def _end(self, *, inside: bool) -> None:
        if inside:
            raise HostileArchive(f"the archive is damaged: it ends between headers after {shown(self.current)}")
        second = self._stream.block()
        if second and second != tar.ZEROS[: len(second)]:
            raise HostileArchive(f"the archive is damaged: a block of zeros after {shown(self.current)}")
        if not self._headers and not self._stream.is_zero():
            raise _not_a_tar(b"", "it begins with zeros, as images of disks do, and has no entry")
        if self._sized and not self._stream.is_zero():
            raise ambiguity.two_readings(self._sized, "it has a size, and more than zeros follow")

    def _extend(self, extension: _Extension, kind: bytes, size: int, block: bytes) -> _Extension:
        if kind not in (tar.PAX, tar.PAX_SOLARIS, tar.GNU_LONG_NAME, tar.GNU_LONG_LINK):
            name = shown(block[:100].partition(b"\0")[0])
            raise HostileArchive(f"the archive has an entry of unknown type {kind!r}: {name}")
        data = self._small_data(size)
        if kind in (tar.PAX, tar.PAX_SOLARIS):
            self._pax(extension, data, plain=kind == tar.PAX and not data.endswith(b"\0"))
        elif kind == tar.GNU_LONG_NAME:
            extension.name = self._long(data, extension.name)
        else:
            extension.link = self._long(data, extension.link)
        if extension.is_mixed:
            raise self._between("an extended header and a GNU long name")
        return extension

    def _long(self, data: bytes, before: bytes | None) -> bytes:
        if before is not None:
            raise self._between("two GNU long names")
        ambiguity.check_long(data, self.current)
        return data.rstrip(b"\0")

    def _pax(self, extension: _Extension, data: bytes, *, plain: bool) -> None:
        if extension.has_pax:
            raise self._between("two extended headers")
        extension.has_pax = True
        for key, value in tar.pax_records(data):
            ambiguity.check_record(key, value, self.current, plain=plain)
            self._record(extension, key, value)

    def _between(self, what: str) -> HostileArchive:
        return HostileArchive(f"the archive has {what} in a row after {shown(self.current)}")

    def _global(self, size: int) -> None:
        known = self._globals = self._globals or _Extension()
        known.count += 1
        for key, value in tar.pax_records(self._small_data(size)):
            ambiguity.check_global(key)
            self._record(known, key, value)
        if known.count > _GLOBALS or len(known.pax) + len(known.xattrs) > _GLOBALS:
            raise HostileArchive(f"the archive has more than {_GLOBALS} global headers or records")

    def _small_data(self, size: int) -> bytes:
        if not 0 <= size <= self._limits.pax_header:
            raise HostileArchive(
                f"the archive has an extended header of {size} bytes after {shown(self.current)}, "
                f"the limit is {self._limits.pax_header}"
            )
        self._left, self._padding = size, -size % tar.BLOCK
        return self._read_data(size)

    def _read_data(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise self._cut_off()
        self._left -= size
        return data

    def _skip_rest(self) -> None:
        size, padding = self._left + self._padding, self._padding
        self._left = self._padding = 0
        while size:
            part = self._stream.some(size)
            if not part:
                if size <= padding:
                    return  # only the padding of the last entry is missing
                raise self._cut_off()
            size -= len(part)

    def _record(self, extension: _Extension, key: bytes, value: bytes) -> None:
        if key.startswith(tar.XATTR_PREFIX):
            extension.xattrs[tar.xattr_name(key)] = value
            extension.xattr_bytes += len(key) - len(tar.XATTR_PREFIX) + len(value)
            if extension.xattr_bytes > self._limits.xattrs:
                raise HostileArchive(
                    f"the entry after {shown(self.current)} has more than {self._limits.xattrs} bytes of extended "
                    "attributes, which is the limit"
                )
        elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            extension.has_sparse = True
            extension.sparse_pairs.append(tar.unsigned(value))
        elif value:
            extension.pax[key] = value
            extension.has_sparse |= key.startswith(b"GNU.sparse.")
        else:
            extension.pax.pop(key, None)

    def _member(self, block: bytes, extension: _Extension | None) -> Member:
        name, owner, size, mtime, kind, link, magic, device, prefix = tar.FIELDS.unpack(block)
        name = name.partition(b"\0")[0]
        if prefix[0]:
            ambiguity.check_prefix(name, magic, prefix, block)
            if magic.startswith(tar.USTAR_MAGIC):
                name = prefix.partition(b"\0")[0] + b"/" + name
        mode, uid, gid = tar.mode_and_owner(owner)
        member = Member(
            name,
            tar.REGULAR if kind in _FILES else kind,
            mode,
            uid,
            gid,
            tar.number(size),
            tar.number(mtime) * 1_000_000_000,
            link.partition(b"\0")[0],
            0,
        )
        if extension or self._globals:
            self._apply(member, extension or _Extension())
        if extension and extension.has_sparse:
            plain = kind in _FILES and not member.name.endswith(b"/")
            ambiguity.check_sparse(member.name, extension.pax, pairs=bool(extension.sparse_pairs), plain=plain)
        self.current = member.name
        if magic == tar.GNU_MAGIC or kind in _LINKS:
            target = link.rstrip(b"\0") if extension and extension.link is not None else member.link
            ambiguity.check_fields(member.name, kind, magic, target, block)
        if not -tar.TIME_MAX < member.mtime < tar.TIME_MAX:
            member.mtime = tar.clamp_time(member.mtime)
        if kind in _DEVICES:
            member.device = (tar.number(device[:8]), tar.number(device[8:]))
        if kind in _HEADER_ONLY:
            if member.size:
                self._no_data(member, magic, extension)
        else:
            self._find_data(member, kind, block, extension)
        return member

    def _no_data(self, member: Member, magic: bytes, extension: _Extension | None) -> None:
        """Set the size to 0. Old tars write the size of a hard link's file; bsdtar skips data after other formats."""
        if member.type != tar.HARD_LINK or ambiguity.may_have_data(magic, extension.pax if extension else {}):
            self._sized = member.name or b"."
        member.size = 0

    def _find_data(self, member: Member, kind: bytes, block: bytes, extension: _Extension | None) -> None:
        size = member.real_size = member.size
        if size < 0:
            raise HostileArchive(f"{shown(member.name)} has a negative size")
        self._left, self._padding = size, -size % tar.BLOCK
        if member.name.endswith(b"/") and (member.type == tar.REGULAR or kind == tar.GNU_SPARSE):
            ambiguity.check_slash(member.name, kind)
            member.type = tar.DIRECTORY  # V7's way to say directory
            self._sized = member.name if size else b""
            self._left = self._padding = 0
        if kind == tar.GNU_VOLUME:
            ambiguity.check_label(member.name, size, extended=extension is not None)
        if kind == tar.GNU_SPARSE:
            self._old_sparse(member, block)
        elif member.type != tar.REGULAR:
            member.size = member.real_size = 0  # its data, if any, is skipped
        elif extension:
            self._pax_sparse(member, extension)
        if extension and (stated := extension.pax.get(b"SCHILY.realsize")):
            ambiguity.check_star_size(member.name, stated, member.real_size)
        if member.real_size > self._limits.apparent_size:
            raise HostileArchive(
                f"{shown(member.name)} is {member.real_size} bytes long, the limit is {self._limits.apparent_size}"
            )

    def _apply(self, member: Member, extension: _Extension) -> None:
        if extension.name is not None:
            member.name = extension.name
        if extension.link is not None:
            member.link = extension.link
        pax, member.xattrs = extension.pax, extension.xattrs
        if self._globals:
            pax, member.xattrs = self._globals.pax | pax, self._globals.xattrs | member.xattrs
        member.name = pax.get(b"GNU.sparse.name", pax.get(b"path", member.name))
        member.link = pax.get(b"linkpath", member.link)
        if b"size" in pax:
            member.size = tar.unsigned(pax[b"size"])
        if b"mtime" in pax:
            member.mtime = tar.nanoseconds(pax[b"mtime"])
        if b"uid" in pax:
            member.uid = tar.unsigned(pax[b"uid"])
        if b"gid" in pax:
            member.gid = tar.unsigned(pax[b"gid"])
        if b"\0" in member.name or b"\0" in member.link:
            raise HostileArchive(f"{shown(member.name)} has a zero byte in its name or its target")

    def _old_sparse(self, member: Member, block: bytes) -> None:
        entries = block[386:482]
        more = block[482]
        while more:
            part = self._stream.block()
            if len(part) < tar.BLOCK:
                raise self._cut_off()
            entries += part[:504]
            more = part[504]
            if len(entries) > self._limits.pax_header:
                raise HostileArchive(f"the sparse map of {shown(member.name)} passes the limit")
        member.sparse = tar.old_sparse_entries(entries)
        member.real_size = tar.number(block[483:495])
        member.type = tar.REGULAR
        tar.check_sparse(member.sparse, stored=member.size, size=member.real_size)

    def _pax_sparse(self, member: Member, extension: _Extension) -> None:
        pax = extension.pax
        if pax.get(b"GNU.sparse.major") == b"1" and pax.get(b"GNU.sparse.minor") == b"0":
            numbers = self._sparse_map(member)
        elif b"GNU.sparse.map" in pax:
            numbers = [tar.unsigned(part) for part in pax[b"GNU.sparse.map"].split(b",")]
        elif extension.sparse_pairs or b"GNU.sparse.size" in pax:
            numbers = extension.sparse_pairs
        else:
            return
        size = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size"))
        if size is None or len(numbers) % 2:
            raise HostileArchive(f"{shown(member.name)} has a damaged sparse map")
        member.real_size = tar.unsigned(size)
        member.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
        member.size = self._left
        tar.check_sparse(member.sparse, stored=member.size, size=member.real_size)

    def _sparse_map(self, member: Member) -> list[int]:
        """Format 1.0: decimal lines in front of the data, padded to whole blocks."""
        lines: list[bytes] = []
        rest = b""
        taken = 0
        wanted = 1
        while len(lines) < wanted:
            if self._left < tar.BLOCK or taken > self._limits.pax_header:
                raise HostileArchive(f"{shown(member.name)} has a damaged sparse map")
            *new, rest = (rest + self._read_data(tar.BLOCK)).split(b"\n")
            lines += new
            taken += tar.BLOCK
            if wanted == 1 and lines:
                wanted = 1 + 2 * tar.unsigned(lines[0])
        return [tar.unsigned(line) for line in lines[1:wanted]]

    def _cut_off(self) -> HostileArchive:
        where = f"inside or after {shown(self.current)}" if self.current else "inside its first header"
        return HostileArchive(f"the archive is cut off: it ends {where}")
