"""Giving a container some files of an earlier state, as a new state. No bytes are copied: the files are hard links."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nbcontainer.containers.cow import restoring_paths
from nbcontainer.containers.record import CellRecord
from nbcontainer.errors import ContainerDamaged, ContainerError, UsageError
from nbcontainer.images import sandboxed, trash
from nbcontainer.images.builtin import host
from nbcontainer.oci import timestamps
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.errors import store_error, store_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.volume_states import VolumeState

_DONE = Outcome(Reason.EXITED, 0)


def restore(container: Container, number: int, paths: Sequence[str]) -> CellRecord:
    """Give a container the files and directories `paths` (container, absolute) of its state `number`; 0 is the image.

    A path that the state does not have is removed. The result is a new state, whose record is returned; all paths are
    restored or none. Raises `ContainerBusy`, `ContainerError`, `StoreError`, `UsageError`.
    """
    wanted = _outermost([_checked(path) for path in paths])
    container.check_not_running()
    with container.use():
        if container.saved and container.record.carried:
            container.save()
        text = f"restore {container.name}@{number} {' '.join(wanted)}"
        cell = _restored(container, number, wanted, text)
        container.confinement = None
        container.settle()
    return cell


def _restored(container: Container, number: int, wanted: Sequence[str], text: str) -> CellRecord:
    """Add the state with the paths, which are in the root or in copy-on-write volumes; return its record."""
    state = container.state(number)
    old, now = () if state is None else state.volumes, container.record.volumes
    in_root, in_volumes = _by_volume(wanted, old, now)
    layer = _layer(container, number, in_root) if in_root else ""
    try:
        if not in_volumes:
            return _added(container, [layer], CellRecord(layer, text, timestamps.timestamp(), _DONE))
        with (
            store_errors("restore files", container.workspace.store.path),
            restoring_paths.restored(container.workspace, old, now, in_volumes) as (volumes, made),
        ):
            new = [layer, *made] if layer else made
            return _added(container, new, CellRecord(layer, text, timestamps.timestamp(), _DONE), volumes)
    except BaseException as error:
        if layer:
            _drop(container, layer)
        if isinstance(error, restoring_paths.PathMissing):
            raise _missing(container, number, error.path) from None
        raise


def _by_volume(
    paths: Sequence[str], old: Sequence[VolumeState], now: Sequence[VolumeState]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the paths that are in the root, and those in volumes by their targets, relative to these (`/a`)."""
    in_root: list[str] = []
    in_volumes: dict[str, list[str]] = {}
    for path in paths:
        if target := restoring_paths.target_of(path, old, now):
            in_volumes.setdefault(target, []).append(path[len(target.rstrip("/")) :] or "/")
        else:
            in_root.append(path)
    return in_root, in_volumes


def _checked(path: str) -> str:
    """Return a path without superfluous parts. Raises `UsageError` for one that names no file of a container."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not path.startswith("/") or ".." in parts or "\0" in path:
        raise UsageError(f"invalid path in the container: {path!r}", hint="write an absolute path, as in /etc/hosts")
    if not parts:
        hint = "use `%container checkout CONTAINER@N --name NEW` for the whole state"
        raise UsageError("cannot restore '/': it is the whole container", hint=hint)
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise UsageError(f"invalid path in the container: {path!r}", hint="remove its surrogates") from None
    return "/" + "/".join(parts)


def _outermost(paths: Sequence[str]) -> list[str]:
    """Return the paths, sorted, without those that are below another one."""
    kept: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not kept or not path.startswith(f"{kept[-1]}/"):
            kept.append(path)
    return kept


def _layer(container: Container, number: int, paths: list[str]) -> str:
    """Return the id of a new layer that has the paths as they are in a state. It is not finished yet."""
    workspace, store = container.workspace, container.workspace.store
    old, now = container.lowers_of(container.state(number)), container.lowers
    _check_reachable(container, [*old, *now])
    new = store.unique()
    try:
        with store.lock(shared=True):
            place = store.layers.begin(new)
            store.new_directory(place / "diff")
    except OSError as error:
        _drop(container, new)
        raise store_error("restore files", store.path, error) from error
    try:
        layers, current = ([f"{layer}/diff" for layer in lowers] for lowers in (old, now))
        target = f"{new}/diff"
        missing = workspace.on_directory(
            sandboxed.pick, "layers", layers=layers, current=current, target=target, paths=paths
        )
        if missing:
            raise _missing(container, number, missing[0])
    except BaseException as error:
        _drop(container, new)
        if isinstance(error, OSError):
            raise store_error("restore files", store.path, error) from error
        raise
    return new


def _missing(container: Container, number: int, path: str) -> ContainerError:
    name = container.name
    problem = f"cannot restore {path!r}: neither {name} nor its state {number} has it"
    return ContainerError(problem, hint=f"see `%container diff {name}@{number} {name}`")


def _check_reachable(container: Container, layers: Sequence[str]) -> None:
    """Raise `ContainerError` if a layer cannot be linked to: the machine itself, one in memory, or a missing one."""
    store = container.workspace.store
    hint = "use `undo`, or `checkout CONTAINER@N --name NEW` and copy the files with a volume"
    if lost := [layer for layer in layers if not os.path.lexists(store.path / "layers" / layer / "diff")]:
        problem = f"cannot restore files in '{container.name}': its layer {lost[0]} is missing"
        raise ContainerDamaged(
            problem, hint="`undo`, or `checkout CONTAINER@N --name NEW`, leads to a state without it"
        )
    if any(host.directories(store, layer) for layer in layers):
        raise ContainerError(f"cannot restore files in '{container.name}': its image is the host", hint=hint)
    if any((store.path / "layers" / layer / "diff").is_symlink() for layer in layers):
        raise ContainerError(f"cannot restore files in '{container.name}': its changes are in memory", hint=hint)


def _added(
    container: Container, new: Sequence[str], cell: CellRecord, volumes: tuple[VolumeState, ...] | None = None
) -> CellRecord:
    """Finish new layers and add a cell with them; see `Container.add_cell`. Return the cell."""
    store = container.workspace.store
    with store.lock(shared=True):
        try:
            for layer in new:
                store.layers.finish(layer)
        except OSError as error:
            raise store_error("restore files", store.path, error) from error
        container.add_cell(cell, volumes)
    return cell


def _drop(container: Container, layer: str) -> None:
    with contextlib.suppress(Exception):
        trash.discard(
            container.workspace.store, container.workspace, [container.workspace.store.path / "layers" / layer]
        )
