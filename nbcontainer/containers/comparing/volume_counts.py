"""How many files and bytes each cell added, changed and removed in copy-on-write volumes.

What was there before a cell is in the earlier layers of the volume, or else in the notes about the host's directory.
"""

from __future__ import annotations

import contextlib
import stat
from dataclasses import astuple
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.containers.comparing.cell_counts import CellCounts
from nbcontainer.containers.comparing.two_trees import changes_of
from nbcontainer.containers.cow.attaching import read_notes
from nbcontainer.errors import NbcontainerError
from nbcontainer.images.layers.changes import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.workspace import Workspace

    Layer = Mapping[str, int | None]


class _New(NamedTuple):
    """A layer that a cell added to a volume, and the earlier ones of that volume, the topmost first."""

    layer: str
    earlier: tuple[str, ...]


_GONE = -1
"""The size of a path that a layer removes; a directory has None."""


def with_volumes(
    workspace: Workspace, states: Iterable[State], counts: Mapping[StateId, CellCounts]
) -> dict[StateId, CellCounts]:
    """Return `counts` with those of volumes added; what is in layers that cannot be read is left out.

    Files of a host's directory that a cell removed as a whole are not counted: the notes name only the directory.
    """
    known = {state.id: state for state in states}
    new = {state.id: [*_new(state, None if state.parent is None else known.get(state.parent))] for state in states}
    names = {name for found in new.values() for one in found for name in (one.layer, *one.earlier)}
    layers = _read(workspace, sorted(names))
    result = dict(counts)
    for state, found in new.items():
        for one in found:
            if one.layer in layers:
                result[state] = _sum(result.get(state, CellCounts()), _counts(workspace, one, layers))
    return result


def _new(state: State, parent: State | None) -> Iterator[_New]:
    """Yield the layers that a cell added. Those that stand for many, and what `apply` does, are not its own."""
    before = {} if parent is None else {volume.target: volume.layers for volume in parent.volumes}
    for volume in state.volumes if state.moved else ():
        earlier = before.get(volume.target, ())
        if volume.layers and volume.layers[:-1] == earlier:
            yield _New(volume.layers[-1], earlier[::-1])


def _read(workspace: Workspace, names: Sequence[str]) -> dict[str, Layer]:
    found: dict[str, Layer] = {}
    for name in names:
        with contextlib.suppress(NbcontainerError, OSError):
            (changes,) = changes_of(workspace, [name])
            found[name] = {path: _GONE if kind == DELETED else size for kind, path, size in changes}
    return found


def _counts(workspace: Workspace, new: _New, layers: Mapping[str, Layer]) -> CellCounts:
    notes = read_notes(workspace, (new.layer,))[0]
    earlier = [layers[name] for name in new.earlier if name in layers]
    added: list[int | None] = []
    changed: list[int | None] = []
    removed: list[int | None] = []
    for path, size in layers[new.layer].items():
        old = _before(path, earlier, notes)
        if size == _GONE:
            removed += [old] if old not in (None, _GONE) else _below(path, earlier)
        elif size is not None:
            (added if old in (None, _GONE) else changed).append(size)
    sums = (part for one in (added, changed, removed) for part in (len(one), sum(size or 0 for size in one)))
    return CellCounts(*sums)


def _before(path: str, earlier: Sequence[Layer], notes: Mapping[str, list[int] | None]) -> int | None:
    """Return the size of what was at a path: None for a directory, _GONE for nothing."""
    for layer in earlier:
        if path in layer:
            return layer[path]
    facts = notes.get(path[1:])
    if facts is None:
        return _GONE
    return None if stat.S_ISDIR(facts[0]) else facts[2]


def _below(path: str, earlier: Sequence[Layer]) -> list[int | None]:
    """Return the sizes of the files that earlier layers have in a directory."""
    found: dict[str, int | None] = {}
    for layer in reversed(earlier):
        found |= {name: size for name, size in layer.items() if name.startswith(f"{path}/")}
    return [size for size in found.values() if size is not None and size != _GONE]


def _sum(one: CellCounts, other: CellCounts) -> CellCounts:
    return CellCounts(*(left + right for left, right in zip(astuple(one), astuple(other), strict=True)))
