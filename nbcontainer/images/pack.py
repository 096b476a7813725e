"""Packs a directory as a layer or as a root file system: canonically, so that the same tree gives the same bytes.

Sorted names, numeric owners without names, whole seconds, ustar headers with pax records where they do not do
(POSIX.1-2017 pax; OCI image-spec layer.md). Runs of zeros in large files are left out as holes (GNU sparse format
1.0), found in the content and not asked of the file system, which would answer differently elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images import tar_format as tar
from nbcontainer.images.compression import Compression, Writer
from nbcontainer.images.extract import OPAQUE, OPAQUE_XATTR, WHITEOUT
from nbcontainer.images.limits import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER = 1 << 20
_HOLE = 64 << 10  # bytes; zeros are looked for in pieces of this size
_HOLE_GRAIN = bytes(_HOLE)
_SPARSE_FROM = 1 << 20  # bytes; smaller files are not worth a map
_OCTAL_7, _OCTAL_11 = 8**7 - 1, 8**11 - 1
_TRAILER = bytes(2 * tar.BLOCK)


@dataclass(frozen=True)
class Packed:
    """What was packed. All fields are JSON's own types.

    `diff_id` is the digest of the uncompressed tar, `blob_digest` and `blob_size` (bytes) are of what was written,
    `size` is the bytes of file contents, holes left out.
    """

    diff_id: str
    blob_digest: str
    blob_size: int
    size: int
    entries: int


def pack_layer(
    root_fd: int,
    out_fd: int,
    *,
    compression: Compression,
    clamp: int | None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Writes the overlay upper directory `root_fd` to `out_fd` as an OCI layer: deletes become whiteouts.

    `clamp` (SOURCE_DATE_EPOCH, seconds) is the latest time an entry may have. Both descriptors stay the caller's.
    Raises `ImageError` for a name that a layer cannot hold, `OSError`.
    """
    return _Packer(root_fd, out_fd, compression, clamp, progress, layer=True).run()


