"""A container: its layers, its cells, and what can be done to it.

The verbs are one function or method each. Functions of this module: `create`, `create_anonymous`, `get`, `list_all`,
`remove_damaged`. Methods of `Container`: `use`, `add_cell`, `undo`, `stop`, `remove`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

from nbcontainer.containers.active import running_containers, stop_running
from nbcontainer.containers.pause import wake
from nbcontainer.containers.record import RECORD, CellRecord, Record, layers_in_use, read_record, save_lost, save_record
from nbcontainer.containers.workspace import Workspace
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import (
    ContainerBusy,
    ContainerDamaged,
    ContainerError,
    ContainerExists,
    ContainerNotFound,
    UsageError,
)
from nbcontainer.oci import timestamps
from nbcontainer.oci.documents import Image
from nbcontainer.store.errors import store_error
from nbcontainer.store.layout import Store
from nbcontainer.store.locks import open_lock

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def check_name(name: str) -> str:
    """Return `name` if it is valid as a container's name, a file name and a host name. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = "use up to 63 letters, digits, '_', '.' and '-', and start with a letter or digit"
        raise UsageError(f"invalid container name {name!r}", hint=hint)
    return name


class Container:
    """A container of a workspace's store, named or anonymous.

    An anonymous container belongs to this process, and is in memory only until a cell has changed something. At most
    one process at a time uses a container: `use` holds its lock. `upper` is the write layer of the cell that this
    object runs now, and `confinement` returns the isolation of the last cell that it ran.
    """

    def __init__(self, workspace: Workspace, record: Record) -> None:
        self.workspace = workspace
        self.record = record
        self.upper: WriteLayer | None = None
        self.confinement: Callable[[], dict[str, Any]] | None = None

    def __repr__(self) -> str:
        cells = len(self.record.cells)
        kind = "anonymous, " if self.anonymous else ""
        return f"<Container '{self.name}' of {self.record.image}: {kind}{cells} {'cell' if cells == 1 else 'cells'}>"

    def _repr_html_(self) -> str:
        from nbcontainer.rendering.fields import When
        from nbcontainer.rendering.table import facts
        from nbcontainer.rendering.text import one_line

        last = self.record.cells[-1] if self.record.cells else None
        return facts(
            f"container {self.name}",
            (
                ("image", self.record.image),
                ("created", When(self.record.created)),
                ("cells", str(len(self.record.cells))),
                ("last cell", "" if last is None else one_line(last.command)),
                ("ended", "" if last is None else last.outcome.state),
            ),
        )

    def __copy__(self) -> Container:
        return type(self)(self.workspace, self.record)

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
        return self.anonymous and not self.record.cells

    @property
    def path(self) -> Path:
        """Its directory in the store (host). Raises `ContainerError` for an unpickled container."""
        return self.workspace.store.path / "containers" / self.name

    @property
    def lowers(self) -> tuple[str, ...]:
        """The layers that the next cell sees, the topmost first."""
        return self.record.layers[::-1]

    def image(self) -> Image:
        """Return the image that it was made from. Raises `ImageError` if the store has lost it."""
        return self.workspace.store.index.read_image(self.record.image_digest).named(self.record.image)

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Hold the container's lock, and read its newest record. Raises `ContainerBusy`, `ContainerNotFound`."""
        if self.anonymous:
            yield
            return
        with _locked(self.path):
            try:
                self.record = read_record(self.path)
            except FileNotFoundError:
                raise _not_found(self.name) from None
            yield

    def save(self) -> None:
        """Write the record, atomically. Raises `StoreError`."""
        self._record_confinement()
        save_record(self.workspace.store, self.record)

    def _record_confinement(self) -> None:
        if self.confinement is not None:
            self.record = replace(self.record, confinement=self.confinement())
            self.confinement = None

    def add_cell(self, cell: CellRecord) -> None:
        """Add a cell that has ended. An anonymous container is saved only if the cell has a layer.

        Raises `StoreError`; then the cell is not added.
        """
        before, self.record = self.record, replace(self.record, cells=(*self.record.cells, cell))
        if cell.layer or not self.anonymous:
            try:
                self.save()
            except BaseException:
                self.record = before
                raise

    def lose_cell(self, cell: CellRecord) -> None:
        """Add a cell that has ended and whose changes are lost. It is noted even if the disk is full."""
        self.record = replace(self.record, cells=(*self.record.cells, replace(cell, layer="", lost=True)))
        if not self.anonymous:
            save_lost(self.workspace.store, self.record)

    def remove(self) -> None:
        """Remove the container, and the layers that nothing else uses. Volumes stay. Raises `ContainerBusy`."""
        with self.use(), self.workspace.store.lock():
            self._discard(self.record.cells, [self.path])

    def undo(self) -> CellRecord:
        """Take back the last cell that changed something, or is lost, and all cells after it; return that cell.

        The next cell sees what that cell saw. Raises `ContainerBusy`, and `ContainerError` if no cell changed anything.
        """
        if self.anonymous and self.name in running_containers(self.workspace.store):
            problem = f"container '{self.name}' is running: its cells cannot be taken back one by one"
            raise ContainerBusy(problem, hint="restart the kernel to take back all of them")
        with self.use(), self.workspace.store.lock():
            cells = self.record.cells
            last = next((at for at in reversed(range(len(cells))) if cells[at].layer or cells[at].lost), None)
            if last is None:
                hint = "see `%container history`"
                raise ContainerError(f"nothing to undo: no cell changed container '{self.name}'", hint=hint)
            before = replace(self.record, cells=cells[:last], confinement=None)
            save_record(self.workspace.store, before)
            self.record, self.confinement = before, None
            self._discard(cells[last:], [])
        return cells[last]

    def _discard(self, cells: Iterable[CellRecord], paths: list[Path]) -> None:
        """Discard paths and these cells' layers. The store is locked.

        Layers that something else may use are looked at later, all together: that reads every container's record.
        """
        store = self.workspace.store
        layers = [cell.layer for cell in cells if cell.layer]
        private = {layer for layer in layers if store.layers.is_private(layer)}
        own = [store.path / "layers" / layer for layer in layers if layer in private]
        self.workspace.discard_later(move_to_tmp(store, [*own, *paths]))
        if doubtful := [layer for layer in layers if layer not in private]:
            first = not self.workspace.doubtful
            self.workspace.doubtful += doubtful
            if first:
                self.workspace.later(lambda: _discard_doubtful(self.workspace))

    def stop(self) -> bool:
        """End the cell that runs in it, in any process; return False if none does. Raises `StoreError`."""
        return stop_running(self.workspace.store, self.name)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON values that `inspect` shows."""
        self._record_confinement()
        running = running_containers(self.workspace.store).get(self.name)
        if running is not None:
            wake(self.workspace.store, running.pid, running.upper)
        return {
            **self.record.to_json(),
            "running": None if running is None else running.to_json(),
            "layers": list(self.record.layers),
        }


def _discard_doubtful(workspace: Workspace) -> None:
    """Discard the workspace's doubtful layers that no image and no container uses. Raises `StoreError`."""
    store = workspace.store
    with store.lock():
        layers, workspace.doubtful = workspace.doubtful, []
        named = {path.readlink().name for path in (store.path / "layers" / "sha256").iterdir()}
        try:
            used = named | layers_in_use(store)
        except ContainerDamaged:
            return  # it may use them: the cleanup removes them after a person has removed it
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
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock in a container's directory. Raises `ContainerBusy`, `ContainerNotFound`."""
    try:
        fd = open_lock(path / "lock")
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(path.name) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = f"container '{path.name}' is running, here or in another notebook"
            raise ContainerBusy(problem, hint=f"wait for it, or stop it first: `%container stop {path.name}`") from None
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
        if (store.path / "containers" / name / RECORD).exists():
            hint = f"use it with `--name {name}` and no image, or remove it with `%container rm {name}`"
            raise ContainerExists(f"container '{name}' already exists", hint=hint)
        lowers = workspace.images.lowers(image)
        record = Record(name, image.name, image.digest, lowers, timestamps.timestamp(), labels=dict(labels or {}))
        container = kind(workspace, record)
        container.save()
    return container


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
    return kind(workspace, replace(record, session=store.session))


def get(workspace: Workspace, name: str, kind: type[Container] = Container) -> Container:
    """Return the container of that name.

    Raises `ContainerNotFound`, `ContainerDamaged`, `StoreError`, and `UsageError` for an invalid name.
    """
    check_name(name)
    path = workspace.store.path / "containers" / name
    try:
        return kind(workspace, read_record(path))
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
            found.append(Container(workspace, read_record(path)))
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
