"""Files below a directory that other programs change meanwhile: opened by descriptor, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)
from nbcontainer.linux.libc import int_, syscall, unsigned

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to list a directory."""

PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags for a descriptor of anything, a link itself too."""

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""<linux/fs.h>, renameat2(2)."""

_STRAIGHT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_TRIES = 128


def open_below(root: int, path: bytes, flags: int) -> int:
    """Return a descriptor of `path` below the directory `root`, which the caller closes; `root` itself if it is empty.

    No link and no other file system is entered (openat2(2)): ELOOP and EXDEV. Raises `OSError`.
    """
    for attempt in range(_TRIES):
        try:
            return openat2(root, path or b".", flags | os.O_CLOEXEC, resolve=_STRAIGHT)
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == _TRIES - 1:  # a rename disturbed the look-up
                raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def opened(root: int, path: bytes, flags: int = PLACE) -> Iterator[int]:
    """Yield a descriptor as `open_below` returns it, and close it at the end."""
    fd = open_below(root, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def parent(root: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield a descriptor of the directory that `path` is in, and its name there."""
    above, _, name = path.rpartition(b"/")
    with opened(root, above, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW) as fd:
        yield fd, name


def look(root: int, path: bytes) -> os.stat_result | None:
    """Return what is at `path` (a link itself), None if nothing is there. Raises `OSError`: EXDEV at another mount."""
    try:
        with opened(root, path) as fd:
            return os.fstat(fd)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def is_directory(root: int, path: bytes) -> bool:
    """Return whether a directory is at `path`, in the same file system. Raises `OSError`."""
    facts = look(root, path)
    return facts is not None and stat.S_ISDIR(facts.st_mode)


def names(root: int, path: bytes) -> list[bytes]:
    """Return the names in a directory. Raises `OSError`."""
    with opened(root, path, DIRECTORY) as fd, os.scandir(fd) as entries:
        return [os.fsencode(entry.name) for entry in entries]


def walk(root: int, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield everything below the directory `path`, each directory before what is in it. Raises `OSError`."""
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        for name in names(root, folder):
            place = join(folder, name)
            facts = look(root, place)
            if facts is not None:
                yield place, facts
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append(place)


def join(folder: bytes, name: bytes) -> bytes:
    """Return the path of a name in a directory, relative to the root, which is empty."""
    return folder + b"/" + name if folder else name


def renameat2(old: int, old_name: bytes, new: int, new_name: bytes, flags: int) -> None:
    """Rename between two open directories (renameat2(2), Linux 3.15). Raises `OSError`: EINVAL if not supported."""
    path = os.fsdecode(new_name)
    syscall("renameat2", int_(old), old_name, int_(new), new_name, unsigned(flags), path=path)


_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

ASIDE = b".old"
"""The end of the name of what `exchange` takes away, while it is between both names."""


def rename_new(old: int, old_name: bytes, new: int, new_name: bytes) -> None:
    """Rename to a name that does not exist. Raises `OSError`."""
    try:
        renameat2(old, old_name, new, new_name, RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or look(new, new_name) is not None:
            raise
        os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)  # NFS, and others without flags


def exchange(stage: int, name: bytes, folder: int, leaf: bytes) -> None:
    """Exchange `name` in the directory `stage` with `leaf` in `folder`. Raises `OSError`."""
    try:
        renameat2(stage, name, folder, leaf, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # Without it, the name is missing for a moment.
        os.rename(leaf, name + ASIDE, src_dir_fd=folder, dst_dir_fd=stage)
        os.rename(name, leaf, src_dir_fd=stage, dst_dir_fd=folder)
        os.rename(name + ASIDE, name, src_dir_fd=stage, dst_dir_fd=stage)
