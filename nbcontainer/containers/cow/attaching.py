"""Copy-on-write volumes in a cell: their layers before it, and what it changed after it."""

from __future__ import annotations

import contextlib
import json
import time
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.cow import directories
from nbcontainer.containers.cow.squeezing import squeezed
from nbcontainer.containers.cow.volume_layer import VolumeLayer
from nbcontainer.containers.history.volume_states import VolumeState
from nbcontainer.containers.writes.keeping import settled
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.images import trash
from nbcontainer.images.cow import volume_jobs
from nbcontainer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.state import CellRecord
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.sandbox.spec import Mounts, Volume

BESIDE = "before.json"
"""The file beside a layer of a volume: what the host's directory had at each changed path when the cell ended."""

MOVED_BACK = "moved-back.json"
"""The file beside a layer of a volume: what an `apply` that failed has moved, and moved back, with the new ctimes."""

MOST_LAYERS = 24
"""With more layers than this, those of a volume become one."""


@dataclass
class _Attached:
    """One volume of a cell: its state before, and its write layer."""

    state: VolumeState
    upper: VolumeLayer | None = None
    changed: bool = False
    """Whether the cell has changed it."""


class CowVolumes:
    """The copy-on-write volumes of one cell in `container`. The owner calls `begin`, and at last `release`."""

    def __init__(self, workspace: Workspace, container: Container, volumes: Iterable[Volume], *, own_ids: bool) -> None:
        """Check the volumes; `own_ids` is false for `--userns=host`. Raises `UsageError`, `ContainerError`."""
        self._workspace = workspace
        self._container = container
        self._attached: dict[str, _Attached] = {}
        for volume in volumes:
            if not own_ids:
                problem = "copy-on-write volumes cannot be used with --userns=host"
                raise UsageError(problem, hint="remove --userns=host, or write ro or rw")
            directories.check_source(workspace, volume)
            if directories.maps_ids(workspace.launcher):
                directories.check_kernel()
            self._attached[volume.target] = _Attached(self._state(volume))

    def _state(self, volume: Volume) -> VolumeState:
        found = next((state for state in self._container.record.volumes if state.target == volume.target), None)
        if found is None or not found.layers:
            same = found is not None and found.is_same_directory(volume.device, volume.inode, volume.born)
            if found is not None and same and found.source == volume.source:
                return found
            # Not the coarse clock: what was written just before can have a later ctime (multigrain, Linux 6.13).
            identity = (volume.device, volume.inode, volume.born)
            return VolumeState(volume.target, volume.source, *identity, began=time.time_ns())
        if not found.is_same_directory(volume.device, volume.inode, volume.born):
            problem = f"volume '{volume.target}' has changes to {found.source} that are not applied"
            name = self._container.name
            hint = f"run `%container apply {name}` or `%container discard {name}` first"
            raise ContainerError(problem, hint=hint)
        return found

    def begin(self, mounts: Mounts) -> Mounts:
        """Make new write layers, and return `mounts` with them. Raises `OSError`."""
        self.release()
        return replace(mounts, volumes=tuple(map(self._begun, mounts.volumes)))

    def planned(self, mounts: Mounts) -> Mounts:
        """Return `mounts` as `begin` does, with write layers that are not made."""
        return replace(
            mounts, volumes=tuple(self._on(one, self._upper(one)) if one.cow else one for one in mounts.volumes)
        )

    def _begun(self, volume: Volume) -> Volume:
        if volume.cow is None:
            return volume
        self._attached[volume.target].upper = upper = self._upper(volume)
        upper.make()
        return self._on(volume, upper)

    def _upper(self, volume: Volume) -> VolumeLayer:
        layers = self._attached[volume.target].state.layers
        return VolumeLayer(self._workspace.store, self._workspace, layers[::-1])

    def _on(self, volume: Volume, upper: VolumeLayer) -> Volume:
        assert volume.cow is not None
        lowers = tuple(f"{layer}/diff" for layer in upper.lowers)
        cow = replace(volume.cow, lowers=lowers, upper=upper.places[0], work=upper.places[1])
        return replace(volume, cow=cow)

    def changed(self) -> bool:
        """Return whether the cell changed a volume. It must have ended."""
        for one in self._attached.values():
            one.changed = one.upper is not None and one.upper.changed()
        return any(one.changed for one in self._attached.values())

    def settle(self, stack: contextlib.ExitStack) -> None:
        """Make sure that no other container can change what the cell has changed: see `keeping.settled`."""
        for one in self._attached.values():
            if one.upper is not None and one.changed:
                stack.enter_context(settled(one.upper, self._workspace, self._workspace.launcher))

    def add_cell(self, cell: CellRecord) -> None:
        """Add a cell that has ended to the container, with what it changed in the volumes; see `Container.add_cell`."""
        volumes, made = self._keep()
        try:
            self._container.add_cell(cell, volumes)
        except BaseException:
            drop(self._workspace, made)
            raise

    def _keep(self) -> tuple[tuple[VolumeState, ...], list[str]]:
        """Make layers of what the cell changed; return the volumes' states after it, and the new layers.

        The write layers must not be mounted any more, and the store is locked. Raises `OSError`, and what a sandbox
        raises.
        """
        states = {state.target: state for state in self._container.record.volumes}
        made: list[str] = []
        try:
            for target, one in self._attached.items():
                states[target] = one.state
                if one.upper is not None and one.changed:
                    made.append(one.upper.keep(self._workspace))
                    states[target] = self._with_layer(one.state, made)
        except BaseException:
            drop(self._workspace, made)
            raise
        return tuple(states.values()), made

    def _with_layer(self, state: VolumeState, made: list[str]) -> VolumeState:
        """Return the state with the last of the new layers, or with one that stands for all if they are many."""
        workspace, layers = self._workspace, (*state.layers, made[-1])
        with directories.opened(workspace, state) as (tree, _):
            write_notes(workspace, made[-1], directories.run(workspace, volume_jobs.note, tree, layers[-1:]))
            new = squeezed(workspace, tree, layers) if len(layers) > MOST_LAYERS else None
        if new is not None:
            made.append(new)
            notes = read_notes(workspace, layers)
            write_notes(workspace, new, {path: facts for one in reversed(notes) for path, facts in one.items()})
            if own := read_moved_back(workspace, layers):
                note_moved_back(workspace, new, own)
            layers = (new,)
        return replace(state, layers=layers)

    def separated(self) -> CowVolumes:
        """Return the volumes with their write layers, to release these later. The next `begin` here makes others."""
        other = copy(self)
        self._attached = {target: _Attached(one.state) for target, one in self._attached.items()}
        return other

    def release(self) -> None:
        """Remove the write layers that were not kept."""
        for one in self._attached.values():
            upper, one.upper = one.upper, None
            if upper is not None and not upper.remove():
                trash.discard(self._workspace.store, self._workspace, upper.left)


