"""Giving the copy-on-write volumes of a container some files of an earlier state, as layers of a new one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.cow import directories
from nbcontainer.containers.cow.attaching import (
    drop,
    note_moved_back,
    read_moved_back,
    read_notes,
    write_notes,
)
from nbcontainer.errors import ContainerError
from nbcontainer.images.cow import volume_jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.containers.workspace import Workspace

    Volumes = tuple[VolumeState, ...]


class PathMissing(Exception):
    """The path (container) that neither the container nor the earlier state has in a volume."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


def target_of(path: str, *states: Iterable[VolumeState]) -> str:
    """Return the target of the volume with changes in which a path is, in any of the states; empty for the root."""
    targets = {volume.target for volumes in states for volume in volumes if volume.layers}
    found = [target for target in targets if f"{path}/".startswith(f"{target.rstrip('/')}/")]
    return max(found, key=len, default="")


@contextlib.contextmanager
def restored(
    workspace: Workspace, old: Volumes, now: Volumes, paths: dict[str, list[str]]
) -> Iterator[tuple[Volumes, Sequence[str]]]:
    """Yield the volumes of `now` with `paths` (by target, in the volume, `/a`) as they are in `old`, and new layers.

    These are not finished; they are removed if the block fails. Raises `PathMissing`, `ContainerError`,
    `ChangesRefused`, `OSError`.
    """
    made: list[str] = []
    volumes = {volume.target: volume for volume in now}
    try:
        for target, inside in paths.items():
            before = next((volume for volume in old if volume.target == target), None)
            volumes[target] = _Restored(workspace, before, volumes.get(target), made).volume(inside)
        yield tuple(volumes.values()), made
    except BaseException:
        drop(workspace, made)
        raise


class _Restored:
    """One volume: `old` is its earlier state, `now` its present one; None if there is none. New layers go to `made`."""

    def __init__(self, workspace: Workspace, old: VolumeState | None, now: VolumeState | None, made: list[str]) -> None:
        self._workspace = workspace
        self._made = made
        self._old = () if old is None else old.layers
        self._now = () if now is None else now.layers
        self._same_time = old is not None and now is not None and old.began == now.began
        self._began = None if old is None else old.began
        self._state = _present(old, now)

    def volume(self, paths: Sequence[str]) -> VolumeState:
        """Return the volume with paths as they were; `/` is all of it."""
        if "/" in paths:
            # In a directory that cells removed, what the host changed since then is in conflict.
            began = self._state.began if self._began is None else min(self._began, self._state.began)
            return replace(self._state, layers=self._old, began=began)
        store = self._workspace.store
        if any((store.path / "layers" / layer / "diff").is_symlink() for layer in (*self._old, *self._now)):
            hint = "use `undo`, or `checkout CONTAINER@N --name NEW`"
            raise ContainerError("cannot restore files of a volume: its changes are in memory", hint=hint)
        new = store.unique()
        with store.lock(shared=True):
            self._made.append(new)
            store.new_directory(store.layers.begin(new) / "diff")
        with directories.opened(self._workspace, self._state) as (tree, _):
            if not self._fill(tree, new, paths):
                self._made.remove(new)
                drop(self._workspace, [new])
                return replace(self._state, layers=())
            self._note(tree, new, paths)
        return replace(self._state, layers=(new,))

    def _fill(self, tree: int, new: str, paths: Sequence[str]) -> bool:
        layers = tuple(dict.fromkeys((*self._old, *self._now)))
        found = self._workspace.on_directory(
            volume_jobs.restore,
            "layers",
            [tree],
            layers=[f"{layer}/diff" for layer in layers],
            sides=[[layers.index(layer) for layer in side] for side in (self._old, self._now)],
            target=f"{new}/diff",
            paths=list(paths),
        )
        if found["missing"]:
            path = self._state.target.rstrip("/") + found["missing"][0]
            raise PathMissing(path)
        return bool(found["changes"])

    def _note(self, tree: int, new: str, paths: Sequence[str]) -> None:
        """Write beside the layer what the host had when each path was changed: the earliest that is known."""
        tops = [path[1:] for path in paths]
        found = directories.run(self._workspace, volume_jobs.note, tree, (new,))
        kept: dict[str, Any] = dict(found)
        kept |= {path: facts for path, facts in self._noted(self._now).items() if not _is_in(path, tops)}
        if self._same_time:
            kept |= {path: facts for path, facts in self._noted(self._old).items() if _is_in(path, tops)}
        write_notes(self._workspace, new, {path: facts for path, facts in kept.items() if path in found})
        if own := read_moved_back(self._workspace, self._now):
            note_moved_back(self._workspace, new, own)

    def _noted(self, layers: Sequence[str]) -> dict[str, Any]:
        notes = read_notes(self._workspace, layers)
        return {path: facts for one in reversed(notes) for path, facts in one.items()}


def _present(old: VolumeState | None, now: VolumeState | None) -> VolumeState:
    """Return the present volume, or one that begins now. Raises `ContainerError` if it is another directory."""
    if now is not None and (now.layers or old is None):
        if old is not None and old.layers and not old.is_same_directory(now.device, now.inode, now.born):
            problem = f"volume '{now.target}' has changes to {now.source}, and that state to {old.source}"
            raise ContainerError(problem, hint="`%container apply` or `%container discard` them first")
        return now
    assert old is not None
    if now is not None and old.is_same_directory(now.device, now.inode, now.born):
        return now
    return replace(old, layers=(), began=time.time_ns())


def _is_in(path: str, tops: Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)
