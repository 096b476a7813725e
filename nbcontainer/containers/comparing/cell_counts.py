"""How many files and bytes each cell added, changed and removed: read from the layers when `history` asks for it.

No cell waits for that. All layers are read in one sandbox, the image's tree in another one; then the layers are applied
to the sizes that the image has at the paths in question, one state after the other.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.containers.comparing.two_trees import changes_of
from nbcontainer.errors import NbcontainerError
from nbcontainer.images import sandboxed
from nbcontainer.images.comparison.tree_facts import PathFacts
from nbcontainer.images.layers.changes import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.workspace import Workspace

    LayerChanges = Sequence[tuple[str, str, int | None]]


@dataclass(frozen=True)
class CellCounts:
    """Files that a cell added, changed and removed, and their bytes: of changed files those that they have now.

    Links, pipes and devices count as files, directories do not.
    """

    added: int = 0
    added_bytes: int = 0
    changed: int = 0
    changed_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0


def counts_of(workspace: Workspace, base: Sequence[str], states: Iterable[State]) -> dict[StateId, CellCounts]:
    """Return the counts of states with a layer, by their ids; those of a layer that cannot be read are left out.

    `base` are the layers of the image, from the bottom up. The parent of a state is among the states, or is the image.
    """
    known = {state.id: state for state in states}
    changes = _changes(workspace, [state.layer for state in known.values() if state.layer])
    try:
        sizes = _sizes(workspace, base, changes.values())
    except (NbcontainerError, OSError):
        return {}
    return _Replay(sizes).run(known, changes)


def _changes(workspace: Workspace, layers: Sequence[str]) -> dict[str, LayerChanges]:
    """Return the changes of each layer, without layers that are missing or cannot be read."""
    with contextlib.suppress(NbcontainerError, OSError):
        return dict(zip(layers, changes_of(workspace, layers), strict=True))
    found: dict[str, LayerChanges] = {}
    for layer in layers:
        with contextlib.suppress(NbcontainerError, OSError):
            (found[layer],) = changes_of(workspace, [layer])
    return found


def _sizes(workspace: Workspace, base: Sequence[str], layers: Iterable[LayerChanges]) -> dict[str, int | None]:
    """Return the sizes that the image has at all paths that the layers name, and below those they remove."""
    named = [change for changes in layers for change in changes]
    if not named:
        return {}
    paths = sorted({path for _, path, _ in named}, key=lambda path: path.rpartition("/"))
    whole = sorted({path for kind, path, size in named if kind == DELETED or size is not None})
    found = workspace.on_layers(sandboxed.facts_of, base[::-1], paths=paths, whole=whole)
    facts = {path: PathFacts(*values) for path, values in found.items()}
    return {path: None if one.is_directory else one.size for path, one in facts.items()}


_Undo = list[tuple[str, int | None, bool]]


class _Replay:
    """A tree of `sizes` (None for a directory), to which layers are applied. It can go back to before a layer."""

    def __init__(self, sizes: dict[str, int | None]) -> None:
        self._sizes = sizes
        self._inside: dict[str, set[str]] = {}
        for path in sizes:
            self._inside.setdefault(path.rpartition("/")[0], set()).add(path)
        self._undo: _Undo = []

    def run(self, states: Mapping[StateId, State], changes: Mapping[str, LayerChanges]) -> dict[StateId, CellCounts]:
        """Return the counts of all states: a branch is applied, then undone before the next one."""
        after: dict[StateId | None, list[State]] = {}
        for state in states.values():
            after.setdefault(state.parent if state.parent in states else None, []).append(state)
        found: dict[StateId, CellCounts] = {}
        waiting: list[State | int] = [*after.get(None, ())]
        while waiting:
            item = waiting.pop()
            if isinstance(item, int):
                self._go_back(item)
                continue
            waiting += [len(self._undo), *after.get(item.id, ())]
            if item.layer in changes:
                found[item.id] = self._apply(changes[item.layer])
        return found

    def _go_back(self, length: int) -> None:
        while len(self._undo) > length:
            path, size, there = self._undo.pop()
            if there:
                self._sizes[path] = size
            else:
                self._sizes.pop(path, None)

    def _apply(self, changes: LayerChanges) -> CellCounts:
        added: dict[str, int] = {}
        changed: dict[str, int] = {}
        removed: dict[str, int] = {}
        for kind, path, size in changes:
            old, there = self._sizes.get(path), path in self._sizes
            if kind == DELETED or (there and (old is None) != (size is None)):
                removed |= self._remove(path)
                there = False
            if kind != DELETED:
                self._set(path, size)
                if size is not None:
                    (changed if there else added)[path] = size
        again = added.keys() & removed.keys()  # what is in a directory that was made anew
        changed |= {path: added.pop(path) for path in again}
        for path in again:
            del removed[path]
        sums = (part for one in (added, changed, removed) for part in (len(one), sum(one.values())))
        return CellCounts(*sums)

    def _set(self, path: str, size: int | None) -> None:
        self._undo.append((path, self._sizes.get(path), path in self._sizes))
        self._sizes[path] = size
        self._inside.setdefault(path.rpartition("/")[0], set()).add(path)

    def _remove(self, top: str) -> dict[str, int]:
        """Remove a path and all below it; return the sizes of the files among them."""
        gone: dict[str, int] = {}
        waiting = [top]
        while waiting:
            path = waiting.pop()
            if path in self._sizes:
                size = self._sizes.pop(path)
                self._undo.append((path, size, True))
                if size is None:
                    waiting += self._inside.get(path, ())
                else:
                    gone[path] = size
        return gone
