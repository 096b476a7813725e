"""Removing a container: its directory and the layers that nothing else uses go to `tmp`, unused there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.active import running_containers
from nbcontainer.containers.history.marking import mark
from nbcontainer.containers.record import journals_and_layers_in_use
from nbcontainer.errors import ContainerDamaged
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.record import Record
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.store.layout import Store


def discard(workspace: Workspace, record: Record, *, saved: bool) -> None:
    """Discard a container and its layers; `saved` is whether it is on disk. The store is locked.

    Layers that something else may use are looked at later, all together: that reads every container's record.
    """
    store, states, journal = workspace.store, workspace.states, record.journal
    layers = {layer for state in record.carried for layer in state.layers}
    if journal:
        with contextlib.suppress(ContainerDamaged):  # the cleanup removes its layers later
            layers |= mark(states, [journal], follow=False)[1]
    shared = bool(journal) and states.journals.is_shared(journal)
    private = set() if shared else {layer for layer in layers if store.layers.is_private(layer)}
    own = [store.path / "layers" / layer for layer in sorted(private)]
    moved = move_to_tmp(store, [store.path / "containers" / record.name, *own] if saved else own)
    if journal and not shared:
        states.drop(journal)
    workspace.discard_later(moved)
    if shared or layers - private:
        first = not workspace.doubtful
        workspace.doubtful += sorted(layers - private)
        if first:
            workspace.later(lambda: _discard_doubtful(workspace))


def _discard_doubtful(workspace: Workspace) -> None:
    """Discard the workspace's doubtful layers that no image and no container uses. Raises `StoreError`.

    Journals of removed containers whose states no container follows from go, too.
    """
    store = workspace.store
    with store.lock():
        layers, workspace.doubtful = workspace.doubtful, []
        named = {path.readlink().name for path in (store.path / "layers" / "sha256").iterdir()}
        try:
            journals, used = journals_and_layers_in_use(store)
        except ContainerDamaged:
            return  # it may use them: the cleanup removes them after a person has removed it
        workspace.states.drop_all_but(journals, store.sessions.alive())
        used |= named.union(*(cell.lowers for cell in running_containers(store).values()))
        moved = move_to_tmp(store, [store.path / "layers" / layer for layer in layers if layer not in used])
    workspace.discard_later(moved)


def move_to_tmp(store: Store, paths: list[Path]) -> list[Path]:
    """Rename paths of the store into its `tmp`, unused there; return their new paths. Raises `StoreError`."""
    moved = []
    for path in paths:
        place = store.path / "tmp" / store.unique()
        try:
            path.rename(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise store_error(f"remove {path.name} from the store", store.path, error) from error
        moved.append(place)
    return moved
