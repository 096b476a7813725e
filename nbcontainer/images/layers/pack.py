"""Packing a directory as a layer or as a root file system: the same tree gives the same bytes.

Sorted names, each directory's files before the directories in it; numeric owners without names; whole seconds; runs
of zeros in large files left out (GNU sparse format 1.0). Sources: OCI image-spec layer.md, the GNU tar manual.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.sparse import data_pieces
from nbcontainer.images.layers.tar_writer import TarWriter
from nbcontainer.images.layers.whiteouts import OPAQUE, WHITEOUT, is_opaque

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.layers.sparse import Pieces

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER = 1 << 20
_PATH_MAX = 4095  # what a system call takes, without its zero byte
_TYPES = {stat.S_IFIFO: tar.FIFO, stat.S_IFCHR: tar.CHAR, stat.S_IFBLK: tar.BLOCK_DEVICE}


@dataclass(frozen=True)
class Packed:
    """The result of packing. All fields have JSON types.

    `diff_id` is the digest of a layer's uncompressed tar, `blob_digest` that of what was written, both empty for a
    tree; `blob_size` is its bytes, `size` those of file contents, holes left out.
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
    """Write the overlay upper directory `root_fd` to `out_fd` as an OCI layer; deletions become whiteouts.

    `clamp` (SOURCE_DATE_EPOCH, seconds) is the latest time of an entry. The root has an entry of its own if its owner,
    mode or attributes are unusual. The caller closes both descriptors. Raises `ImageError` for a file that a layer
    cannot hold, and `OSError`.
    """
    with TarWriter(out_fd, compression) as out:
        return _Packer(root_fd, out, clamp, progress, layer=True).run()


def pack_tree(
    root_fd: int,
    out_fd: int,
    *,
    compression: Compression,
    clamp: int | None,
    progress: Callable[[int], None] | None = None,
) -> Packed:
    """Write the tree `root_fd` to `out_fd` as a root file system tar, like `docker export`. See `pack_layer`."""
    with TarWriter(out_fd, compression, hashed=False) as out:
        return _Packer(root_fd, out, clamp, progress, layer=False).run()


def pack_named(top_fd: int, name: bytes, out_fd: int) -> Packed:
    """Write the file or directory `top_fd` to `out_fd` as a tar in which it has this name, as `docker cp NAME:PATH -`.

    With an empty name, a directory's content has the names that it has there. A link is O_PATH. See `pack_layer`.
    """
    with TarWriter(out_fd, Compression.NONE, hashed=False) as out:
        packer = _Packer(top_fd, out, None, None, layer=False, name=name)
        return packer.run() if stat.S_ISDIR(os.fstat(top_fd).st_mode) else packer.run_single()


