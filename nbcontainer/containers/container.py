"""A container: its layers, its cells, and its life."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.active import running_containers, stop_running
from nbcontainer.containers.pause import wake
from nbcontainer.containers.record import Record, layers_in_use, read_record, save_record
from nbcontainer.errors import (
    ContainerBusy,
    ContainerDamaged,
    ContainerError,
    ContainerExists,
    ContainerNotFound,
    UsageError,
)
from nbcontainer.images import library
from nbcontainer.oci import timestamps
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from nbcontainer.containers.record import CellRecord
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")


def check_name(name: str) -> str:
    """`name`, if a container can have it: it is a directory's and a host's name too. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        hint = "use letters, digits, _, . and -, at most 63, beginning with a letter or digit"
        raise UsageError(f"{name!r} is no name for a container", hint=hint)
    return name


class Container:
    """One container of an workspace's store, named or anonymous.

    An anonymous one belongs to this process and is in memory only until a cell has changed something. At most one
    process at a time uses a container: `use` holds its lock. `upper` is what a cell writes to that runs in it by this
    object, and `confinement` says what the last cell that ran so was kept in.
    """

    def __init__(self, workspace: Workspace, record: Record) -> None:
        self.workspace = workspace
        self.record = record
        self.upper: WriteLayer | None = None
        self.confinement: Callable[[], dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        """Its name; an anonymous one's is made up."""
        return self.record.name

    @property
    def anonymous(self) -> bool:
        """Whether it goes with its notebook."""
        return bool(self.record.session)

    @property
    def path(self) -> Path:
        """Its directory in the store (host)."""
        return self.workspace.store.path / "containers" / self.name

    @property
    def lowers(self) -> tuple[str, ...]:
        """The layers that the next cell sees, the topmost first."""
        return self.record.layers[::-1]

    def image(self) -> Image:
        """The image that it was made from. Raises `ImageError` where it is lost."""
        return self.workspace.store.read_image(self.record.image_digest).named(self.record.image)

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Holds the container for this process, with its newest record. Raises `ContainerBusy`, `ContainerNotFound`."""
        if self.anonymous:
            yield
            return
        with _held(self.path):
            try:
                self.record = read_record(self.path)
            except FileNotFoundError:
                raise _not_found(self.name) from None
            yield

    def save(self) -> None:
        """Writes the record, atomically."""
        self._note_confinement()
        save_record(self.workspace.store, self.record)

    def _note_confinement(self) -> None:
        if self.confinement is not None:
            self.record = replace(self.record, confinement=self.confinement())
            self.confinement = None

    def add_cell(self, cell: CellRecord) -> None:
        """Adds a cell that has ended; an anonymous container is written down once it has a layer."""
        before, self.record = self.record, replace(self.record, cells=(*self.record.cells, cell))
        if cell.layer or not self.anonymous:
            try:
                self.save()
            except BaseException:
                self.record = before
                raise

    def remove(self) -> None:
        """Removes the container and the layers that only it has; volumes are not its own. Raises `ContainerBusy`."""
        with self.use(), self.workspace.store.lock():
            self._throw_away([*self._own_layers(self.record.cells), self.path])

    def undo(self) -> CellRecord:
        """Takes back the last cell that changed something, with those after it; the cell.

        What the next cell sees is what that one saw. Raises `ContainerBusy`, `ContainerError` where there is none.
        """
        if self.anonymous and self.name in running_containers(self.workspace.store):
            hint = "restart it to take back all of its cells"
            raise ContainerBusy(f"container {self.name} is running: its cells are one", hint=hint)
        with self.use(), self.workspace.store.lock():
            cells = self.record.cells
            last = max((number for number, cell in enumerate(cells) if cell.layer), default=-1)
            if last < 0:
                raise ContainerError(
                    f"no cell of container {self.name} changed anything", hint="see `%container history`"
                )
            before = replace(self.record, cells=cells[:last], confinement=None)
            save_record(self.workspace.store, before)
            self.record, self.confinement = before, None
            self._throw_away(self._own_layers(cells[last:]))
        return cells[last]

    def _own_layers(self, cells: Iterable[CellRecord]) -> list[Path]:
        """The directories of cells' layers, but for what an image or another container has. The store is locked."""
        store = self.workspace.store
        named = {path.readlink().name for path in (store.path / "layers" / "sha256").iterdir()}
        try:
            shared = named | layers_in_use(store, without=self.name)
        except ContainerDamaged:
            return []  # it may share them: the sweep takes them when a person has removed it
        return [store.path / "layers" / cell.layer for cell in cells if cell.layer and cell.layer not in shared]

    def _throw_away(self, paths: list[Path]) -> None:
        store = self.workspace.store
        self.workspace.discard_later(move_away(store, paths))

    def stop(self) -> bool:
        """Ends what runs in it, wherever it was started; False where nothing does."""
        return stop_running(self.workspace, self.name)

    def as_dict(self) -> dict[str, Any]:
        """What `inspect` shows."""
        self._note_confinement()
        running = running_containers(self.workspace.store).get(self.name)
        if running is not None:
            wake(self.workspace.store, running)
        return {**asdict(self.record), "running": running, "layers": list(self.record.layers)}


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds the lock in a container's directory. Raises `ContainerBusy`, `ContainerNotFound`."""
    try:
        fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(path.name) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = f"wait for it, or `%container stop {path.name}`"
            raise ContainerBusy(f"container {path.name} is running, here or in another notebook", hint=hint) from None
        yield
    finally:
        os.close(fd)


def remove_damaged(workspace: Workspace, name: str) -> None:
    """Removes a container whose record cannot be read; what it had is rubbish then. Raises `ContainerBusy`."""
    store = workspace.store
    path = store.path / "containers" / check_name(name)
    with _held(path), store.lock():
        moved = move_away(store, [path])
    workspace.discard_later(moved)


def move_away(store: Store, paths: list[Path]) -> list[Path]:
    """Renames paths into `tmp`, where they are nobody's; returns where they are."""
    moved = []
    for path in paths:
        place = store.path / "tmp" / store.unique()
        with contextlib.suppress(FileNotFoundError):
            path.rename(place)
            moved.append(place)
    return moved


def anonymous(workspace: Workspace, image: Image) -> Container:
    """A new anonymous container, in memory."""
    base = workspace.store.recall(f"layers of {image.digest}", lambda: library.lowers(workspace.store, image))
    name = secrets.token_hex(6)
    created = timestamps.timestamp()
    return Container(workspace, Record(name, image.name, image.digest, base, created, session=workspace.store.session))


def create(workspace: Workspace, image: Image, name: str) -> Container:
    """A new named container, on disk. Raises `ContainerExists`, `UsageError`."""
    check_name(name)
    store = workspace.store
    with store.lock():
        path = store.path / "containers" / name
        if (path / "container.json").exists():
            hint = f"go on with it by --name {name} alone, or `%container rm {name}`"
            raise ContainerExists(f"a container named {name} exists already", hint=hint)
        container = Container(
            workspace, Record(name, image.name, image.digest, library.lowers(store, image), timestamps.timestamp())
        )
        container.save()
    return container


def get(workspace: Workspace, name: str) -> Container:
    """The container of that name, or the anonymous one whose name begins so. Raises `ContainerNotFound`."""
    check_name(name)
    folder = workspace.store.path / "containers"
    try:
        return Container(workspace, read_record(folder / name))
    except (FileNotFoundError, NotADirectoryError):
        raise _not_found(name) from None
    except OSError as error:
        raise store_error("read a container's record", folder / name, error) from error


def _not_found(name: str) -> ContainerNotFound:
    return ContainerNotFound(f"no container named {name}", hint="see `%container ps` for those there are")


def everyone(workspace: Workspace) -> tuple[list[Container], list[str]]:
    """All containers on disk, by name, and the names of those whose records cannot be read."""
    found, damaged = [], []
    for path in sorted((workspace.store.path / "containers").iterdir()):
        try:
            found.append(Container(workspace, read_record(path)))
        except ContainerDamaged:
            damaged.append(path.name)
        except OSError:
            continue  # it has just been removed
    return found, damaged
