"""Makes the entries of an archive below a directory."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images import tar_format as tar
from nbcontainer.images.limits import Limits, shown
from nbcontainer.images.tree import Place, Tree

if TYPE_CHECKING:
    from nbcontainer.images.tar_reader import Member, TarReader

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = "user.overlay.opaque"

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ID_MAX = 2**32 - 2  # one more is -1, "leave it as it is"
_TARGET_MAX = 4095  # PATH_MAX without its zero byte
_NOT_KEPT = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP})
_DEVICE_TYPES = {tar.CHAR: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}
_IGNORED = frozenset({tar.SOCKET, tar.GNU_VOLUME})


class Extractor:
    """Makes entries below `root_fd`; `finish` then sets whiteouts and the metadata of directories.

    Owners are numbers; with `single_id` everything stays the caller's own. With `whiteouts`, entries `.wh.NAME`
    become overlay whiteouts (OCI image-spec layer.md, kernel overlayfs.rst with userxattr), else they are refused.
    """

    def __init__(self, root_fd: int, reader: TarReader, limits: Limits, *, single_id: bool, whiteouts: bool) -> None:
        self._reader = reader
        self._limits = limits
        self._single_id = single_id
        self._whiteouts_allowed = whiteouts
        self._tree = Tree(root_fd, limits, self._made)
        self._directories: dict[bytes, Member | None] = {b"": None}
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()
        self._skipped: dict[bytes, None] = {}
        self.size = 0
        self.entries = 0

    @property
    def skipped(self) -> tuple[str, ...]:
        """Paths of device nodes that this machine does not let be made, and of hard links to them."""
        return tuple(os.fsdecode(path) for path in self._skipped)

    def close(self) -> None:
        """Closes what is open."""
        self._tree.close()

    def add(self, member: Member) -> None:
        """Makes one entry, over whatever stands there. Raises `HostileArchive`, `ImageError`, `OSError`."""
        self.entries += 1
        self.size += member.size
        self._check_totals(member)
        if member.type in _IGNORED:
            return
        if member.xattrs:
            member.xattrs = _kept_xattrs(member)
        place = self._tree.place(member.name)
        if place is None:
            self._root(member)
        elif place.name.startswith(WHITEOUT):
            self._whiteout(member, place)
        elif member.type == tar.REGULAR:
            self._file(member, place)
        elif member.type == tar.DIRECTORY or member.type == tar.GNU_DUMP_DIRECTORY:
            self._directory(member, place)
        elif member.type == tar.SYMLINK:
            self._symlink(member, place)
        elif member.type == tar.HARD_LINK:
            self._hard_link(member, place)
        else:
            self._node(member, place)

    def finish(self) -> None:
        """Makes the whiteouts, then sets the directories' metadata, deepest first. Raises as `add` does."""
        for path in sorted(self._whiteouts):
            self._make_whiteout(path)
        # A directory's mode may lock a plain user out, and every entry made in it changes its time.
        for path in sorted(
            self._directories.keys() | self._opaque, key=lambda path: (path.count(b"/") + bool(path), path)
        )[::-1]:
            self._finish_directory(path)

    def _check_totals(self, member: Member) -> None:
        limits = self._limits
        if self.entries > limits.entries:
            raise HostileArchive(
                f"the archive has more than {limits.entries} entries, which is the limit, at {shown(member.name)}"
            )
        if self.size > limits.bytes:
            raise HostileArchive(
                f"the archive has more than {limits.bytes} bytes of data, which is the limit, at {shown(member.name)}"
            )

    # --- what an entry can be

    def _root(self, member: Member) -> None:
        if member.type != tar.DIRECTORY:
            raise HostileArchive(f"the archive's root {shown(member.name)} is no directory")
        self._directories[b""] = member

    def _file(self, member: Member, place: Place) -> None:
        try:
            fd = os.open(place.name, _CREATE, 0o600, dir_fd=place.directory)
        except FileExistsError:
            self._tree.remove(place)
            fd = os.open(place.name, _CREATE, 0o600, dir_fd=place.directory)
        try:
            if member.sparse is None:
                if member.size:
                    self._reader.copy(fd, member.size)
            else:
                self._sparse(fd, member, member.sparse)
            self._metadata(fd, member)
        finally:
            os.close(fd)

    def _sparse(self, fd: int, member: Member, pieces: tar.Sparse) -> None:
        for offset, length in pieces:
            os.lseek(fd, offset, os.SEEK_SET)
            self._reader.copy(fd, length)
        os.ftruncate(fd, member.real_size)

    def _directory(self, member: Member, place: Place) -> None:
        try:
            os.mkdir(place.name, 0o700, dir_fd=place.directory)
        except FileExistsError:
            if not _is_directory(place):
                self._tree.remove(place)
                os.mkdir(place.name, 0o700, dir_fd=place.directory)
        self._directories[place.path] = member

    def _symlink(self, member: Member, place: Place) -> None:
        target = member.link
        if not target or len(target) > min(_TARGET_MAX, self._limits.path):
            raise HostileArchive(f"{shown(member.name)} links to a name of {len(target)} bytes")
        try:
            os.symlink(target, place.name, dir_fd=place.directory)
        except FileExistsError:
            self._tree.remove(place)
            os.symlink(target, place.name, dir_fd=place.directory)
        self._chown_at(member, place)
        os.utime(place.name, ns=(member.mtime, member.mtime), dir_fd=place.directory, follow_symlinks=False)

    def _hard_link(self, member: Member, place: Place) -> None:
        try:
            source = self._tree.place(member.link, create=False)
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
        self._chown_at(member, place)
        # Follows links, but this name was made just now, and is none.
        os.chmod(place.name, member.mode, dir_fd=place.directory)
        os.utime(place.name, ns=(member.mtime, member.mtime), dir_fd=place.directory)

    # --- whiteouts

    def _whiteout(self, member: Member, place: Place) -> None:
        name = place.name[len(WHITEOUT) :]
        if not self._whiteouts_allowed:
            raise HostileArchive(f"the archive has a forged whiteout: {shown(member.name)} in a root filesystem")
        parent = place.path[: -len(place.name)].rstrip(b"/")
        if place.name == OPAQUE:
            self._opaque.add(parent)
        elif name in (b"", b".", b"..") or name.startswith(WHITEOUT):
            raise HostileArchive(f"the archive has a whiteout that hides no name: {shown(member.name)}")
        else:
            self._whiteouts.add(place.path[: -len(place.name)] + name)

    def _make_whiteout(self, path: bytes) -> None:
        try:
            place = self._tree.place(path, create=False)
        except (FileNotFoundError, HostileArchive):
            return  # the directory it stood in has given way to something else in this archive
        if place is None or place.path != path:
            return
        try:
            mode = os.lstat(place.name, dir_fd=place.directory).st_mode
        except FileNotFoundError:
            os.mknod(place.name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=place.directory)
        else:
            # The archive's own entry stays; only what lower layers have below it is hidden.
            if stat.S_ISDIR(mode):
                self._opaque.add(path)

    # --- metadata

    def _made(self, path: bytes) -> None:
        self._directories[path] = None

    def _finish_directory(self, path: bytes) -> None:
        name, directory = b".", self._tree.root_fd
        try:
            if path:
                place = self._tree.place(path, create=False)
                if place is None or place.path != path:
                    return
                name, directory = place.name, place.directory
            fd = os.open(name, _LIST, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError, HostileArchive):
            return  # it, or what it stood in, has given way to something else in this archive
        try:
            member = self._directories.get(path)
            if path in self._opaque:
                os.setxattr(fd, OPAQUE_XATTR, b"y")
            if member is not None:
                self._metadata(fd, member)
            elif path in self._directories:
                os.fchmod(fd, 0o755)
                os.utime(fd, ns=(0, 0))  # not the time of the import: the same archive gives the same tree
        finally:
            os.close(fd)

    def _metadata(self, fd: int, member: Member) -> None:
        # chown clears set-id bits and security.capability, a read-only mode may forbid attributes.
        if not self._single_id:
            self._check_owner(member)
            try:
                os.fchown(fd, member.uid, member.gid)
            except OSError as error:
                raise _owner_error(member, error) from error
        for name, value in member.xattrs.items():
            _set_xattr(fd, name, value)
        os.fchmod(fd, member.mode)
        os.utime(fd, ns=(member.mtime, member.mtime))

    def _chown_at(self, member: Member, place: Place) -> None:
        if self._single_id:
            return
        self._check_owner(member)
        try:
            os.chown(place.name, member.uid, member.gid, dir_fd=place.directory, follow_symlinks=False)
        except OSError as error:
            raise _owner_error(member, error) from error

    def _check_owner(self, member: Member) -> None:
        if not (0 <= member.uid <= _ID_MAX and 0 <= member.gid <= _ID_MAX):
            raise HostileArchive(
                f"{shown(member.name)} belongs to {member.uid}:{member.gid}, which are no ids of Linux"
            )