class _Packer:
    """`name` is that of the root in the tar, empty if the root is that of the tar, too."""

    def __init__(
        self,
        root_fd: int,
        out: TarWriter,
        clamp: int | None,
        progress: Callable[[int], None] | None,
        *,
        layer: bool,
        name: bytes = b"",
    ) -> None:
        self._root = root_fd
        self._name = name
        self._above = name + b"/" if name else b""
        self._out = out
        self._clamp = clamp
        self._progress = progress
        self._layer = layer
        self._limits = Limits()
        self._linked: dict[tuple[int, int], bytes] = {}
        self._size = 0
        self._reported = 0

    def run(self) -> Packed:
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            fd = os.open(path or b".", _LIST, dir_fd=self._root)
            try:
                below = self._directory(fd, path)
            finally:
                os.close(fd)
            below.reverse()
            waiting += below
            self._report()
        return self._finished()

    def run_single(self) -> Packed:
        """Pack a root that is not a directory."""
        facts = os.fstat(self._root)
        if stat.S_ISREG(facts.st_mode):
            self._open_file(self._root, self._name)
        elif stat.S_ISLNK(facts.st_mode):
            self._entry(self._name, facts, tar.SYMLINK, link=os.readlink(b"", dir_fd=self._root))
        else:
            kind = _TYPES.get(stat.S_IFMT(facts.st_mode))
            if kind is None:
                raise _unstorable(self._name, "the type of a socket", "copy a file or a directory")
            self._entry(self._name, facts, kind, device=facts.st_rdev)
        return self._finished()

    def _finished(self) -> Packed:
        written = self._out.finish()
        return Packed(written.diff_id, written.digest, written.size, self._size, self._out.entries)

    def _report(self) -> None:
        if self._progress is not None and self._out.written - self._reported >= _BUFFER:
            self._reported = self._out.written
            self._progress(self._reported)

    def _directory(self, fd: int, path: bytes) -> list[bytes]:
        """Pack a directory's own entry and the files in it; return the paths of the directories in it."""
        facts = os.fstat(fd)
        records = self._xattrs(fd, path)
        # The root has no entry of its own, as in Docker's layers, unless its metadata is unusual.
        shown_path = self._above + (path + b"/" if path else b"")
        if shown_path or stat.S_IMODE(facts.st_mode) != 0o755 or facts.st_uid or facts.st_gid or records:
            self._entry(shown_path or b"./", facts, tar.DIRECTORY, records=records)
        prefix = path + b"/" if path else b""
        if self._layer and path and is_opaque(fd):
            self._marker(prefix + OPAQUE)
        with os.scandir(fd) as entries:
            found = sorted((os.fsencode(entry.name), entry) for entry in entries)
        below = []
        for name, entry in found:
            if name.startswith(WHITEOUT):
                what = "a name that begins with .wh., which means a deletion in a layer"
                raise _unstorable(prefix + name, what, "rename or remove it in a cell")
            if len(prefix) + len(name) > _PATH_MAX:
                raise _unstorable(prefix + name, f"a path of {len(prefix) + len(name)} bytes", "move it up in a cell")
            if entry.is_dir(follow_symlinks=False):
                below.append(prefix + name)
            elif entry.is_file(follow_symlinks=False):
                self._file(fd, name, self._above + prefix + name)
            else:
                self._special(fd, name, self._above + prefix)
        return below

    def _file(self, directory: int, name: bytes, path: bytes) -> None:
        fd = os.open(name, _READ, dir_fd=directory)
        try:
            self._open_file(fd, path)
        finally:
            os.close(fd)

    def _open_file(self, fd: int, path: bytes) -> None:
        facts = os.fstat(fd)
        if facts.st_nlink > 1 and self._is_packed(facts, path):
            return
        records = self._xattrs(fd, path)
        size = facts.st_size
        if size > self._limits.apparent_size:
            raise _unstorable(path, f"a size of {size} bytes", "remove or shorten it in a cell")
        pieces = data_pieces(fd, size)
        if pieces == [(0, size)]:
            self._entry(path, facts, tar.REGULAR, size=size, records=records)
            self._data(fd, path, 0, size)
            self._out.pad(size)
        else:
            self._sparse_file(fd, path, facts, pieces, records)

    def _sparse_file(
        self, fd: int, path: bytes, facts: os.stat_result, pieces: Pieces, records: dict[bytes, bytes]
    ) -> None:
        # The map ends at the file's end, with an empty piece if there is a hole.
        if not pieces or sum(pieces[-1]) < facts.st_size:
            pieces.append((facts.st_size, 0))
        text = b"%d\n" % len(pieces) + b"".join(b"%d\n%d\n" % piece for piece in pieces)
        text += bytes(-len(text) % tar.BLOCK)
        stored = len(text) + sum(length for _, length in pieces)
        head, _, leaf = path.rpartition(b"/")
        records |= {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": path,
            b"GNU.sparse.realsize": b"%d" % facts.st_size,
        }
        stand_in = (head + b"/" if head else b"") + b"GNUSparseFile.0/" + leaf
        self._entry(stand_in, facts, tar.REGULAR, size=stored, records=records)
        self._out.data(text)
        for offset, length in pieces:
            self._data(fd, path, offset, length)
        self._out.pad(stored)

    def _data(self, fd: int, path: bytes, offset: int, length: int) -> None:
        self._size += length
        while length:
            data = os.pread(fd, min(length, _BUFFER), offset)
            if not data:
                raise ImageError(f"{shown(path)} became shorter while it was packed", hint="try again")
            self._out.data(data)
            offset += len(data)
            length -= len(data)
            self._report()

    def _special(self, directory: int, name: bytes, prefix: bytes) -> None:
        """Pack an entry that is neither a file nor a directory."""
        facts = os.lstat(name, dir_fd=directory)
        path = prefix + name
        kind = stat.S_IFMT(facts.st_mode)
        if kind == stat.S_IFCHR and facts.st_rdev == 0:
            if self._layer:
                self._marker(prefix + WHITEOUT + name)
        elif kind == stat.S_IFSOCK:
            pass  # tar has no type for sockets, which are useless without their process
        elif facts.st_nlink > 1 and self._is_packed(facts, path):
            pass
        elif kind == stat.S_IFLNK:
            self._entry(path, facts, tar.SYMLINK, link=os.readlink(name, dir_fd=directory))
        else:
            self._entry(path, facts, _TYPES[kind], device=facts.st_rdev if kind != stat.S_IFIFO else 0)

    def _is_packed(self, facts: os.stat_result, path: bytes) -> bool:
        """Whether a file with several names is in the archive already; if so, add a hard link to it."""
        first = self._linked.setdefault((facts.st_dev, facts.st_ino), path)
        if first == path:
            return False
        self._entry(path, facts, tar.HARD_LINK, link=first)
        return True

    def _marker(self, path: bytes) -> None:
        """Add a whiteout, an empty file. It has no time: the same changes give the same bytes."""
        if len(path) > self._limits.path:
            raise _unstorable(path, f"a deletion with a path of {len(path)} bytes", "move its directory up in a cell")
        self._out.entry(path, tar.REGULAR, 0o644, 0, 0, 0, 0)

    def _entry(
        self,
        path: bytes,
        facts: os.stat_result,
        kind: bytes,
        *,
        size: int = 0,
        link: bytes = b"",
        device: int = 0,
        records: dict[bytes, bytes] | None = None,
    ) -> None:
        mtime = facts.st_mtime_ns // 1_000_000_000
        if self._clamp is not None and mtime > self._clamp:
            mtime = self._clamp
        mode = stat.S_IMODE(facts.st_mode)
        self._out.entry(path, kind, mode, facts.st_uid, facts.st_gid, size, mtime, link, device, records)

    def _xattrs(self, fd: int, path: bytes) -> dict[bytes, bytes]:
        """Return records of the attributes to pack: user.* and capabilities, without those of overlayfs."""
        try:
            names = os.listxattr(fd)
        except OSError:
            return {}  # a file system without them
        records = {}
        total = 0
        for name in names:
            if name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay.")):
                key, value = tar.xattr_key(os.fsencode(name)), os.getxattr(fd, name)
                records[key] = value
                total += len(key) - len(tar.XATTR_PREFIX) + len(value)
        if total > self._limits.xattrs:
            raise _unstorable(path, f"{total} bytes of extended attributes", "remove some with setfattr -x in a cell")
        return records


def _unstorable(path: bytes, what: str, hint: str) -> ImageError:
    return ImageError(f"{shown(path)} has {what}: an image cannot hold it", hint=hint)
