"""The changes that the cells of a container made to its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.images import sandboxed
from nbcontainer.images.layers.changes import CHANGED, DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.containers.container import Container

ADDED = "A"


@dataclass(frozen=True)
class Change:
    """An absolute path in the container that was added (`A`), changed (`C`) or deleted (`D`), as in `docker diff`.

    `size` is the size of a file's content now, in bytes: 0 if it was deleted, None for a directory.
    """

    kind: str
    path: str
    size: int | None = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


def diff(container: Container) -> list[Change]:
    """Return all changes of the container's cells to its image, sorted by path. Raises `ContainerBusy`."""
    with container.use():
        workspace, record = container.workspace, container.record
        merged = MergedChanges()
        for cell in container.cells:
            if cell.layer:
                where = f"layers/{cell.layer}/diff"
                merged.add(workspace.on_directory(sandboxed.list_changes, where, read_only=True))
        if not merged.last:
            return []
        there, inside = workspace.on_layers(
            sandboxed.look_up, record.base[::-1], paths=sorted(merged.last), replaced=sorted(merged.replaced)
        )
    return sorted(_against(merged, set(there), inside), key=lambda change: change.path)


def changed_files(container: Container) -> int:
    """Return how many files the last cell of a container added, changed or deleted. Raises `StoreError`."""
    last = container.record.last
    layer = "" if last is None else last.layer
    if not layer:
        return 0
    found = container.workspace.on_directory(sandboxed.list_changes, f"layers/{layer}/diff", read_only=True)
    return sum(size is not None for _, _, size in found)


class MergedChanges:
    """The changes of several layers, merged from the bottom up, in time linear in their number.

    `last` has the kind of the last change of each path, `sizes` the size of what is there after it, and `replaced` the
    paths that were not a directory at any time, so that all below them in lower layers is gone.
    """

    def __init__(self) -> None:
        self.last: dict[str, str] = {}
        self.sizes: dict[str, int | None] = {}
        self.replaced: set[str] = set()
        self._inside: dict[str, set[str]] = {}

    def add(self, changes: Iterable[Sequence[Any]]) -> None:
        """Merge the changes of the next layer, as `list_changes` returns them, into those of the layers below it."""
        for kind, path, size in changes:
            if kind == DELETED or size is not None:
                self._forget_below(path)
                self.replaced.add(path)
            self.last[path], self.sizes[path] = kind, size
            # An upper directory has an entry for each directory above a change, so `path`'s parent is in it, too.
            self._inside.setdefault(path.rpartition("/")[0], set()).add(path)

    def _forget_below(self, path: str) -> None:
        """Remove the changes below a path that is not a directory now: each of them at most once."""
        waiting = list(self._inside.pop(path, ()))
        while waiting:
            below = waiting.pop()
            self.last.pop(below, None)
            waiting += self._inside.pop(below, ())


def _against(merged: MergedChanges, there: set[str], inside: dict[str, list[str]]) -> Iterable[Change]:
    last = merged.last
    for path, kind in last.items():
        if kind == DELETED:
            if path in there:
                yield Change(DELETED, path)
        else:
            yield Change(CHANGED if path in there else ADDED, path, merged.sizes[path])
            # A directory that was replaced has lost its old contents, unless they were created again.
            yield from (
                Change(DELETED, f"{path}/{name}") for name in inside.get(path, ()) if f"{path}/{name}" not in last
            )
