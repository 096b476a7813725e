"""What two states of one volume have at the paths where they can differ.

A state is layers on the host's directory. What cells see at a path is in the topmost layer that changes it, or else in
the host's directory. It runs in a sandbox: nothing is imported later.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.images.comparison import small_files, tree_facts
from nbcontainer.images.cow.below import is_directory, walk
from nbcontainer.images.cow.merged import Kind, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from nbcontainer.images.comparison.tree_facts import PathFacts

    Value = TypeVar("Value")


class Side:
    """One state: `tree` is the host's directory and `layers` the layers' (descriptors), from the bottom up."""

    def __init__(self, tree: int, layers: Sequence[int]) -> None:
        self._tree = tree
        self.layers = layers
        self.entries = merge(layers)

    def home(self, path: bytes) -> int | None:
        """Return the layer, or the host's directory, that has what cells see at a path; None if they see nothing."""
        entry = self.entries.get(path)
        if entry is None:
            return None if self.hides(path) else self._tree
        return None if entry.kind == Kind.DELETED else self.layers[entry.layer]

    def hides(self, path: bytes) -> bool:
        """Return whether a change to a directory above a path hides what the host has there."""
        while path := path.rpartition(b"/")[0]:
            entry = self.entries.get(path)
            if entry is not None and entry.kind != Kind.DIRECTORY:
                return True
        return False

    def covered(self) -> Iterator[bytes]:
        """Yield the paths at which something takes the place of what the host has."""
        yield from (path for path, entry in self.entries.items() if entry.kind != Kind.DIRECTORY)

    def facts(self, paths: Iterable[bytes]) -> dict[str, PathFacts]:
        """Return the facts of those paths that cells see, by the path in the volume (`/a`)."""
        return self._read(paths, lambda root, own: tree_facts.facts_of(root, own, ()))

    def digests(self, paths: Iterable[bytes]) -> dict[str, str]:
        """Return the SHA-256 of the regular files among paths, by the path in the volume."""
        return self._read(paths, tree_facts.digests_of)

    def texts(self, paths: Iterable[bytes], limit: int, total: int) -> dict[str, tuple[str, str]]:
        """Return the texts of small files; see `nbcontainer.images.comparison.small_files.texts_of`."""
        return self._read(paths, lambda root, own: small_files.texts_of(root, own, limit, total))

    def _read(self, paths: Iterable[bytes], read: Callable[[int, list[str]], Mapping[str, Value]]) -> dict[str, Value]:
        homes: dict[int, list[str]] = {}
        for path in sorted(paths, key=lambda path: path.rpartition(b"/")):
            if (home := self.home(path)) is not None:
                homes.setdefault(home, []).append(in_volume(path))
        return {path: value for home, own in homes.items() for path, value in read(home, own).items()}


def in_volume(path: bytes) -> str:
    """Return a path of `Entries` as an absolute one in the volume."""
    return f"/{os.fsdecode(path)}"


def differences(tree: int, old: Side, new: Side) -> list[tuple[str, PathFacts | None, PathFacts | None]]:
    """Return the paths (`/a`) at which cells see something else, with the facts on both sides. Raises `OSError`."""
    paths = [path for path in _candidates(tree, old, new) if old.home(path) != new.home(path)]
    before, after = old.facts(paths), new.facts(paths)
    names = sorted({*before, *after})
    different = {name for name in names if before.get(name) != after.get(name)}
    same = [os.fsencode(name[1:]) for name in names if name not in different and before[name].is_file]
    left, right = old.digests(same), new.digests(same)
    different |= {name for name in map(in_volume, same) if left.get(name) != right.get(name)}
    return [(name, before.get(name), after.get(name)) for name in names if name in different]


def _candidates(tree: int, old: Side, new: Side) -> set[bytes]:
    """Return the paths that can differ: those that a layer changes, and what the host has below a hidden directory."""
    paths = {*old.entries, *new.entries} - {b""}
    for path in {*old.covered(), *new.covered()}:
        if is_directory(tree, path):
            paths.update(place for place, _ in walk(tree, path))
    return paths