def _link(source: Place, place: Place) -> None:
    os.link(source.name, place.name, src_dir_fd=source.directory, dst_dir_fd=place.directory, follow_symlinks=False)


def _owner_error(member: Member, error: OSError) -> Exception:
    if error.errno not in (errno.EINVAL, errno.EPERM):
        return error
    why = "outside the ids mapped here" if error.errno == errno.EINVAL else "which this process may not give it"
    return ImageError(f"{shown(member.name)} belongs to {member.uid}:{member.gid}, {why}")


def _is_directory(place: Place) -> bool:
    return stat.S_ISDIR(os.lstat(place.name, dir_fd=place.directory).st_mode)


def _device(member: Member) -> int:
    major, minor = member.device
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise HostileArchive(f"{shown(member.name)} has the device number {major}:{minor}, which Linux does not know")
    if member.type == tar.CHAR and major == minor == 0:
        raise HostileArchive(f"the archive has a forged whiteout: {shown(member.name)} is the device 0:0")
    return os.makedev(major, minor)


def _kept_xattrs(member: Member) -> dict[bytes, bytes]:
    """Those that can be given to a file here: user.* and capabilities; overlayfs' own are refused."""
    kept = {}
    for name, value in member.xattrs.items():
        if name.startswith((b"user.overlay.", b"trusted.overlay.")):
            raise HostileArchive(f"{shown(member.name)} has a forged attribute of overlayfs, {shown(name)}")
        if b"\0" in name or len(name) > 255:
            raise HostileArchive(f"{shown(member.name)} has an attribute with a bad name, {shown(name)}")
        if name.startswith(b"user.") or name == b"security.capability":
            kept[name] = value
    return kept


def _set_xattr(fd: int, name: bytes, value: bytes) -> None:
    """Sets an attribute, or leaves it out where the filesystem or the user namespace does not let it be."""
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        # EINVAL is the kernel's word for a security.capability that is none.
        if error.errno in _NOT_KEPT or (error.errno == errno.EINVAL and name == b"security.capability"):
            return
        raise
