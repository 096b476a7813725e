"""Giving a container some files of an earlier state, as a new state. No bytes are copied: the files are hard links."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from nbcontainer.containers.record import CellRecord
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.images import sandboxed, trash
from nbcontainer.images.builtin import host
from nbcontainer.oci import timestamps
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.container import Container


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
        _check_in_root(container, number, wanted)
        layer = _layer(container, number, wanted)
        try:
            cell = _added(container, layer, f"restore {container.name}@{number} {' '.join(wanted)}")
        except BaseException:
            _drop(container, layer)
            raise
        container.confinement = None
        container.settle()
    return cell


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
            problem = f"cannot restore {missing[0]!r}: neither {container.name} nor its state {number} has it"
            raise ContainerError(problem, hint=f"see `%container diff {container.name}@{number} {container.name}`")
    except BaseException as error:
        _drop(container, new)
        if isinstance(error, OSError):
            raise store_error("restore files", store.path, error) from error
        raise
    return new


def _check_in_root(container: Container, number: int, paths: Sequence[str]) -> None:
    """Raise `ContainerError` for a path in a copy-on-write volume that has changes, now or in the state."""
    state = container.state(number)
    volumes = [*container.record.volumes, *(() if state is None else state.volumes)]
    for target in [volume.target for volume in volumes if volume.layers]:
        for path in paths:
            if f"{path}/".startswith(f"{target.rstrip('/')}/"):
                problem = f"cannot restore {path!r}: it is in the copy-on-write volume at {target}"
                hint = "`%container undo` goes back with the volumes, and `%container discard` drops their changes"
                raise ContainerError(problem, hint=hint)


def _check_reachable(container: Container, layers: Sequence[str]) -> None:
    """Raise `ContainerError` if a layer cannot be linked to: the machine itself, or one in memory."""
    store = container.workspace.store
    hint = "use `undo`, or `checkout CONTAINER@N --name NEW` and copy the files with a volume"
    if any(host.directories(store, layer) for layer in layers):
        raise ContainerError(f"cannot restore files in '{container.name}': its image is this machine", hint=hint)
    if any((store.path / "layers" / layer / "diff").is_symlink() for layer in layers):
        raise ContainerError(f"cannot restore files in '{container.name}': its changes are in memory", hint=hint)


def _added(container: Container, layer: str, text: str) -> CellRecord:
    store = container.workspace.store
    with store.lock(shared=True):
        try:
            store.layers.finish(layer)
        except OSError as error:
            raise store_error("restore files", store.path, error) from error
        cell = CellRecord(layer, text, timestamps.timestamp(time.time()), Outcome(Reason.EXITED, 0))
        container.add_cell(cell)
    return cell


def _drop(container: Container, layer: str) -> None:
    with contextlib.suppress(Exception):
        trash.discard(
            container.workspace.store, container.workspace, [container.workspace.store.path / "layers" / layer]
        )
