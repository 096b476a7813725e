"""Making one layer of a volume that has the changes of a state, but at some paths those of an earlier state.

Files are hard links, so nothing is copied. At a path that the earlier state had not changed, cells see the host's file
again. It runs in a sandbox: nothing is imported later.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.errors import ContainerError
from nbcontainer.images.cow.below import DIRECTORY, is_directory, look, opened
from nbcontainer.images.cow.merged import Kind
from nbcontainer.images.layers.flat.flattening import make_opaque
from nbcontainer.images.layers.flat.links import Entry as Name
from nbcontainer.images.layers.flat.links import Links, set_metadata
from nbcontainer.images.layers.limits import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.cow.two_views import Side

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class _Item(NamedTuple):
    """What the new layer has at a path: its kind, and a directory (descriptor) that has it at the same path."""

    kind: Kind
    home: int


_Items = dict[bytes, _Item]


@dataclass(frozen=True)
class Restoring:
    """`old` and `now` are two states on the host's directory `tree` (a descriptor)."""

    tree: int
    old: Side
    now: Side

    def missing(self, paths: Sequence[bytes]) -> list[bytes]:
        """Return the paths at which cells see nothing in either state. Raises `OSError`."""
        return [path for path in paths if not self._sees(self.old, path) and not self._sees(self.now, path)]

    def fill(self, paths: Sequence[bytes], target: int) -> bool:
        """Fill the empty directory `target`; return False if the new layer changes nothing.

        No path is below another one. Raises `ContainerError` for a path that no layer can restore, `OSError`.
        """
        items = _items(self.now)
        for path in paths:
            self._check(path)
            self._replace(items, path)
        items = {path: item for path, item in items.items() if item.kind != Kind.DELETED or self._hides(items, path)}
        _Writer(target, {path.rpartition(b"/")[0] for path in paths}).write(items)
        return any(items)

    def _sees(self, side: Side, path: bytes) -> bool:
        home = side.home(path)
        return home is not None and look(home, path) is not None

    def _check(self, path: bytes) -> None:
        for way in _above(path):
            home = self.now.home(way)
            if home is None or not is_directory(home, way):
                problem = f"cannot restore below {shown(b'/' + way)} of the volume: it is not a directory now"
                raise ContainerError(problem, hint="restore that directory itself")
        entry = self.old.entries.get(path)
        shows_host = not self.old.hides(path) if entry is None else self._merges(path)
        if shows_host and self.now.hides(path) and look(self.tree, path) is not None:
            problem = f"cannot restore {shown(b'/' + path)} of the volume: a directory above it was replaced"
            raise ContainerError(problem, hint="restore that directory itself")

    def _merges(self, path: bytes) -> bool:
        """Return whether the earlier state has a directory that shows what the host has in it, too."""
        return self.old.entries[path].kind == Kind.DIRECTORY and not self.old.hides(path)

    def _replace(self, items: _Items, path: bytes) -> None:
        """Make a path, and all below it, what it is in the earlier state."""
        for other in [one for one in items if _is_in(one, path)]:
            del items[other]
        for other, item in _items(self.old).items():
            if _is_in(other, path):
                items[other] = item
        if path not in items:
            if not self.old.hides(path):
                return  # what the host has
            items[path] = _Item(Kind.DELETED, self.tree)
        elif items[path].kind == Kind.DIRECTORY and not self._merges(path):
            items[path] = _Item(Kind.OPAQUE, items[path].home)
        for way in _above(path):
            items.setdefault(way, _Item(Kind.DIRECTORY, self.tree))
        items.setdefault(b"", _Item(Kind.DIRECTORY, self.tree))

    def _hides(self, items: _Items, path: bytes) -> bool:
        """Return whether a whiteout hides something of the host's: cells would see another one as a file."""
        if any(way in items and items[way].kind != Kind.DIRECTORY for way in _above(path)):
            return False
        return is_directory(self.tree, path.rpartition(b"/")[0])


def _items(side: Side) -> _Items:
    return {path: _Item(entry.kind, side.layers[entry.layer]) for path, entry in side.entries.items()}


def _is_in(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top + b"/")


def _above(path: bytes) -> list[bytes]:
    """Return the directories above a path, the outermost first, without the volume itself."""
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[: number + 1]) for number in range(len(parts))]


class _Writer:
    """Writes a layer into the directory `target`. The directories `touched` get the present time."""

    def __init__(self, target: int, touched: set[bytes]) -> None:
        self._target = target
        self._touched = touched
        self._links = Links(target)

    def write(self, items: _Items) -> None:
        """Make everything, each directory before what is in it; then set their metadata, the innermost first."""
        order = sorted(items, key=lambda path: path.split(b"/"))
        for path in filter(None, order):
            self._make(path, items[path])
        for path in reversed(order):
            if items[path].kind in (Kind.DIRECTORY, Kind.OPAQUE):
                self._finish(path, items[path])

    def _make(self, path: bytes, item: _Item) -> None:
        above, _, name = path.rpartition(b"/")
        with opened(self._target, above, _FOLDER) as folder:
            if item.kind == Kind.DELETED:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)  # a whiteout; any user may make one (Linux 5.8)
            elif item.kind == Kind.FILE:
                with opened(item.home, above, _FOLDER) as source:
                    facts = os.lstat(name, dir_fd=source)
                    self._links.add(Name(source, name), facts, Name(folder, name), path)
            else:
                os.mkdir(name, 0o700, dir_fd=folder)
                if item.kind == Kind.OPAQUE:
                    make_opaque(folder, name)

    def _finish(self, path: bytes, item: _Item) -> None:
        with opened(item.home, path, DIRECTORY) as model, opened(self._target, path, DIRECTORY) as made:
            set_metadata(model, os.fstat(model), made)
            if path in self._touched:
                os.utime(made)
