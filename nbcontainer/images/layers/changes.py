"""The changes in an overlay's upper directory: what was added, changed or deleted in its lowers."""

from __future__ import annotations

import contextlib
import os
import stat

from nbcontainer.errors import ImageError
from nbcontainer.images.comparison.parents import Parents, opened
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.whiteouts import is_opaque

DELETED, CHANGED = "D", "C"


def list_changes(root: int) -> list[tuple[str, str, int | None]]:
    """Return (kind, path, size) of each entry below descriptor `root`, sorted by path: `D` for whiteouts, else `C`.

    The size is that of a file's content in bytes, None for a directory.

    An opaque directory is reported as deleted and changed: its old content is gone. A changed path can be new; that
    depends on the layers below, which the caller has. Paths are absolute; bytes that are not UTF-8 are escaped as
    os.fsdecode does. Raises `OSError`, and `ImageError` for a path that is longer than an image can hold.
    """
    found: list[tuple[str, str, int | None]] = []
    waiting = [""]
    while waiting:
        path = waiting.pop()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(f".{path}", flags, dir_fd=root)
        try:
            if path and is_opaque(folder):
                found.append((DELETED, path, None))
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = f"{path}/{entry.name}"
                    _check_length(name)
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
                        found.append((DELETED, name, 0))
                        continue
                    is_directory = stat.S_ISDIR(facts.st_mode)
                    if is_directory:
                        waiting.append(name)
                    found.append((CHANGED, name, None if is_directory else facts.st_size))
        finally:
            os.close(folder)
    return sorted(found, key=lambda item: (item[1], item[0] == CHANGED))


def _check_length(path: str) -> None:
    """Raise `ImageError` for a path that open(2) does not take: a cell can nest directories deeper than that."""
    if len(path) >= Limits.path:
        size = len(os.fsencode(path))
        if size >= Limits.path:
            raise ImageError(f"{shown(os.fsencode(path))} is a path of {size} bytes", hint="move it up in a cell")


def look_up(root: int, paths: list[str], replaced: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return which of `paths` (absolute) the tree of descriptor `root` has, and the names in each of `replaced`.

    No link on the way is followed: a path behind one is another path.
    """
    existing = []
    with Parents(root) as parents:
        for path in paths:
            if (parent := parents.above(path)) is not None:
                with contextlib.suppress(OSError):
                    os.lstat(path.rpartition("/")[2], dir_fd=parent)
                    existing.append(path)
    inside = {}
    for path in replaced:
        if (folder := opened(root, path)) is not None:
            try:
                with os.scandir(folder) as entries:
                    inside[path] = sorted(entry.name for entry in entries)
            finally:
                os.close(folder)
    return existing, inside
