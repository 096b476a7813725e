"""Making the entries of an archive below a directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.directories import Directories
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.metadata import UNKNOWN, Metadata, kept_xattrs
from nbcontainer.images.layers.tree import Place, Tree, plain_parts
from nbcontainer.images.layers.whiteouts import OPAQUE, OPAQUE_XATTR, ORIGIN_XATTR, WHITEOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.layers.directories import Directory
    from nbcontainer.images.layers.tar_reader import Member

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TARGET_MAX = 4095  # PATH_MAX without its zero byte
_AUFS = (b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk")
_OF_AUFS = b".wh..wh."
_AUFS_LINKS = b".wh..wh.plnk"
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}


class Extractor:
    """Makes entries below `root_fd`; `finish` then sets whiteouts and the metadata of directories.

    `copy(fd, size)` writes the next bytes of the current entry's data to a descriptor. Owners are numbers; with
    `single_id` everything belongs to the caller. With `whiteouts`, entries `.wh.NAME` become overlay whiteouts (OCI
    image-spec layer.md, kernel overlayfs.rst with userxattr), else they are refused. With `keep_root`, the metadata
    of the root itself stays.
    """

    def __init__(
        self,
        root_fd: int,
        copy: Callable[[int, int], None],
        limits: Limits,
        *,
        single_id: bool,
        whiteouts: bool,
        keep_root: bool = False,
    ) -> None:
        self._copy = copy
        self._limits = limits
        self._whiteouts_allowed = whiteouts
        self._tree = Tree(root_fd, limits, self._made)
        self._metadata = Metadata(root_fd, single_id=single_id)
        self._directories = Directories()
        self._keep_root = keep_root
        if not keep_root:
            self._directories.root.record(None, UNKNOWN)
        self._missing = 0  # directories that were made without an entry
        self._whiteouts: set[bytes] = set()
        self._skipped: dict[bytes, None] = {}
        self._links = b".nbcontainer-" + secrets.token_hex(16).encode()  # a name that no archive has
        self._makers = {
            tar.REGULAR: self._file,
            tar.DIRECTORY: self._directory,
            tar.GNU_DUMP_DIRECTORY: self._directory,
            tar.SYMLINK: self._symlink,
            tar.HARD_LINK: self._hard_link,
            tar.CHAR: self._node,
            tar.BLOCK_DEVICE: self._node,
            tar.FIFO: self._node,
        }
        self.size = 0
        self.entries = 0

    @property
    def skipped(self) -> tuple[str, ...]:
        """Paths of device nodes that cannot be made here, and of hard links to them."""
        return tuple(os.fsdecode(path) for path in self._skipped)

    @property
    def squashed(self) -> str:
        """A sentence about the files whose owners are not mapped here; empty if there are none."""
        return self._metadata.squashed

    def close(self) -> None:
        """Close all open directories."""
        self._tree.close()

    def add(self, member: Member) -> None:
        """Make one entry; it replaces an older file. Raises `HostileArchive`, `ImageError`, `OSError`."""
        self.entries += 1
        self.size += member.size
        if self.entries + self._missing > self._limits.entries or self.size > self._limits.bytes:
            raise self._past_limits(member.name)
        make = self._makers.get(member.type)
        if make is None or not member.name or (_OF_AUFS in member.name and self._left_out(member)):
            return  # a volume's label or an entry without a name has no use in an image
        if member.xattrs:
            member.xattrs = kept_xattrs(member.name, member.xattrs)
        place = self._tree.place(member.name)
        if place is None:
            self._root(member)
        elif place.name.startswith(WHITEOUT):
            self._whiteout(member, place)
        else:
            make(member, place)

    def finish(self) -> None:
        """Make the whiteouts, then set the metadata of directories, the innermost first. Raises as `add` does."""
        with contextlib.suppress(FileNotFoundError):
            if (links := self._tree.place(self._links, create=False)) is not None:
                self._tree.remove(links)
        for path in sorted(self._whiteouts):
            self._make_whiteout(path)
        # A directory's mode can lock a plain user out, and every entry made in it changes its time.
        self._directories.finish(self._tree.root_fd, self._finish_directory)

    def _past_limits(self, name: bytes) -> HostileArchive:
        entries, size = self._limits.entries, self._limits.bytes
        what = f"{size} bytes of data" if self.size > size else f"{entries} entries"
        return HostileArchive(f"the archive has more than {what}, which is the limit, at {shown(name)}")

    # --- types of entries

    def _root(self, member: Member) -> None:
        if member.type != tar.DIRECTORY:
            raise HostileArchive(f"the archive's root {shown(member.name)} is not a directory")
        if not self._keep_root:
            self._directories.root.record(member, UNKNOWN)

    def _file(self, member: Member, place: Place) -> None:
        mode = self._metadata.mode_to_make(member)
        try:
            fd = os.open(place.name, _CREATE, mode, dir_fd=place.directory)
        except FileExistsError:
            self._tree.remove(place)
            fd = os.open(place.name, _CREATE, mode, dir_fd=place.directory)
        try:
            if member.sparse is None:
                if member.size:
                    self._copy(fd, member.size)
            else:
                self._sparse(fd, member, member.sparse)
            self._metadata.set(fd, member, mode)
        finally:
            os.close(fd)

    def _sparse(self, fd: int, member: Member, pieces: tar.Sparse) -> None:
        for offset, length in pieces:
            os.lseek(fd, offset, os.SEEK_SET)
            self._copy(fd, length)
        os.ftruncate(fd, member.real_size)

    def _directory(self, member: Member, place: Place) -> None:
        mode = self._metadata.directory_mode_to_make(member)
        try:
            os.mkdir(place.name, mode, dir_fd=place.directory)
        except FileExistsError:
            if _is_directory(place):
                mode = UNKNOWN
            else:
                self._tree.remove(place)
                os.mkdir(place.name, mode, dir_fd=place.directory)
        self._directories.at(place.path).record(member, mode)

    def _symlink(self, member: Member, place: Place) -> None:
        target = member.link
        if not target or len(target) > min(_TARGET_MAX, self._limits.path):
            raise HostileArchive(f"{shown(member.name)} is a symbolic link with a target of {len(target)} bytes")
        try:
            os.symlink(target, place.name, dir_fd=place.directory)
        except FileExistsError:
            self._tree.remove(place)
            os.symlink(target, place.name, dir_fd=place.directory)
        self._metadata.set_owner_at(member, place)
        os.utime(place.name, ns=(member.mtime, member.mtime), dir_fd=place.directory, follow_symlinks=False)

    def _hard_link(self, member: Member, place: Place) -> None:
        target = self._pseudo_link(member.link) or member.link
        try:
            source = self._tree.place(target, create=False)
            if source is None:
                raise HostileArchive(f"{shown(member.name)} is a hard link to the archive's root")
            if source.path == place.path:
                return
            state = os.lstat(source.name, dir_fd=source.directory)
        except FileNotFoundError:
            self._missing_source(member, place)
            return
        if stat.S_ISDIR(state.st_mode):
            raise HostileArchive(f"{shown(member.name)} is a hard link to a directory, {shown(member.link)}")
        self._link(source, place, state)

    def _link(self, source: Place, place: Place, state: os.stat_result) -> None:
        try:
            _link(source, place)
        except FileExistsError:
            there = os.lstat(place.name, dir_fd=place.directory)
            if (there.st_dev, there.st_ino) == (state.st_dev, state.st_ino):
                return
            if source.path.startswith(place.path + b"/"):
                raise HostileArchive(
                    f"{shown(place.path)} is a hard link to {shown(source.path)} below itself"
                ) from None
            self._tree.remove(place)
            again = self._tree.place(source.path, create=False)
            assert again is not None
            _link(again, place)

    def _missing_source(self, member: Member, place: Place) -> None:
        if member.link.strip(b"/").removeprefix(b"./") in self._skipped:
            self._skipped[place.path] = None
            return
        raise HostileArchive(
            f"{shown(member.name)} is a hard link to {shown(member.link)}, which is not in the archive before it"
        )

    def _node(self, member: Member, place: Place) -> None:
        mode, device = stat.S_IFIFO, 0
        if member.type != tar.FIFO:
            mode, device = _DEVICE_TYPES[member.type], _device(member)
        try:
            os.lstat(place.name, dir_fd=place.directory)
            self._tree.remove(place)
        except FileNotFoundError:
            pass
        try:
            os.mknod(place.name, mode | 0o600, device, dir_fd=place.directory)
        except PermissionError:
            if mode == stat.S_IFIFO:
                raise
            self._skipped[place.path] = None
            return
        self._metadata.set_owner_at(member, place)
        # This follows links, but the name was made just now and is not a link.
        os.chmod(place.name, member.mode, dir_fd=place.directory)
        os.utime(place.name, ns=(member.mtime, member.mtime), dir_fd=place.directory)

    # --- whiteouts

    def _left_out(self, member: Member) -> bool:
        """Whether a layer has this entry only for AUFS, whose records hosts with old versions of Docker stored.

        They are the names in the root that begin with `.wh..wh.` (moby, pkg/archive/diff.go: WhiteoutMetaPrefix), and
        all below them. A file that other entries are links to gets another name until `finish`. Raises
        `HostileArchive` as `plain_parts` does.
        """
        top = plain_parts(member.name)[:1]
        if not (self._whiteouts_allowed and any(part.startswith(_AUFS) for part in top)):
            return False
        linked = self._pseudo_link(member.name) if member.type in (tar.REGULAR, tar.HARD_LINK) else b""
        member.name = linked or member.name
        return not linked

    def _pseudo_link(self, name: bytes) -> bytes:
        """Return the path of a file of AUFS that has several names, given by its `name`; empty for any other name."""
        if not (self._whiteouts_allowed and _AUFS_LINKS in name):
            return b""
        top, *rest = plain_parts(name)
        return self._links + b"/" + rest[0] if top == _AUFS_LINKS and len(rest) == 1 else b""

    def _whiteout(self, member: Member, place: Place) -> None:
        name = place.name[len(WHITEOUT) :]
        if not self._whiteouts_allowed:
            raise HostileArchive(f"the archive has a forged whiteout: {shown(member.name)} in a root filesystem")
        parent = place.path[: -len(place.name)].rstrip(b"/")
        if place.name == OPAQUE:
            self._directories.at(parent).opaque = True
        elif name in (b"", b".", b"..") or name.startswith(WHITEOUT):
            raise HostileArchive(f"the archive has a whiteout without a name: {shown(member.name)}")
        else:
            self._whiteouts.add(place.path[: -len(place.name)] + name)

    def _make_whiteout(self, path: bytes) -> None:
        try:
            place = self._tree.place(path, create=False)
        except (FileNotFoundError, HostileArchive):
            return  # a later entry has replaced the directory that it was in
        if place is None or place.path != path:
            return
        try:
            mode = os.lstat(place.name, dir_fd=place.directory).st_mode
        except FileNotFoundError:
            os.mknod(place.name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=place.directory)
            self._directories.at(place.above).hides = True
        else:
            # The archive's own entry stays; it hides only what lower layers have in it.
            if stat.S_ISDIR(mode):
                self._directories.at(path).opaque = True

    # --- directories

    def _made(self, path: bytes) -> None:
        self._missing += 1
        if self.entries + self._missing > self._limits.entries:
            raise self._past_limits(path)
        self._directories.at(path).record(None, 0o755)

    def _finish_directory(self, parent: int, name: bytes, directory: Directory) -> None:
        marked = directory.opaque or directory.hides
        if not (directory.recorded or marked):
            return
        member, mode = directory.member, directory.mode
        try:
            if mode >= 0 and self._metadata.is_done(member, mode) and not marked and not self._tree.removed:
                time = member.mtime if member else 0
                os.utime(name, ns=(time, time), dir_fd=parent)
                return
            fd = os.open(name, _LIST, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return  # a later entry has replaced it
        try:
            if directory.opaque:
                os.setxattr(fd, OPAQUE_XATTR, b"y")
            if directory.hides:
                with contextlib.suppress(OSError):  # whiteouts work without it, on file systems without attributes
                    os.setxattr(fd, ORIGIN_XATTR, b"")
            if member is not None:
                self._metadata.set(fd, member, mode)
            elif directory.recorded:
                self._metadata.set_unnamed(fd)
        finally:
            os.close(fd)


def _link(source: Place, place: Place) -> None:
    os.link(source.name, place.name, src_dir_fd=source.directory, dst_dir_fd=place.directory, follow_symlinks=False)


def _is_directory(place: Place) -> bool:
    return stat.S_ISDIR(os.lstat(place.name, dir_fd=place.directory).st_mode)


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise HostileArchive(f"{shown(member.name)} has the device number {major}:{minor}, which is invalid on Linux")
    if member.type == tar.CHAR and major == minor == 0:
        raise HostileArchive(f"the archive has a forged whiteout: {shown(member.name)} is the device 0:0")
    return os.makedev(major, minor)
