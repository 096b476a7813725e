"""Reading chosen files of a tree. It runs in a sandbox with the tree as its root: nothing is imported later."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ValueUnavailable
from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NAMES_LIMIT = 100_000
"""Files and directories that are looked at."""

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NAMED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.ENAMETOOLONG)
_IRREGULAR = "it is not a regular file"
_CHUNK = 1 << 20


def copy_files(
    root: int, paths: Iterable[str], target: int, limit: int
) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """Write the contents of files to the descriptor `target`, one after the other.

    Return (path, bytes) of each, and (path, reason) of those that cannot be read; an empty reason means that nothing is
    there. A path may lead through links, which stay in the tree of `root`. A directory means all regular files below
    it, and no link there is followed. Raises `ValueUnavailable` if there are more than `limit` bytes, too many names or
    too long paths.
    """
    written = _Written(target, limit)
    missing: list[tuple[str, str]] = []
    for path in paths:
        try:
            fd = openat2(root, path, _OPEN, resolve=_NAMED)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            missing.append((path, _reason(error)))
            continue
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode):
                written.add(path, fd)
            elif stat.S_ISDIR(mode):
                _add_tree(fd, path.rstrip("/"), written)
            else:
                missing.append((path, _IRREGULAR))
        finally:
            os.close(fd)
    return written.files, missing


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ""
    return _IRREGULAR if error.errno == errno.ENXIO else os.strerror(error.errno or 0)  # ENXIO: a socket


def _add_tree(top: int, path: str, written: _Written) -> None:
    """Add the regular files below a directory, by name. Files of other kinds, and links, are left out."""
    waiting = ["."]
    while waiting:
        name = waiting.pop()
        try:
            fd = openat2(top, name, _OPEN, resolve=_BELOW)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise _too_much(path, "a path below it is too long") from None
            if error.errno not in _NOT_THERE:
                raise
            continue
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISREG(mode):
                written.add(f"{path}/{name.removeprefix('./')}", fd)
            elif stat.S_ISDIR(mode):
                waiting += [f"{name}/{below}" for below in written.names(fd, path)]
        finally:
            os.close(fd)


def _too_much(path: str, problem: str) -> ValueUnavailable:
    return ValueUnavailable(f"cannot return {path}: {problem}", hint="return less, or write it to a volume")


class _Written:
    """The files that were written to `target` so far."""

    def __init__(self, target: int, limit: int) -> None:
        self._target = target
        self._left = limit
        self._seen = 0
        self.files: list[tuple[str, int]] = []

    def names(self, fd: int, path: str) -> Iterator[str]:
        """Yield the names in a directory, the last one first. Raises `ValueUnavailable` for too many."""
        found = []
        with os.scandir(fd) as entries:
            for entry in entries:
                self._seen += 1
                if self._seen > NAMES_LIMIT:
                    raise _too_much(path, f"there are more than {NAMES_LIMIT} names")
                found.append(entry.name)
        yield from sorted(found, reverse=True)

    def add(self, path: str, fd: int) -> None:
        """Append a file's content. Raises `ValueUnavailable` at the limit."""
        size = os.fstat(fd).st_size
        if size > self._left:
            raise _too_much(path, "the files are too large together")
        self._left -= size
        copied = 0
        while copied < size and (data := os.read(fd, min(_CHUNK, size - copied))):
            _write(self._target, data)
            copied += len(data)
        self.files.append((path, copied))


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
