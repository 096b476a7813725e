"""What several layers of one volume have together: the last change of each path."""

from __future__ import annotations

import enum
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.cow.below import DIRECTORY, join, opened
from nbcontainer.images.layers.flat.flattening import is_whiteout
from nbcontainer.images.layers.limits import Limits, shown
from nbcontainer.images.layers.whiteouts import is_opaque

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Kind(enum.Enum):
    """What a layer says of a path."""

    DELETED = "deleted"
    DIRECTORY = "directory"
    """A directory, merged with the one below it."""
    OPAQUE = "opaque directory"
    """A directory that hides the one below it."""
    FILE = "file"
    """Anything else: a file, a link, a pipe, a socket or a device."""


@dataclass(frozen=True)
class Entry:
    """The last change of one path: its kind, the number of the layer that has it, and its facts there."""

    kind: Kind
    layer: int
    facts: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory of either kind."""
        return self.kind in (Kind.DIRECTORY, Kind.OPAQUE)


Entries = dict[bytes, Entry]
"""The changes of a volume by their paths, relative to its top (the empty path), each directory before its content."""


def merge(layers: Sequence[int]) -> Entries:
    """Return the changes of layers (descriptors of upper directories, from the bottom up) by path.

    Raises `OSError`, and `ImageError` for a path that is longer than a call takes.
    """
    merged = _Merged()
    for number, layer in enumerate(layers):
        for path, kind, facts in _changes(layer):
            merged.add(path, Entry(kind, number, facts))
    return dict(sorted(merged.entries.items(), key=lambda item: item[0].split(b"/")))


class _Merged:
    """The entries of the layers that were added, and for each directory what is in it."""

    def __init__(self) -> None:
        self.entries: Entries = {}
        self._names: dict[bytes, set[bytes]] = {}

    def add(self, path: bytes, entry: Entry) -> None:
        """Add an entry of the next layer, after that of the directory it is in."""
        before = self.entries.get(path)
        if entry.kind != Kind.DIRECTORY and before is not None and before.is_directory:
            self._remove_inside(path)
        elif entry.kind == Kind.DIRECTORY and before is not None and before.kind != Kind.DIRECTORY:
            entry = Entry(Kind.OPAQUE, entry.layer, entry.facts)  # the one below is hidden already
        self.entries[path] = entry
        if path:
            self._names.setdefault(path.rpartition(b"/")[0], set()).add(path)

    def _remove_inside(self, path: bytes) -> None:
        waiting = [path]
        while waiting:
            for below in self._names.pop(waiting.pop(), ()):
                del self.entries[below]
                waiting.append(below)


def _changes(layer: int) -> Iterator[tuple[bytes, Kind, os.stat_result]]:
    """Yield the entries of one layer, each directory before what is in it."""
    yield b"", Kind.DIRECTORY, os.fstat(layer)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        with opened(layer, path, DIRECTORY) as folder, os.scandir(folder) as found:
            for one in found:
                below = join(path, os.fsencode(one.name))
                if len(below) >= Limits.path:
                    raise ImageError(f"{shown(below)} is a path of {len(below)} bytes", hint="move it up in a cell")
                facts = one.stat(follow_symlinks=False)
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append(below)
                yield below, _kind(layer, below, facts), facts


def _kind(layer: int, path: bytes, facts: os.stat_result) -> Kind:
    if is_whiteout(facts):
        return Kind.DELETED
    if not stat.S_ISDIR(facts.st_mode):
        return Kind.FILE
    with opened(layer, path, DIRECTORY) as folder:
        return Kind.OPAQUE if is_opaque(folder) else Kind.DIRECTORY
