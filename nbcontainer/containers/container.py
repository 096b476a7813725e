"""A container: its layers, its cells, and what can be done to it. `nbcontainer.containers.lookup` returns one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from nbcontainer.containers.active import running_containers, stop_running
from nbcontainer.containers.history import isolation, moves
from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.flats import levels
from nbcontainer.containers.history.flatten import MOST_LOWERS, Flattening
from nbcontainer.containers.history.state import CellRecord, State, StateId
from nbcontainer.containers.history.volume_states import VolumeState
from nbcontainer.containers.pause import wake
from nbcontainer.containers.record import (
    APPLYING,
    RECORD,
    Record,
    check_free,
    check_name,
    forget_unrecorded,
    locked,
    mark_lost,
    not_found,
    read_record,
    save_new_record,
    save_pin,
    save_record,
    save_states,
)
from nbcontainer.containers.removal import discard, move_to_tmp
from nbcontainer.containers.workspace import NoWorkspace, Workspace
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import (
    ContainerBusy,
    ContainerError,
    NbcontainerError,
    StoreError,
)
from nbcontainer.oci.documents import Image
from nbcontainer.store.atomic_files import sync_directory
from nbcontainer.store.errors import store_error, store_errors
from nbcontainer.store.locks import Wait


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
                *self._facts_of_now(),
                ("cells", str(self.record.count)),
                ("last cell", "" if last is None else one_line(last.command)),
                ("ended", "" if last is None else last.outcome.state),
            ),
        )

    def _facts_of_now(self) -> tuple[tuple[str, str], ...]:
        """Return rows for what runs in it; a class of containers that has that in hand has some."""
        return ()

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
        return Path(self.place)

    @property
    def place(self) -> str:
        """The same as text, for what each cell does: a joined `Path` costs as much as a system call."""
        return f"{self.workspace.store.path}/containers/{self.name}"

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
        return self.lowers_of(self.record.head)

    def lowers_of(self, state: State | None) -> tuple[str, ...]:
        """Return the layers of a state of this container, None for the image, the topmost first."""
        base = self.record.base[::-1]
        return base if state is None else History(self.workspace.states, state, self.record.carried).lowers() + base

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

    def newest(self) -> Container:
        """Return a named container as it is on disk now, since others change it; this object does not change.

        Raises `ContainerNotFound`, `ContainerDamaged`, `StoreError`.
        """
        return self if self.anonymous else Container(self.workspace, self._newest_record())

    def _newest_record(self) -> Record:
        try:
            return read_record(self.place, self.workspace.states)
        except FileNotFoundError:
            raise not_found(self.name) from None
        except OSError as error:
            raise store_error(f"read container '{self.name}'", self.place, error) from error

    @contextlib.contextmanager
    def use(self, *, wait: Wait | None = None) -> Iterator[None]:
        """Hold the container's lock, and read its newest record. Raises `ContainerBusy`, `ContainerNotFound`.

        If another cell runs in the container, `wait` is called, and this waits for the end of that cell, as
        `lock_in_place` does.
        """
        self.workspace.check_process()
        if self.anonymous:
            if self.saved:
                self._finish_apply()
            yield
            return
        with locked(self.place, wait):
            self.record = self._newest_record()
            self._finish_apply()
            yield

    def _finish_apply(self) -> None:
        """Move back what an unfinished `apply` wrote to the host; if that fails, a later use tries again."""
        if self.applying:
            with contextlib.suppress(NbcontainerError, OSError):
                self.workspace.finish_apply(self)

    @property
    def applying(self) -> bool:
        """Whether an `apply` is not finished: some of the host's files may be in its staging directory."""
        return os.path.lexists(f"{self.place}/{APPLYING}")

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
            try:
                save_new_record(store, record)
                record = save_states(store, states, record)
            except BaseException:
                (self.path / RECORD).unlink(missing_ok=True)
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
            discard(self.workspace, self.record, saved=self.saved)

    def undo(self, steps: int = 1) -> CellRecord:
        """Go back to before the last `steps` cells that changed something or are lost; return the first of these cells.

        The next cell sees what that cell saw. Nothing is removed: `redo` goes forward again. Raises `ContainerBusy`,
        and `ContainerError` if there are fewer such cells.
        """
        return self._move(lambda: moves.back(self.history, self.name, steps))

    def redo(self, steps: int = 1) -> CellRecord:
        """Go forward by `steps` cells that were undone; return the last of them.

        Raises `ContainerBusy`, and `ContainerError` if fewer than `steps` cells were undone since the last new cell.
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
        with store_errors(f"make container '{name}'", store.path), self.use():
            if self.record.carried:
                wanted = None if state is None else state.number
                self.save()
                state = None if wanted is None else self.history_to_tip.numbered(wanted)
            with store.lock():
                check_free(store, name)
                newest = 0 if state is None else state.number
                fork = replace(self.record, name=name, session="", journal=store.unique(), newest=newest)
                if state is not None:
                    if self.workspace.states.find(state.id) is None:
                        self.workspace.states.forget(state.id.journal)
                        problem = f"state {state.number} of container '{self.name}' was removed meanwhile"
                        raise ContainerError(problem, hint=f"see `%container history {self.name} --all`")
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
            raise ContainerError(f"cannot rename container '{self.name}': it is anonymous", hint=hint)
        store = self.workspace.store
        with self.use(), store.lock():
            check_free(store, name)
            self._save_isolation()
            path = store.path / "containers" / name
            if os.path.lexists(path):  # what a killed process left without a record
                self.workspace.discard_later(move_to_tmp(store, [path]))
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


def unpickled(record: Record, kind: type[Container] | None = None) -> Container:
    """Return a container of another process: its record can be looked at, and each use raises `ContainerError`."""
    return (kind or Container)(cast("Workspace", NoWorkspace(record.name)), record)
