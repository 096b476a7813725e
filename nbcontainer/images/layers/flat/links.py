"""Giving a file of a layer a second name, or a copy if it can have no more names.

A copy is also made of what another container can still change: then the file is not the one that was listed, perhaps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.images.layers.sparse import data_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_NO_LINK = frozenset({errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP})
"""A file has as many names as its file system permits (ext4: 65,000), or the file system has no hard links."""


class Entry(NamedTuple):
    """A name in an open directory."""

    directory: int
    name: bytes


class Replaced(OSError):
    """The file is not the one that was listed: it was removed, or another one has its name."""


class Links:
    """Makes files in a new tree below the descriptor `root` that are those of other trees.

    Names of one file stay names of one file, also if it has to be copied. `paths` of the new tree are relative.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._copies: dict[tuple[int, int], bytes] = {}
        self._made: dict[tuple[int, int], list[bytes]] = {}

    def add(self, source: Entry, facts: os.stat_result, target: Entry, path: bytes) -> None:
        """Make `target`, which is `path` in the new tree, a name of the file `source`. Raises `OSError`."""
        key = (facts.st_dev, facts.st_ino)
        if key in self._copies:
            self._link(self._copies[key], target)
            return
        try:
            os.link(
                source.name,
                target.name,
                src_dir_fd=source.directory,
                dst_dir_fd=target.directory,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            copy(source, facts, target)
            self._use_copy(key, path)
        else:
            if facts.st_nlink > 1:
                self._made.setdefault(key, []).append(path)

    def _use_copy(self, key: tuple[int, int], path: bytes) -> None:
        """Make the names that the file already has in the new tree names of its copy."""
        self._copies[key] = path
        for earlier in self._made.pop(key, ()):
            directory, _, name = earlier.rpartition(b"/")
            folder = os.open(directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
            try:
                facts = os.fstat(folder)
                times = (facts.st_atime_ns, facts.st_mtime_ns)
                os.unlink(name, dir_fd=folder)
                self._link(path, Entry(folder, name))
                os.utime(folder, ns=times)
            finally:
                os.close(folder)

    def _link(self, path: bytes, target: Entry) -> None:
        os.link(path, target.name, src_dir_fd=self._root, dst_dir_fd=target.directory, follow_symlinks=False)


def copy(source: Entry, facts: os.stat_result, target: Entry) -> None:
    """Make `target` a copy of the file `source`, which had these facts when it was listed. Raises `OSError`.

    Raises `Replaced` if that is not the file any more; then nothing is made.
    """
    mode = facts.st_mode
    if stat.S_ISREG(mode):
        _copy_file(source, facts, target)
        return
    if stat.S_ISLNK(mode):
        with _replaced():
            text = os.readlink(source.name, dir_fd=source.directory)
        os.symlink(text, target.name, dir_fd=target.directory)
    else:
        os.mknod(target.name, mode, facts.st_rdev, dir_fd=target.directory)
    os.chown(target.name, facts.st_uid, facts.st_gid, dir_fd=target.directory, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        os.chmod(target.name, stat.S_IMODE(mode), dir_fd=target.directory)
    times = (facts.st_atime_ns, facts.st_mtime_ns)
    os.utime(target.name, ns=times, dir_fd=target.directory, follow_symlinks=False)


@contextlib.contextmanager
def _replaced() -> Iterator[None]:
    """Raise `Replaced` for an error of a name that has gone, or that something else has now."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OTHER:
            raise
        raise Replaced(error.errno, error.strerror, error.filename) from error


_OTHER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EINVAL})
"""Errors of open(2) and readlink(2) for a name of another kind of file, and for one that is not there."""


def _copy_file(source: Entry, facts: os.stat_result, target: Entry) -> None:
    with _replaced():
        reader = os.open(source.name, _READ, dir_fd=source.directory)
    try:
        now = os.fstat(reader)
        if (now.st_dev, now.st_ino, stat.S_IFMT(now.st_mode)) != (facts.st_dev, facts.st_ino, stat.S_IFREG):
            raise Replaced(errno.ESTALE, "another file has its name", source.name)
        writer = os.open(target.name, _MAKE, 0o600, dir_fd=target.directory)
        try:
            for offset, length in data_pieces(reader, now.st_size):
                _copy_range(reader, writer, offset, length)
            os.ftruncate(writer, now.st_size)
            set_metadata(reader, now, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_range(reader: int, writer: int, offset: int, length: int) -> None:
    while length:
        data = os.pread(reader, min(length, _CHUNK), offset)
        if not data:
            return
        os.pwrite(writer, data, offset)
        offset += len(data)
        length -= len(data)


_OVERLAY = ("user.overlay.", "trusted.overlay.")
_ESCAPED = "user.overlay.overlay."
"""An attribute that a container gave a file in the name space of overlayfs (Linux 6.7): the container's own."""


def set_metadata(source: int, facts: os.stat_result, target: int) -> None:
    """Give the open file or directory `target` the owner, attributes, mode and times of `source`. Raises `OSError`.

    What overlayfs notes in attributes is left out, for it is about another tree.
    """
    os.fchown(target, facts.st_uid, facts.st_gid)
    for name in os.listxattr(source):
        if name.startswith(_OVERLAY) and not name.startswith(_ESCAPED):
            continue
        with contextlib.suppress(OSError):  # one of the host's own, which a container does not see (selinux)
            os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
