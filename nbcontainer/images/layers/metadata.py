"""Owner, mode, time and attributes of new files, set from their entries with the fewest system calls."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images.layers.limits import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.layers.tar_reader import Member
    from nbcontainer.images.layers.tree import Place

UNKNOWN = -1
"""Instead of the mode that a file was made with: the file existed before."""

_ID_MAX = 2**32 - 2  # one more is -1, which means "unchanged"
_NOT_KEPT = frozenset({errno.EPERM, errno.EACCES, errno.ENOTSUP})


class Metadata:
    """Sets the metadata of files made below `root_fd`. With `single_id` every file belongs to the caller.

    Mode and owner that a file has from its creation are not set again, if the file system sets them reliably.
    """

    def __init__(self, root_fd: int, *, single_id: bool) -> None:
        self._single_id = single_id
        self._own = (os.geteuid(), os.getegid())
        self._plain = _makes_plain_files(root_fd, self._own)
        self._squashed = 0
        self._first = ""

    @property
    def squashed(self) -> str:
        """A sentence about the files whose owners are not mapped here; empty if there are none."""
        if not self._squashed:
            return ""
        count = f"{self._squashed} files" if self._squashed > 1 else "1 file"
        return f"{count} of owners that are not mapped here belong to root, the first is {self._first}"

    def mode_to_make(self, member: Member) -> int:
        """Return the mode to make a file with: the entry's own, without set-id bits before the file is whole."""
        # A read-only mode can forbid attributes.
        return member.mode & 0o777 if self._plain and not member.xattrs else 0o600

    def directory_mode_to_make(self, member: Member) -> int:
        """Return the mode to make a directory with, so that its owner can fill it."""
        return self.mode_to_make(member) | 0o700

    def is_done(self, member: Member | None, made_mode: int) -> bool:
        """Whether a directory made with that mode needs only its time; `member` is None if no entry names it."""
        if member is None:
            return self._plain
        return (
            self._plain
            and made_mode == member.mode
            and not member.xattrs
            and (self._single_id or (member.uid, member.gid) == self._own)
        )

    def set(self, fd: int, member: Member, made_mode: int) -> None:
        """Set the metadata of an open file or directory that was made with `made_mode`. Raises `OSError`."""
        # chown clears set-id bits and security.capability, so it comes first.
        if not self._single_id and (not self._plain or made_mode < 0 or (member.uid, member.gid) != self._own):
            self._set_owner(member, lambda uid, gid: os.fchown(fd, uid, gid))
        if member.xattrs:
            for name, value in member.xattrs.items():
                _set_xattr(fd, name, value)
        if made_mode != member.mode or not self._plain:
            os.fchmod(fd, member.mode)
        os.utime(fd, ns=(member.mtime, member.mtime))

    def set_unnamed(self, fd: int) -> None:
        """Set the metadata of a directory that no entry names."""
        os.fchmod(fd, 0o755)
        os.utime(fd, ns=(0, 0))  # instead of the time of the import: the same archive gives the same tree

    def set_owner_at(self, member: Member, place: Place) -> None:
        """Set the owner of the file at `place`, without following a link. Raises `OSError`."""
        if self._single_id or (self._plain and (member.uid, member.gid) == self._own):
            return
        self._set_owner(
            member, lambda uid, gid: os.chown(place.name, uid, gid, dir_fd=place.directory, follow_symlinks=False)
        )

    def _set_owner(self, member: Member, chown: Callable[[int, int], None]) -> None:
        """Set both ids with `chown`; one that is not mapped here (EINVAL, chown(2)) becomes this process's."""
        _check_owner(member)
        try:
            chown(member.uid, member.gid)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise _owner_error(member, error) from error
            self._squash(member, chown)

    def _squash(self, member: Member, chown: Callable[[int, int], None]) -> None:
        self._squashed += 1
        self._first = self._first or f"{shown(member.name)} of {member.uid}:{member.gid}"
        for uid, gid, own in ((member.uid, -1, (self._own[0], -1)), (-1, member.gid, (-1, self._own[1]))):
            try:
                chown(uid, gid)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise _owner_error(member, error) from error
                chown(*own)
        member.mode &= 0o1777  # a set-id bit would give another user's rights than the image means


def _makes_plain_files(root_fd: int, own: tuple[int, int]) -> bool:
    """Whether a new file has the mode that was asked for, and this process's ids.

    A umask, a default ACL (acl(5)), a set-group-ID directory or the mount option grpid (ext4(5)) change them.
    """
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=root_fd)
    except OSError:
        return False
    try:
        facts = os.fstat(fd)
        return stat.S_IMODE(facts.st_mode) == 0o666 and (facts.st_uid, facts.st_gid) == own
    finally:
        os.close(fd)


def _check_owner(member: Member) -> None:
    if not (0 <= member.uid <= _ID_MAX and 0 <= member.gid <= _ID_MAX):
        raise HostileArchive(f"{shown(member.name)} belongs to {member.uid}:{member.gid}, which are invalid ids")


def _owner_error(member: Member, error: OSError) -> Exception:
    if error.errno != errno.EPERM:
        return error
    why = "which this process is not allowed to set"
    return ImageError(f"{shown(member.name)} belongs to {member.uid}:{member.gid}, {why}")


def kept_xattrs(name: bytes, xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the attributes that can be set on file `name`: user.* and capabilities. Those of overlayfs are refused."""
    kept = {}
    for key, value in xattrs.items():
        if key.startswith((b"user.overlay.", b"trusted.overlay.")):
            raise HostileArchive(f"{shown(name)} has a forged attribute of overlayfs, {shown(key)}")
        if b"\0" in key or len(key) > 255:
            raise HostileArchive(f"{shown(name)} has an attribute with a bad name, {shown(key)}")
        if key.startswith(b"user.") or key == b"security.capability":
            kept[key] = value
    return kept


def _set_xattr(fd: int, name: bytes, value: bytes) -> None:
    """Set an attribute, unless the file system or the user namespace does not allow it. Raises `OSError`."""
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        # The kernel returns EINVAL for an invalid security.capability.
        if error.errno in _NOT_KEPT or (error.errno == errno.EINVAL and name == b"security.capability"):
            return
        raise
