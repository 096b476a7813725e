"""A container: its layers, its cells, and what can be done to it.

The verbs are one function or method each. Functions of this module: `create`, `create_anonymous`, `get`, `list_all`,
`remove_damaged`. Methods of `Container`: `use`, `add_cell`, `undo`, `redo`, `rename`, `stop`, `remove`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

from nbcontainer.containers.active import running_containers, stop_running
from nbcontainer.containers.history import isolation, moves
from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.flats import levels
from nbcontainer.containers.history.flatten import MOST_LOWERS, Flattening
from nbcontainer.containers.history.marking import mark
from nbcontainer.containers.history.state import CellRecord, State, StateId
from nbcontainer.containers.history.volume_states import VolumeState
from nbcontainer.containers.pause import wake
from nbcontainer.containers.record import (
    RECORD,
    Record,
    forget_unrecorded,
    journals_and_layers_in_use,
    mark_lost,
    read_record,
    save_pin,
    save_record,
    save_states,
)
from nbcontainer.containers.workspace import Workspace
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import (
    ContainerBusy,
    ContainerDamaged,
    ContainerError,
    ContainerExists,
    ContainerNotFound,
    StoreError,
    UsageError,
)
from nbcontainer.oci import timestamps
from nbcontainer.oci.documents import Image
from nbcontainer.store.atomic_files import sync_directory
from nbcontainer.store.errors import store_error
from nbcontainer.store.layout import Store
from nbcontainer.store.locks import lock_in_place

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def check_name(name: str) -> str:
    """Return `name` if it is valid as a container's name, a file name and a host name. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = "use up to 63 letters, digits, '_', '.' and '-', and start with a letter or digit"
        raise UsageError(f"invalid container name {name!r}", hint=hint)
    return name