def write_notes(workspace: Workspace, layer: str, notes: dict[str, Any]) -> None:
    """Write the notes beside a layer. Raises `OSError`."""
    store = workspace.store
    place = store.path / "layers" / layer / BESIDE
    replace_file(place, store.path / "tmp" / store.unique(), json.dumps(notes).encode(), sync=False)


def read_notes(workspace: Workspace, layers: Iterable[str]) -> list[Any]:
    """Return the notes beside layers, an empty one for those that a crash of the machine has lost."""
    found: list[Any] = []
    for layer in layers:
        try:
            found.append(json.loads((workspace.store.path / "layers" / layer / BESIDE).read_bytes()))
        except (OSError, ValueError, RecursionError):
            found.append({})
    return found


def note_moved_back(workspace: Workspace, layer: str, facts: dict[str, list[int]]) -> None:
    """Add the facts of what a failed `apply` moved back to those beside a layer. Raises `OSError`."""
    store = workspace.store
    known = read_moved_back(workspace, (layer,))
    place = store.path / "layers" / layer / MOVED_BACK
    replace_file(place, store.path / "tmp" / store.unique(), json.dumps(known | facts).encode(), sync=False)


def read_moved_back(workspace: Workspace, layers: Iterable[str]) -> dict[str, list[int]]:
    """Return the facts of what failed uses of `apply` moved back, by path; those of the last one for each."""
    found: dict[str, list[int]] = {}
    for layer in layers:
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            found |= json.loads((workspace.store.path / "layers" / layer / MOVED_BACK).read_bytes())
    return found


def drop(workspace: Workspace, layers: Iterable[str]) -> None:
    """Remove layers that no state refers to, in the background."""
    workspace.discard_later([workspace.store.path / "layers" / layer for layer in layers])