def pack_tree(
    root_fd: int,
    out_fd: int,
    *,
    compression: Compression,
    clamp: int | None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Writes the tree `root_fd` to `out_fd` as a root file system tar, as `docker export` does. See `pack_layer`."""
    return _Packer(root_fd, out_fd, compression, clamp, progress, layer=False).run()


class _Output:
    """The tar on its way out: gathered into large writes, hashed before it is compressed."""

    def __init__(self, fd: int, compression: Compression) -> None:
        self._writer = Writer(fd, compression)
        self._plain_hash = None if compression is Compression.NONE else hashlib.sha256()
        self._parts: list[bytes] = []
        self._waiting = 0
        self.total = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _BUFFER:
            self._flush()

    def pad(self, size: int) -> None:
        """Zeros up to the next block after `size` bytes."""
        if rest := -size % tar.BLOCK:
            self.write(tar.ZEROS[:rest])

    def finish(self) -> tuple[str, str, int]:
        """(diff_id, blob's digest, blob's size)."""
        self.write(_TRAILER)
        self._flush()
        self._writer.finish()
        blob = self._writer.digest
        plain = blob if self._plain_hash is None else f"sha256:{self._plain_hash.hexdigest()}"
        return plain, blob, self._writer.size

    def _flush(self) -> None:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self.total += len(data)
        self._waiting = 0
        if self._plain_hash is not None:
            self._plain_hash.update(data)
        self._writer.write(data)


class _Packer:
    def __init__(
        self,
        root_fd: int,
        out_fd: int,
        compression: Compression,
        clamp: int | None,
        progress: Callable[[int], None] | None,
        *,
        layer: bool,
    ) -> None:
        self._root = root_fd
        self._out = _Output(out_fd, compression)
        self._clamp = clamp
        self._progress = progress
        self._layer = layer
        self._linked: dict[tuple[int, int], bytes] = {}
        self._entries = 0
        self._size = 0
        self._told = 0

    def run(self) -> Packed:
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            fd = self._open_directory(path)
            try:
                below = self._directory(fd, path)
            finally:
                os.close(fd)
            waiting += sorted(below, reverse=True)
            self._tell()
        diff_id, blob, size = self._out.finish()
        return Packed(diff_id, blob, size, self._size, self._entries)

    def _open_directory(self, path: bytes) -> int:
        try:
            return os.open(path or b".", _LIST, dir_fd=self._root)
        except OSError as error:
            if len(path) >= 4095:  # PATH_MAX
                raise _unstorable(path, f"a path of {len(path)} bytes") from error
            raise

    def _tell(self) -> None:
        if self._progress is not None and self._out.total - self._told >= _BUFFER:
            self._told = self._out.total
            self._progress(self._told)

    def _directory(self, fd: int, path: bytes) -> list[bytes]:
        """Packs a directory's own entry and all in it that is no directory; the paths of those that are."""
        facts = os.fstat(fd)
        attributes = self._xattrs(fd)
        # The root goes without an entry of its own, as in Docker's layers, unless it says something.
        if path or stat.S_IMODE(facts.st_mode) != 0o755 or facts.st_uid or facts.st_gid or attributes:
            self._entry(path + b"/" if path else b"./", facts, tar.DIRECTORY, xattrs=attributes)
        prefix = path + b"/" if path else b""
        if self._layer and path and _is_opaque(fd):
            self._marker(prefix + OPAQUE, facts)
        below = []
        with os.scandir(fd) as entries:
            names = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
        for name, is_directory in names:
            if name.startswith(WHITEOUT):
                raise _unstorable(prefix + name, "a name that begins with .wh., which means a deletion in a layer")
            if is_directory:
                below.append(prefix + name)
            else:
                self._leaf(fd, name, prefix + name)
        return below

    def _leaf(self, directory: int, name: bytes, path: bytes) -> None:
        facts = os.lstat(name, dir_fd=directory)
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFCHR and facts.st_rdev == 0:
            if self._layer:
                head, _, leaf = path.rpartition(b"/")
                self._marker((head + b"/" if head else b"") + WHITEOUT + leaf, facts)
            return
        if kind == stat.S_IFSOCK:
            return  # tar has no type for it, and it is dead without its process
        if facts.st_nlink > 1:
            first = self._linked.setdefault((facts.st_dev, facts.st_ino), path)
            if first != path:
                self._entry(path, facts, tar.HARD_LINK, link=first)
                return
        if kind == stat.S_IFREG:
            self._file(directory, name, path, facts)
        elif kind == stat.S_IFLNK:
            self._entry(path, facts, tar.SYMLINK, link=os.readlink(name, dir_fd=directory))
        else:
            types = {stat.S_IFIFO: tar.FIFO, stat.S_IFCHR: tar.CHAR, stat.S_IFBLK: tar.BLOCK_DEVICE}
            self._entry(path, facts, types[kind])

    def _file(self, directory: int, name: bytes, path: bytes, facts: os.stat_result) -> None:
        fd = os.open(name, _READ, dir_fd=directory)
        try:
            attributes = self._xattrs(fd)
            size = facts.st_size
            if size >= _SPARSE_FROM:
                self._large_file(fd, path, facts, attributes)
                return
            self._entry(path, facts, tar.REGULAR, size=size, xattrs=attributes)
            if size:
                self._write_piece(fd, path, 0, size)
                self._out.pad(size)
        finally:
            os.close(fd)

    def _large_file(self, fd: int, path: bytes, facts: os.stat_result, attributes: dict[bytes, bytes]) -> None:
        pieces = _data_pieces(fd, facts.st_size)
        if pieces == [(0, facts.st_size)]:
            self._entry(path, facts, tar.REGULAR, size=facts.st_size, xattrs=attributes)
            stored = facts.st_size
        else:
            # Format 1.0 ends its map at the file's end, with an empty piece where there is a hole.
            if not pieces or sum(pieces[-1]) < facts.st_size:
                pieces.append((facts.st_size, 0))
            text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
            text += bytes(-len(text) % tar.BLOCK)
            stored = len(text) + sum(length for _, length in pieces)
            head, _, leaf = path.rpartition(b"/")
            records = {
                b"GNU.sparse.major": b"1",
                b"GNU.sparse.minor": b"0",
                b"GNU.sparse.name": path,
                b"GNU.sparse.realsize": b"%d" % facts.st_size,
            }
            stand_in = (head + b"/" if head else b"") + b"GNUSparseFile.0/" + leaf
            self._entry(stand_in, facts, tar.REGULAR, size=stored, xattrs=attributes, records=records)
            self._out.write(text)
        for offset, length in pieces:
            self._write_piece(fd, path, offset, length)
        self._out.pad(stored)

    def _write_piece(self, fd: int, path: bytes, offset: int, length: int) -> None:
        self._size += length
        while length:
            data = os.pread(fd, min(length, _BUFFER), offset)
            if not data:
                raise ImageError(f"{shown(path)} became shorter while it was packed", hint="try again")
            self._out.write(data)
            offset += len(data)
            length -= len(data)
            self._tell()

    def _marker(self, path: bytes, facts: os.stat_result) -> None:
        """An empty file that says something about a lower layer."""
        self._header(path, 0o644, 0, 0, 0, self._time(facts), tar.REGULAR, b"", {})

    def _entry(
        self,
        path: bytes,
        facts: os.stat_result,
        kind: bytes,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
        records: dict[bytes, bytes] | None = None,
    ) -> None:
        more = dict(records) if records else {}
        for name, value in sorted((xattrs or {}).items()):
            more[tar.XATTR_PREFIX + name] = value
        mode = stat.S_IMODE(facts.st_mode)
        device = facts.st_rdev if kind in (tar.CHAR, tar.BLOCK_DEVICE) else 0
        time = self._time(facts)
        self._header(path, mode, facts.st_uid, facts.st_gid, size, time, kind, link, more, device)

    def _time(self, facts: os.stat_result) -> int:
        seconds = facts.st_mtime_ns // 1_000_000_000
        return seconds if self._clamp is None else min(seconds, self._clamp)

    def _header(
        self,
        path: bytes,
        mode: int,
        uid: int,
        gid: int,
        size: int,
        mtime: int,
        kind: bytes,
        link: bytes,
        records: dict[bytes, bytes],
        device: int = 0,
    ) -> None:
        """One header, after an extended one for whatever does not fit its fields."""
        self._entries += 1
        name, prefix = tar.split_name(path)
        if name is None:
            records.setdefault(b"path", path)
            name, prefix = path[:100], b""
        if len(link) > 100:
            records[b"linkpath"] = link
            link = link[:100]
        if not 0 <= mtime <= _OCTAL_11:
            records[b"mtime"] = b"%d" % mtime
            mtime = 0
        if size > _OCTAL_11:
            records[b"size"] = b"%d" % size
            size_field = 0
        else:
            size_field = size
        if uid > _OCTAL_7:
            records[b"uid"] = b"%d" % uid
            uid = 0
        if gid > _OCTAL_7:
            records[b"gid"] = b"%d" % gid
            gid = 0
        if records:
            data = b"".join(tar.pax_record(key, value) for key, value in sorted(records.items()))
            leaf = b"PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2]
            self._out.write(tar.header(leaf[:100], b"", 0o644, 0, 0, len(data), 0, tar.PAX, b""))
            self._out.write(data)
            self._out.pad(len(data))
        self._out.write(tar.header(name, prefix, mode, uid, gid, size_field, mtime, kind, link, device))

    def _xattrs(self, fd: int) -> dict[bytes, bytes]:
        """The attributes that travel: user.* and capabilities, not overlayfs' own."""
        try:
            names = os.listxattr(fd)
        except OSError:
            return {}  # a file system without them
        kept = {}
        for name in names:
            if name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay.")):
                kept[os.fsencode(name)] = os.getxattr(fd, name)
        return kept


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def _data_pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """(offset, length) of what is not zeros, in grains of 64 KiB: by the content, holes skipped without reading."""
    pieces: list[tuple[int, int]] = []
    for start, end in _extents(fd, size):
        offset = start - start % _HOLE
        while offset < end:
            data = os.pread(fd, min(_BUFFER, size - offset), offset)
            for at in range(0, len(data), _HOLE):
                grain = data[at : at + _HOLE]
                if grain == _HOLE_GRAIN[: len(grain)]:
                    continue
                begin = offset + at
                if pieces and sum(pieces[-1]) >= begin:
                    first = pieces[-1][0]
                    pieces[-1] = (first, max(sum(pieces[-1]), begin + len(grain)) - first)
                else:
                    pieces.append((begin, len(grain)))
            if not data:
                break
            offset += len(data)
    return pieces


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each extent that may hold data (SEEK_DATA, lseek(2))."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: nothing but a hole up to the end
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, offset


def _unstorable(path: bytes, what: str) -> ImageError:
    return ImageError(f"{shown(path)} has {what}: an image cannot hold it", hint="rename or remove it in a cell")