class Container:
    """A container of a workspace's store, named or anonymous.

    An anonymous container belongs to this process, and is in memory only until a cell has changed something: `saved` is
    whether it is on disk. At most one process at a time uses a container: `use` holds its lock. `upper` is the write
    layer of the cell that this object runs now, and `confinement` returns the isolation of the last cell that it ran.
    """

    def __init__(self, workspace: Workspace, record: Record, *, saved: bool = True) -> None:
        self.workspace = workspace
        self.record = record
        self.saved = saved
        self.upper: WriteLayer | None = None
        self.confinement: Callable[[], dict[str, Any]] | None = None

    def __repr__(self) -> str:
        cells = self.record.count
        kind = "anonymous, " if self.anonymous else ""
        return f"<Container '{self.name}' of {self.record.image}: {kind}{cells} {'cell' if cells == 1 else 'cells'}>"

    def _repr_html_(self) -> str:
        from nbcontainer.rendering.fields import When
        from nbcontainer.rendering.table import facts
        from nbcontainer.rendering.text import one_line

        last = self.record.last
        return facts(
            f"container {self.name}",
            (
                ("image", self.record.image),
                ("created", When(self.record.created)),
                ("cells", str(self.record.count)),
                ("last cell", "" if last is None else one_line(last.command)),
                ("ended", "" if last is None else last.outcome.state),
            ),
        )

    def __copy__(self) -> Container:
        return type(self)(self.workspace, self.record, saved=self.saved)

    def __deepcopy__(self, _: dict[int, Any]) -> Container:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the record alone: in another process, the container can be looked at but not used."""
        return unpickled, (self.record, type(self))

    @property
    def name(self) -> str:
        """Its name. An anonymous container's name is random."""
        return self.record.name

    @property
    def anonymous(self) -> bool:
        """Whether it is removed when its process ends."""
        return bool(self.record.session)

    @property
    def unused(self) -> bool:
        """Whether it is anonymous and has run nothing: its first cell gives it the name of a warm container."""
        return self.anonymous and not self.record.count

    @property
    def path(self) -> Path:
        """Its directory in the store (host). Raises `ContainerError` for an unpickled container."""
        return self.workspace.store.path / "containers" / self.name

    @property
    def history(self) -> History:
        """The states that its present state follows from."""
        return History(self.workspace.states, self.record.head, self.record.carried)

    @property
    def cells(self) -> tuple[CellRecord, ...]:
        """Its cells, the oldest first. Reads all of them: `record.last` and `record.count` do not."""
        return tuple(state.cell for state in self.history.chain())[::-1]

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers, from the bottom up: those of the image, and one of each cell that changed something."""
        return self.record.base + self.history.layers()

    @property
    def lowers(self) -> tuple[str, ...]:
        """The layers that the next cell sees, the topmost first: few, because flattened ones stand for many."""
        return self.history.lowers() + self.record.base[::-1]

    def lowers_of(self, state: State | None) -> tuple[str, ...]:
        """Return the layers of a state of this container, None for the image, the topmost first."""
        return History(self.workspace.states, state, self.record.carried).lowers() + self.record.base[::-1]

    @property
    def seen(self) -> tuple[str, ...]:
        """The layers that the last cell saw, the topmost first; those of the image if there was no cell."""
        head = self.record.head
        parent = None if head is None or head.parent is None else self.history.get(head.parent)
        return self.lowers_of(parent)

    def image(self) -> Image:
        """Return the image that it was made from. Raises `ImageError` if the store has lost it."""
        index, digest = self.workspace.store.index, self.record.image_digest
        return index.recall(f"image {digest}", lambda: index.read_image(digest)).named(self.record.image)

    @contextlib.contextmanager
    def use(self, *, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the container's lock, and read its newest record. Raises `ContainerBusy`, `ContainerNotFound`.

        If another cell runs in the container, `wait` is called, and this waits for the end of that cell.
        """
        if self.anonymous:
            yield
            return
        with _locked(self.path, wait):
            try:
                self.record = read_record(self.path, self.workspace.states)
            except FileNotFoundError:
                raise _not_found(self.name) from None
            yield

    def save(self) -> None:
        """Write the record and its states. Raises `StoreError`; then the container is on disk as it was before."""
        store, states, record = self.workspace.store, self.workspace.states, self.record
        if not record.journal:
            journal = store.unique()
            record = save_states(store, states, record.moved_to(journal))
            save_record(store, record)
        elif self.saved:
            record = save_states(store, states, record)
        else:
            save_record(store, record)
            try:
                record = save_states(store, states, record)
                if record.head is not None and record.head.id.journal != record.journal:
                    save_pin(store, record)
            except BaseException:
                (self.path / RECORD).unlink()
                forget_unrecorded(self.path)
                raise
        self.record, self.saved = record, True

    def settle(self) -> None:
        """Bring the newest states to disk, and write the isolation of the last cell, in the background."""
        if not self.saved or self.record.head is None:
            return
        if self.confinement is not None:
            self.workspace.isolations[self.name] = (self.record.head.id, self.confinement)
            self.workspace.later(self._save_isolation)
        head, states = self.record.head, self.workspace.states
        if not self.anonymous:
            journal = self.record.journal
            self.workspace.later(lambda: states.journals.sync(journal))
        if head.layer and levels(head.depth):
            self.workspace.later(lambda: self._flattening.after(head))

    @property
    def _flattening(self) -> Flattening:
        return Flattening(self.workspace.store, self.workspace.states, self.workspace, self.record.base)

    def groups(self, most: int) -> list[tuple[str, list[State]]]:
        """Return its layers on the image as `History.groups` does; flatten them first if there are more than `most`.

        So the same states give the same groups. Call it inside `use`. Raises `StoreError` and what a sandbox raises.
        """
        if self.record.head is not None and self.record.head.depth > most and self.saved:
            if self.record.carried:
                self.save()
            self._flattening.all(self.record.head)
        return self.history.groups(most)

    def flatten(self) -> None:
        """Flatten layers if the next cell would see too many: earlier attempts failed, or were killed.

        Raises `StoreError` and what a sandbox raises.
        """
        head = self.record.head
        if head is None or head.depth <= MOST_LOWERS or not self.saved:
            return
        if len(self.history.lowers()) > MOST_LOWERS:
            if self.record.carried:  # an older version made it
                self.save()
            self._flattening.all(self.record.head)

    def _save_isolation(self) -> None:
        known = self.workspace.isolations.get(self.name)
        if known is not None and self.path.exists():
            isolation.save(self.workspace.store, self.path, known[0], known[1]())
        if self.workspace.isolations.get(self.name) is known:
            self.workspace.isolations.pop(self.name, None)

    def add_cell(self, cell: CellRecord, volumes: tuple[VolumeState, ...] | None = None) -> None:
        """Add a cell that has ended, with the copy-on-write volumes after it (None: as before).

        An anonymous container is saved only if the cell has a layer. Raises `StoreError`; then the cell is not added.
        """
        before, self.record = self.record, self.record.after(cell, volumes=volumes)
        if cell.layer or (self.record.head is not None and self.record.head.moved) or not self.anonymous:
            try:
                self.save()
            except BaseException:
                self.record = before
                raise

    def lose_cell(self, cell: CellRecord) -> None:
        """Add a cell that has ended and whose changes are lost. It is noted even if the disk is full."""
        self.record = self.record.after(replace(cell, layer="", lost=True))
        if not self.anonymous:
            try:
                self.save()
            except StoreError:
                mark_lost(self.workspace.store, self.record)

    def remove(self) -> None:
        """Remove the container, and the layers that nothing else uses. Volumes stay. Raises `ContainerBusy`."""
        if self.anonymous and not self.saved:
            return  # no cell has changed anything (`add_cell`)
        with self.use(), self.workspace.store.lock():
            self._discard()

    def undo(self, steps: int = 1) -> CellRecord:
        """Go back to before the last cell that changed something, or is lost; return that cell. Do it `steps` times.

        The next cell sees what that cell saw. Nothing is removed: `redo` goes forward again. Raises `ContainerBusy`,
        and `ContainerError` if there are not so many cells.
        """
        return self._move(lambda: moves.back(self.history, self.name, steps))

    def redo(self, steps: int = 1) -> CellRecord:
        """Go forward by a cell that was undone, and return that cell. Do it `steps` times.

        Raises `ContainerBusy`, and `ContainerError` if no cell, or not so many, were undone since the last new cell.
        """
        return self._move(lambda: moves.forward(self.history_to_tip, self.name, self.record.head, steps))

    @property
    def history_to_tip(self) -> History:
        """The states up to the newest one that `redo` leads to."""
        return History(self.workspace.states, self.record.tip, self.record.carried)

    def _move(self, move: Callable[[], tuple[State | None, CellRecord]]) -> CellRecord:
        """Make another state the container's; return the cell that lies between."""
        self.check_not_running()
        with self.use():
            if self.saved and self.record.carried:
                self.save()
            head, cell = move()
            self.move_to(replace(self.record, head=head))
        return cell

    def move_to(self, record: Record) -> None:
        """Make the head and the tip of `record` the container's. Call it inside `use`. Raises `StoreError`."""
        if self.saved:
            save_pin(self.workspace.store, record)
        self.record, self.confinement = record, None

    def check_not_running(self) -> None:
        """Raise `ContainerBusy` for the container of a kernel: it has no lock."""
        if self.anonymous and self.name in running_containers(self.workspace.store):
            problem = f"container '{self.name}' is running: its state cannot be changed"
            raise ContainerBusy(problem, hint="restart the kernel to undo all of its cells")

    def _discard(self) -> None:
        """Discard the container, and its layers. The store is locked.

        Layers that something else may use are looked at later, all together: that reads every container's record.
        """
        store, states, journal = self.workspace.store, self.workspace.states, self.record.journal
        layers = {layer for state in self.record.carried for layer in state.layers}
        if journal:
            with contextlib.suppress(ContainerDamaged):  # the cleanup removes its layers later
                layers |= mark(states, [journal], follow=False)[1]
        shared = bool(journal) and states.journals.is_shared(journal)
        private = set() if shared else {layer for layer in layers if store.layers.is_private(layer)}
        own = [store.path / "layers" / layer for layer in sorted(private)]
        moved = move_to_tmp(store, [self.path, *own] if self.saved else own)
        if journal and not shared:
            states.drop(journal)
        self.workspace.discard_later(moved)
        if shared or layers - private:
            first = not self.workspace.doubtful
            self.workspace.doubtful += sorted(layers - private)
            if first:
                self.workspace.later(lambda: _discard_doubtful(self.workspace))

    def all_states(self) -> list[State]:
        """Return all states of its own journal, undone ones too, and those that are in no journal yet."""
        journal = self.record.journal
        return [*(self.workspace.states.all(journal) if journal else ()), *self.record.carried]

    def checkout(self, state: State | None, name: str) -> Container:
        """Return a new container of that name in a state of this one, None for the image. It shares all data.

        Raises `ContainerBusy`, `ContainerExists`, `StoreError`, `UsageError`.
        """
        check_name(name)
        store = self.workspace.store
        self.check_not_running()
        with self.use():
            if self.record.carried:
                wanted = None if state is None else state.number
                self.save()
                state = None if wanted is None else self.history_to_tip.numbered(wanted)
            with store.lock():
                _check_free(store, name)
                newest = 0 if state is None else state.number
                fork = replace(self.record, name=name, session="", journal=store.unique(), newest=newest)
                if state is not None:
                    self.workspace.states.share(state.id.journal)
                made = type(self)(self.workspace, replace(fork, head=state, tip=state), saved=False)
                made.save()
        return made

    def rename(self, name: str) -> None:
        """Give the container another name; all that it has stays with it.

        Raises `ContainerBusy`, `ContainerExists`, `ContainerNotFound`, `StoreError`, `UsageError`, and `ContainerError`
        for an anonymous container.
        """
        check_name(name)
        if self.anonymous:
            hint = f"name a copy of it: `%container checkout {self.name}@N --name {name}`, with the number of a cell"
            raise ContainerError(f"container '{self.name}' ends with its notebook and keeps its name", hint=hint)
        store = self.workspace.store
        with self.use(), store.lock():
            _check_free(store, name)
            self._save_isolation()
            path = store.path / "containers" / name
            self.workspace.discard_later(move_to_tmp(store, [path]))  # what a killed process left without a record
            try:
                self.path.rename(path)
                self.record = replace(self.record, name=name)
                sync_directory(path.parent)
            except OSError as error:
                raise store_error(f"rename container '{self.name}'", store.path, error) from error

    def state(self, number: int) -> State | None:
        """Return the state after the cell of that number, None for the image (0). Undone states are found too.

        Raises `ContainerError` if the state does not exist.
        """
        if number == 0:
            return None
        own = StateId(self.record.journal, number)
        found = self.workspace.states.find(own) if self.record.journal else None
        found = found or self.history_to_tip.numbered(number)
        if found is None:
            hint = f"list the states with `%container history {self.name} --all`"
            raise ContainerError(f"container '{self.name}' has no state {number}", hint=hint)
        return found

    def stop(self) -> bool:
        """End the cell that runs in it, in any process; return False if none does. Raises `StoreError`."""
        return stop_running(self.workspace.store, self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON values that `inspect` shows."""
        running = running_containers(self.workspace.store).get(self.name)
        if running is not None:
            wake(self.workspace.store, running.pid, running.upper)
        return {
            **self.record.to_json(),
            "state": None if self.record.head is None else str(self.record.head.id),
            "cells": [cell.to_json() for cell in self.cells],
            "confinement": self._isolation(),
            "running": None if running is None else running.to_json(),
            "layers": list(self.layers),
        }

    def _isolation(self) -> dict[str, Any] | None:
        if self.confinement is not None:
            return self.confinement()
        head = None if self.record.head is None else self.record.head.id
        known = self.workspace.isolations.get(self.name)
        if known is not None and known[0] == head:
            return known[1]()
        return isolation.read(self.path, head) if self.saved else None


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
        used |= named
        moved = move_to_tmp(store, [store.path / "layers" / layer for layer in layers if layer not in used])
    workspace.discard_later(moved)


class _NoWorkspace:
    """The workspace of an unpickled container: each use of it raises `ContainerError`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        problem = f"container '{self._name}' was copied from another process and cannot be used here"
        raise ContainerError(problem, hint="open a named container with `nbcontainer.get(NAME)`")


def unpickled(record: Record, kind: type[Container] | None = None) -> Container:
    """Return a container of another process: its record can be looked at, and each use raises `ContainerError`."""
    return (kind or Container)(cast("Workspace", _NoWorkspace(record.name)), record)


@contextlib.contextmanager
def _locked(path: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock in a container's directory. Raises `ContainerBusy`, `ContainerNotFound`.

    With `wait`, call that if another process or thread holds it, and wait until it is free.
    """
    try:
        fd = lock_in_place(path / "lock", wait)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(path.name) from None
    except BlockingIOError:
        problem = f"container '{path.name}' is running, here or in another notebook"
        hint = f"wait for it, or stop it first: `%container stop {path.name}`"
        raise ContainerBusy(problem, hint=hint) from None
    try:
        yield
    finally:
        os.close(fd)


def create(
    workspace: Workspace,
    image: Image,
    name: str,
    labels: Mapping[str, str] | None = None,
    kind: type[Container] = Container,
) -> Container:
    """Return a new named container, on disk. Raises `ContainerExists`, `UsageError`, `StoreError`."""
    check_name(name)
    store = workspace.store
    with store.lock():
        _check_free(store, name)
        lowers = workspace.images.lowers(image)
        created, journal = timestamps.timestamp(), store.unique()
        record = Record(name, image.name, image.digest, lowers, created, labels=dict(labels or {}), journal=journal)
        container = kind(workspace, record, saved=False)
        container.save()
    return container


def _check_free(store: Store, name: str) -> None:
    """Raise `ContainerExists` if a container has that name. The store is locked."""
    if (store.path / "containers" / name / RECORD).exists():
        hint = f"use it with `--name {name}` and no image, or remove it with `%container rm {name}`"
        raise ContainerExists(f"container '{name}' already exists", hint=hint)


def create_anonymous(
    workspace: Workspace,
    image: Image,
    labels: Mapping[str, str] | None = None,
    kind: type[Container] = Container,
) -> Container:
    """Return a new anonymous container, in memory."""
    store = workspace.store
    base = store.index.recall(f"layers of {image.digest}", lambda: workspace.images.lowers(image))
    created = timestamps.timestamp()
    record = Record(secrets.token_hex(6), image.name, image.digest, base, created, labels=dict(labels or {}))
    return kind(workspace, replace(record, session=store.session, journal=store.unique()), saved=False)


def get(workspace: Workspace, name: str, kind: type[Container] = Container) -> Container:
    """Return the container of that name.

    Raises `ContainerNotFound`, `ContainerDamaged`, `StoreError`, and `UsageError` for an invalid name.
    """
    check_name(name)
    path = workspace.store.path / "containers" / name
    try:
        return kind(workspace, read_record(path, workspace.states))
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(name) from None
    except OSError as error:
        raise store_error("read a container's record", path, error) from error


def _not_found(name: str) -> ContainerNotFound:
    return ContainerNotFound(f"no such container: '{name}'", hint="list containers with `%container ps`")


def list_all(workspace: Workspace) -> tuple[list[Container], list[str]]:
    """Return all containers on disk, by name, and the names of those whose record cannot be read."""
    found, damaged = [], []
    for path in sorted((workspace.store.path / "containers").iterdir()):
        try:
            found.append(Container(workspace, read_record(path, workspace.states)))
        except ContainerDamaged:
            damaged.append(path.name)
        except OSError:
            continue  # it has just been removed
    return found, damaged


def remove_damaged(workspace: Workspace, name: str) -> None:
    """Remove a container whose record cannot be read. `prune` removes its layers later. Raises `ContainerBusy`."""
    store = workspace.store
    path = store.path / "containers" / check_name(name)
    with _locked(path), store.lock():
        moved = move_to_tmp(store, [path])
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
