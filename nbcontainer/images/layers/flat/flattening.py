"""Merging layers (overlay upper directories) into a new one that has the same effect on any layers below.

Nothing is copied: the files are hard links, so the cost depends on the number of entries. Deletions and opaque
directories stay what they are, because they hide what the layers below have. Source: the kernel's overlayfs.rst.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.images.layers.flat.links import Entry, Links, set_metadata
from nbcontainer.images.layers.whiteouts import OPAQUE_XATTR, is_opaque
from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = 3000  # bytes of a path that one open(2) takes


@dataclass
class Found:
    """What the layers have under one name: the topmost entry, and the directories that are merged with it."""

    layer: int
    facts: os.stat_result
    layers: list[int] = field(default_factory=list)
    closed: bool = False
    opaque: bool = False


def flatten(sources: Sequence[int], target: int) -> list[bytes]:
    """Fill the empty directory `target` with what the directories `sources`, the topmost first, have together.

    All are descriptors, on one file system. Return the paths of the directories with whiteouts: overlayfs lists these
    as files, unless a layer below has the directory too (see `drop_whiteouts`). No link is followed. Raises `OSError`.
    """
    return fill(Links(target), sources, target, (b"", list(range(len(sources))), False))


def fill(links: Links, sources: Sequence[int], target: int, first: tuple[bytes, list[int], bool]) -> list[bytes]:
    """Fill a directory of `target` as `flatten` does; `links` makes the files.

    `first` is its path, the numbers of the sources that are merged there, and whether it hides what layers below have.
    """
    waiting = [first]
    hiding: list[bytes] = []
    while waiting:
        path, layers, alone = waiting.pop()
        with contextlib.ExitStack() as stack:
            folders = {layer: opened(stack, sources[layer], path) for layer in layers}
            new = opened(stack, target, path)
            merged = _merged(folders)
            if alone:  # nothing below shows: whiteouts hide nothing, and would be listed as files
                merged = {name: found for name, found in merged.items() if not is_whiteout(found.facts)}
            elif any(is_whiteout(found.facts) for found in merged.values()):
                hiding.append(path)
            for name, found in merged.items():
                below = path + b"/" + name if path else name
                if found.layers:
                    os.mkdir(name, 0o700, dir_fd=new)
                    waiting.append((below, found.layers, alone or found.opaque))
                    if found.opaque:
                        make_opaque(new, name)
                else:
                    links.add(Entry(folders[found.layer], name), found.facts, Entry(new, name), below)
            top = folders[layers[0]]
            set_metadata(top, os.fstat(top), new)
    return hiding


def drop_whiteouts(target: int, paths: Sequence[bytes]) -> None:
    """Remove the whiteouts in directories of `target` that no layer below has: they hide nothing. Raises `OSError`."""
    for path in paths:
        with contextlib.ExitStack() as stack:
            folder = opened(stack, target, path)
            facts = os.fstat(folder)
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if is_whiteout(entry.stat(follow_symlinks=False))]
            for name in names:
                os.unlink(name, dir_fd=folder)
            os.utime(folder, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def is_whiteout(facts: os.stat_result) -> bool:
    """Whether a file is a whiteout: a character device 0:0."""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def opened(stack: contextlib.ExitStack, root: int, path: bytes) -> int:
    """Return a descriptor of a directory of any depth below `root`, closed with `stack`. Every step is a directory.

    Raises `OSError`, for a link as well.
    """
    fd = os.open(b".", _LIST, dir_fd=root)
    for piece in _pieces(path):
        try:
            below = openat2(fd, piece, _LIST, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        finally:
            os.close(fd)
        fd = below
    stack.callback(os.close, fd)
    return fd


def _pieces(path: bytes) -> Iterator[bytes]:
    while len(path) > _STEP:
        at = path.rindex(b"/", 0, _STEP)
        yield path[:at]
        path = path[at + 1 :]
    if path:
        yield path


def _merged(folders: dict[int, int]) -> dict[bytes, Found]:
    """Return what directories of layers, the topmost first, have together, by name: as overlayfs merges them."""
    merged: dict[bytes, Found] = {}
    for layer, folder in folders.items():
        with os.scandir(folder) as entries:
            for entry in entries:
                _take(merged, os.fsencode(entry.name), layer, entry.stat(follow_symlinks=False), folder)
    return merged


def found_in(folders: dict[int, int], name: bytes) -> Found | None:
    """Return what directories of layers, the topmost first, have together under one name; None for nothing."""
    merged: dict[bytes, Found] = {}
    for layer, folder in folders.items():
        with contextlib.suppress(FileNotFoundError):
            _take(merged, name, layer, os.lstat(name, dir_fd=folder), folder)
    found = merged.get(name)
    return None if found is None or is_whiteout(found.facts) else found


def _take(merged: dict[bytes, Found], name: bytes, layer: int, facts: os.stat_result, folder: int) -> None:
    found = merged.get(name)
    if found is not None and found.closed:
        return
    directory = stat.S_ISDIR(facts.st_mode)
    if found is None:
        found = merged[name] = Found(layer, facts)
        found.closed = not directory
    elif not directory:  # what is below this file is hidden from the directory above it
        found.closed = found.opaque = True
    if directory:
        found.layers.append(layer)
        if _is_opaque(folder, name):
            found.closed = found.opaque = True


def _is_opaque(folder: int, name: bytes) -> bool:
    fd = os.open(name, _LIST, dir_fd=folder)
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def make_opaque(folder: int, name: bytes) -> None:
    """Make a directory hide what layers below have in it. Raises `OSError`."""
    fd = os.open(name, _LIST, dir_fd=folder)
    try:
        os.setxattr(fd, OPAQUE_XATTR, b"y")
    finally:
        os.close(fd)
