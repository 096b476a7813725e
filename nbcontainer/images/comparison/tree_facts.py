"""Facts about chosen paths of a tree. It runs in a sandbox with the tree as its root: nothing is imported later."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.images.comparison.parents import Parents, opened
from nbcontainer.linux.files import data_grains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PathFacts(NamedTuple):
    """What a tree has under one path. All fields have JSON types.

    `mode` has the type and the permissions (inode(7)), `size` is in bytes, `mtime` in nanoseconds, `device` that of a
    device file, `link` the target of a symbolic link. `attributes` is a digest of the extended attributes.
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    device: int
    link: str
    attributes: str

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def facts_of(root: int, paths: Iterable[str], whole: Iterable[str]) -> dict[str, PathFacts]:
    """Return the facts of those absolute `paths` that the tree of descriptor `root` has, by path.

    Of the directories in `whole`, all that is below them is added. No link is followed. Raises `OSError`.
    """
    found: dict[str, PathFacts] = {}
    with Parents(root) as parents:
        for path in paths:
            if (parent := parents.above(path)) is not None:
                with contextlib.suppress(OSError):
                    found[path] = _facts(parent, path.rpartition("/")[2])
    for path in whole:
        for folder, name, below in _walk(root, path):
            if below not in found:
                found[below] = _facts(folder, name)
    return found


def digests_of(root: int, paths: Iterable[str]) -> dict[str, str]:
    """Return a digest of the content of each regular file among absolute `paths`, by path. No link is followed."""
    found = {}
    with Parents(root) as parents:
        for path in paths:
            if (parent := parents.above(path)) is not None:
                with contextlib.suppress(OSError):
                    found[path] = _digest(parent, path.rpartition("/")[2])
    return found


def _walk(root: int, top: str) -> Iterator[tuple[int, str, str]]:
    """Yield a descriptor of the directory, the name and the path of each entry below `top`."""
    waiting = [top]
    while waiting:
        path = waiting.pop()
        folder = opened(root, path)
        if folder is None:
            continue
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield folder, entry.name, f"{path}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/{entry.name}")
        finally:
            os.close(folder)


def _facts(folder: int, name: str) -> PathFacts:
    found = os.lstat(name, dir_fd=folder)
    directory, device = stat.S_ISDIR(found.st_mode), stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return PathFacts(
        found.st_mode,
        found.st_uid,
        found.st_gid,
        0 if directory else found.st_size,
        found.st_mtime_ns,
        found.st_rdev if device else 0,
        os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else "",
        _attributes(folder, name) if directory or stat.S_ISREG(found.st_mode) else "",
    )


def _attributes(folder: int, name: str) -> str:
    """Return a digest of the attributes of a file or directory, empty if it has none or if they cannot be read."""
    try:
        fd = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return ""
    try:
        with contextlib.suppress(OSError):
            pairs = {key: os.getxattr(fd, key) for key in sorted(os.listxattr(fd)) if not _is_overlays(key)}
            return hashlib.sha256(repr(pairs).encode("utf-8", "surrogateescape")).hexdigest() if pairs else ""
    finally:
        os.close(fd)
    return ""


def _is_overlays(attribute: str) -> bool:
    """Whether an attribute is a note of overlayfs about a layer, or the host's own (selinux)."""
    return attribute.startswith(("user.overlay.", "trusted.", "security.selinux"))


def _digest(folder: int, name: str) -> str:
    fd = os.open(name, _READ, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return ""
        digest = hashlib.sha256(str(found.st_size).encode())
        for offset, data in data_grains(fd, found.st_size):
            digest.update(f" {offset} {len(data)} ".encode())
            digest.update(data)
        return digest.hexdigest()
    finally:
        os.close(fd)
