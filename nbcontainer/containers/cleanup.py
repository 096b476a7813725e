"""Cleanup of the store: what dead processes left in it, and what this process leaves at its end."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cow import interrupted
from nbcontainer.containers.history.marking import mark
from nbcontainer.containers.history.pruning import drop_unreachable
from nbcontainer.containers.history.states import States
from nbcontainer.containers.record import APPLYING, FILES, journals_and_layers_in_use, read_record, records, save_pin
from nbcontainer.containers.removal import move_to_tmp
from nbcontainer.errors import ContainerError, ImageError, StoreError
from nbcontainer.images import trash
from nbcontainer.sandbox.cgroups import group
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.store import durability, partial_blobs
from nbcontainer.store.cache_entries import CONTENTS, BadEntry, Cache
from nbcontainer.store.ended_jobs import note_dead
from nbcontainer.store.errors import store_error
from nbcontainer.store.locks import keep, open_lock, release, try_lock
from nbcontainer.store.sessions import CleanMark

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.active import ActiveCell
    from nbcontainer.containers.history.state import State
    from nbcontainer.containers.record import Record
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.store.layout import Store

_STARTING = 0.1
"""Seconds in which a cell that has found its image begins and is written down: about 10 ms on an idle machine."""


def sweep(workspace: Workspace, partly: float = partial_blobs.KEPT) -> int:
    """Remove the anonymous containers and unfinished work of dead sessions; return how many paths were removed.

    Nothing that is in use, named or referenced is removed: the store's exclusive lock is held, and unfinished work has
    its session in its name. Incomplete downloads are removed after `partly` seconds. Containers are looked at only if
    the store has changed since the last cleanup, so that a notebook starts as fast with many of them.
    """
    store = workspace.store
    group.sweep(Machine())
    with store.lock():
        durability.recover(store)
        note_dead(store)
        alive = store.sessions.alive()
    if not CleanMark(store.path).holds():
        interrupted.finish_all(workspace, alive, last=not partly)
        _let_cells_start(store)
    with store.lock():
        alive = store.sessions.alive()
        unused = [path for path in (store.path / "tmp").iterdir() if path.name.partition(".")[0] not in alive]
        if not partly or not CleanMark(store.path).holds():
            unused += _unused_layers(workspace, _drop_anonymous(workspace, alive))
        moved = move_to_tmp(store, unused)
        parts = partial_blobs.left_over(store, partly, remove=lambda path: path.unlink())
    for path in moved:
        if path.is_file():
            path.unlink()
    if folders := [path for path in moved if path.exists()]:
        trash.discard(store, workspace, folders)
    store.refill()
    return len(moved) + len(parts)


def _let_cells_start(store: Store) -> None:
    """Wait until cells that began with a name that an image has just lost can be seen in `running_containers`."""
    age = time.time() - (store.path / "index.json").stat().st_mtime
    if 0 <= age < _STARTING:
        time.sleep(_STARTING - age)


def _drop_anonymous(workspace: Workspace, alive: set[str]) -> list[Record] | None:
    """Remove the anonymous containers of sessions that are not `alive`; return the records of the others.

    None if one of them is damaged. One whose `apply` is not finished stays: files of the host's are in its staging
    directory, and only the container says where they belong.
    """
    kept: list[Record] | None = []
    states = States(workspace.store.path)
    for path in (workspace.store.path / "containers").iterdir():
        try:
            record = read_record(path, states)
            if not record.session or record.session in alive or os.path.lexists(path / APPLYING):
                if kept is not None:
                    kept.append(record)
                continue
        except (FileNotFoundError, NotADirectoryError):
            pass  # a dead process was creating it: creation holds the lock that is held now
        except ContainerError:
            kept = None  # damaged: only a person removes it
            continue
        for file in FILES:
            (path / file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.rmdir()
    return kept


def _unused_layers(workspace: Workspace, kept: list[Record] | None) -> list[Path]:
    """Return the layers that nothing uses; `kept` are the records of all containers, None if one is damaged.

    Journals and blobs that nothing uses are removed. If that leaves only what belongs to names, the store is marked.
    An anonymous container has no record while its first cell runs: the cell itself says what it uses.
    """
    if kept is None:
        return []  # the layers of damaged records and images are unknown, so all layers may be in use
    store = workspace.store
    try:
        journals, used = journals_and_layers_in_use(store, kept)
        running = list(running_containers(store).values())
        digests = {record.image_digest for record in kept}
        only_running = _is_only_running(store, running, used, digests)
        digests |= {cell.image_digest for cell in running}.intersection(store.blobs.digests())
        found = workspace.images.collect(used.union(*(cell.lowers for cell in running)), digests)
    except (ContainerError, ImageError, StoreError):
        return []
    alive = store.sessions.alive()
    workspace.states.drop_all_but(journals, alive)
    if not found and not only_running and _all_has_names(workspace, kept, journals):
        CleanMark(store.path).set(store.path / "tmp" / store.unique())
    return [path for path in found if not _is_being_filled(workspace, path, alive)]


def _is_only_running(store: Store, running: list[ActiveCell], used: set[str], digests: set[str]) -> bool:
    """Return whether running cells use something that no record and no name of an image does."""
    images = store.index.images().values() if running else ()
    layers = used.union(store.layers.find(layer.diff_id) or "" for image in images for layer in image.layers)
    known = digests.union(image.digest for image in images)
    return not all(cell.image_digest in known and layers.issuperset(cell.lowers) for cell in running)


def _all_has_names(workspace: Workspace, kept: list[Record], journals: set[str]) -> bool:
    """Return whether no container and no journal is one that a living session may leave behind."""
    return not any(record.session for record in kept) and journals.issuperset(workspace.states.journals.names())


def _is_being_filled(workspace: Workspace, path: Path, alive: set[str]) -> bool:
    return path.name.partition(".")[0] in alive and workspace.store.layers.is_unfinished(path.name)


def prune(workspace: Workspace) -> int:
    """Remove all unreferenced data, incomplete downloads too (`%container prune`); return how many paths.

    Raises `StoreError`.
    """
    try:
        return drop_undone(workspace) + drop_results(workspace) + sweep(workspace, 0)
    except OSError as error:
        raise store_error("remove from the store", workspace.store.path, error) from error


def drop_results(workspace: Workspace) -> int:
    """Drop the results of cached cells that no container has in its history; return how many. Raises `OSError`.

    A damaged record or journal may have any result: then nothing is dropped.
    """
    store, cache = workspace.store, Cache(workspace.store.path)
    with store.lock():
        try:
            kept = records(store)
            journals = {record.journal for record in kept if record.journal}
            own = {record.head.id.journal for record in kept if record.head is not None}
            seen, _ = mark(workspace.states, journals | own)
            states = [state for journal in seen for state in workspace.states.all(journal)]
        except ContainerError:
            return 0
        results = {state.cell.result for state in states}
        unused = [key for key, entry in cache.entries() if isinstance(entry, BadEntry) or entry.result not in results]
        for key in unused:
            cache.remove(key)
        _drop_contents(store)
    return len(unused)


def _drop_contents(store: Store) -> None:
    """Remove the digests of layers that are gone (`nbcontainer.containers.cached.layer_content`)."""
    with contextlib.suppress(FileNotFoundError):
        for link in (store.path / CONTENTS).iterdir():
            if not (store.path / "layers" / link.name).exists():
                link.unlink(missing_ok=True)


def drop_undone(workspace: Workspace) -> int:
    """Drop the states that were undone, of all containers that no cell uses now; return how many.

    A damaged record may follow from any state: then nothing is dropped. Raises `OSError`.
    """
    store, states = workspace.store, workspace.states
    with contextlib.ExitStack() as stack:
        idle: set[str] = set()
        busy: set[str] = set()
        stack.enter_context(store.lock())
        for path in (store.path / "containers").iterdir():
            (idle if _locked(stack, path) else busy).add(path.name)
        try:
            kept = records(store)
            for record in kept:
                if record.name in idle and not record.session and record.tip != record.head:
                    save_pin(store, replace(record, tip=record.head))
            heads = [_written(states, record) for record in kept]
            heads += [record.tip for record in kept if record.name in busy or record.session]
            running = {record.journal for record in kept if record.name in busy or record.session}
            new = _being_made(states, kept, store.sessions.alive())
            return drop_unreachable(store, states, heads, running, new)
        except ContainerError:
            return 0


def _written(states: States, record: Record) -> State | None:
    """Return the last state up to the head that is in a journal; None if there is none."""
    if not record.carried:
        return record.head
    parent = record.carried[0].parent
    return None if parent is None else states.get(parent)


def _locked(stack: contextlib.ExitStack, path: Path) -> bool:
    """Hold a container's lock until `stack` ends; return whether that was possible."""
    try:
        fd = keep(open_lock(path / "lock"))
    except OSError:
        return False
    stack.callback(release, fd)
    return try_lock(fd)


def _being_made(states: States, kept: list[Record], alive: set[str]) -> set[str]:
    """Return the journals of living sessions that no record names: their containers are not on disk yet."""
    own = {record.journal for record in kept}
    return {name for name in states.journals.names() if name not in own and name.partition(".")[0] in alive}


def end_session(workspace: Workspace) -> None:
    """Remove this process's anonymous containers, and its files in `tmp`. Call it at the end of the process."""
    store = workspace.store
    with store.lock():
        unused = [path for path in (store.path / "tmp").iterdir() if path.name.partition(".")[0] == store.session]
        if not CleanMark(store.path).holds():
            kept = _drop_anonymous(workspace, store.sessions.alive() - {store.session})
            unused += _unused_layers(workspace, kept)
        if not unused:
            return
        moved = move_to_tmp(store, unused)
    for path in moved:
        if path.is_file():
            path.unlink()
    if folders := [path for path in moved if path.exists()]:
        trash.discard(store, workspace, folders)
