"""Clearing away what dead processes left in the store, and what this one leaves when it ends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nbcontainer.containers.container import move_away
from nbcontainer.containers.record import read_record, records
from nbcontainer.errors import ContainerError, ImageError
from nbcontainer.images import library, trash
from nbcontainer.sandbox.cgroups import group
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.store import durability, partial_blobs

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.workspace import Workspace


def sweep(workspace: Workspace, partly: float = partial_blobs.KEPT) -> int:
    """Removes the anonymous containers and the unfinished work of sessions whose processes are dead; how many things.

    Nothing that is alive, named, or referred to is touched: it happens under the store's exclusive lock, and what is
    unfinished carries the name of its session. What interrupted transfers left goes when it is `partly` seconds old.
    """
    store = workspace.store
    group.sweep(Machine())
    with store.lock():
        durability.recover(store)
        store.sessions.dead()
        alive = store.sessions.alive()
        _drop_anonymous(workspace, alive)
        rubbish = [path for path in (store.path / "tmp").iterdir() if path.name.partition(".")[0] not in alive]
        rubbish += _unused_layers(workspace)
        moved = move_away(store, rubbish)
        parts = partial_blobs.left_over(store, partly, remove=lambda path: path.unlink())
    for path in moved:
        if path.is_file():
            path.unlink()
    if folders := [path for path in moved if path.exists()]:
        trash.discard(store, workspace, folders)
    return len(moved) + len(parts)


def _drop_anonymous(workspace: Workspace, alive: set[str]) -> None:
    for path in (workspace.store.path / "containers").iterdir():
        try:
            session = read_record(path).session
        except (FileNotFoundError, NotADirectoryError):
            session = "none"  # it was being made, under the lock that is held now
        except ContainerError:
            continue  # damaged: a person must look
        if session and session not in alive:
            for file in ("container.json", "lock", "output.log"):
                (path / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.rmdir()


def _unused_layers(workspace: Workspace) -> list[Path]:
    try:
        kept = records(workspace.store)
        used = {layer for record in kept for layer in record.layers}
        return library.collect(workspace.store, used, {record.image_digest for record in kept})
    except (ContainerError, ImageError):
        return []  # what something damaged refers to is not known: nothing is rubbish until a person has looked


def prune(workspace: Workspace) -> int:
    """`%container prune`: the sweep, and the layers and blobs that no image and no container has; how many things."""
    return sweep(workspace, 0)


def end_session(workspace: Workspace) -> None:
    """Removes this process's anonymous containers and whatever it has in `tmp`: at its end."""
    store = workspace.store
    with store.lock():
        _drop_anonymous(workspace, store.sessions.alive() - {store.session})
        mine = [path for path in (store.path / "tmp").iterdir() if path.name.partition(".")[0] == store.session]
        rubbish = mine + _unused_layers(workspace)
        if not rubbish:
            return
        moved = move_away(store, rubbish)
    for path in moved:
        if path.is_file():
            path.unlink()
    if folders := [path for path in moved if path.exists()]:
        trash.discard(store, workspace, folders)
