"""Frozen copies of running containers, to commit, compare or export."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.active import ActiveCell, running_containers
from nbcontainer.containers.container import Container
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.lookup import get
from nbcontainer.containers.pause import pause_path, paused, wake
from nbcontainer.containers.record import Record, read_record
from nbcontainer.containers.writes.copies import copied
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteView
from nbcontainer.containers.writes.write_layer import WriteView
from nbcontainer.errors import ContainerBusy, ContainerError, NbcontainerError, StoreError
from nbcontainer.oci import timestamps
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nbcontainer.containers.history.state import State
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.store.layout import Store

_TRIES = 3
"""Cells in the same container that may end while they are copied, one after the other."""


@contextlib.contextmanager
def frozen_copy(workspace: Workspace, name: str) -> Iterator[Container]:
    """Yield a copy of the container that runs under this name, in any process; the container itself if it does not run.

    If it ends while it is copied, it is read as it is then. Raises `ContainerError`, `StoreError`, `ImageError`.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(_TRIES):
            cell = running_containers(workspace.store).get(name)
            if cell is None:
                break
            try:
                copy = stack.enter_context(_copy_of(workspace, name, cell))
            except (NbcontainerError, OSError) as error:
                # It has ended meanwhile, or long ago, and its notebook could not write that down.
                if cell.alive and (workspace.store.path / "tmp" / cell.upper).exists():
                    if isinstance(error, OSError):
                        raise store_error(f"copy container '{name}'", workspace.store.path, error) from error
                    raise
            else:
                yield copy
                return
        yield get(workspace, name)


@contextlib.contextmanager
def _copy_of(workspace: Workspace, name: str, cell: ActiveCell) -> Iterator[Container]:
    """Yield a copy of the container of that name while `cell` runs in it. Raises as `frozen_copy`."""
    wake(workspace.store, cell.pid, cell.upper)
    if cell.storage is not None and name not in workspace.active:
        problem = f"cannot read container '{name}' from here: its `--storage` layer is in another notebook's memory"
        raise ContainerBusy(problem, hint="do it in that notebook, or after the cell has ended")
    try:
        record = read_record(workspace.store.path / "containers" / name, workspace.states)
    except (FileNotFoundError, NotADirectoryError):  # an anonymous container has no record before its first layer
        base, journal = cell.lowers[::-1], workspace.store.unique()
        record = Record(name, cell.image, cell.image_digest, base, cell.started, labels=cell.labels, journal=journal)
    if cell.storage is not None:
        upper: WriteView = LimitedWriteView(workspace.store, workspace, cell.upper, cell.lowers, cell.parts)
    else:
        upper = WriteView(workspace.store, workspace, cell.upper, cell.lowers, cell.parts)
    upper.mount_points = cell.mount_points
    with snapshot(Container(workspace, record), cell.pid, cell.command, upper) as copy:
        yield copy


@contextlib.contextmanager
def snapshot(container: Container, init: int, command: str, upper: WriteView | None = None) -> Iterator[Container]:
    """Yield an anonymous container with the files that `container` has now; it is removed at the end.

    The processes below the host pid `init` are paused while the write layer `upper` is copied. `command` is the text of
    the copied layer in the history. An image made from the copy stays. Raises `StoreError`,
    `ImageError`, and `ContainerError` if it cannot be paused.
    """
    workspace, store, upper = container.workspace, container.workspace.store, upper or container.upper
    copy = _fork(container)
    try:
        _hold(copy, container.name)
        if upper is not None and upper.changed():
            try:
                _add_copy(workspace, copy, upper, init, command)
            except OSError as error:
                raise store_error("copy the container's changes", store.path, error) from error
        yield copy
    finally:
        copy.remove()


@contextlib.contextmanager
def held_state(container: Container, state: State | None) -> Iterator[Container]:
    """Yield an anonymous container in a state of `container`, None for its image; it is removed at the end.

    It holds the state's layers against `rm` and `prune` of every process. `state` is one of this container's own,
    undone or not. Raises `ContainerError` if a layer has just been removed.
    """
    copy = _fork(container)
    if state is not None and container.record.carried:
        state = copy.state(state.number)
    number = 0 if state is None else state.number
    carried = tuple(one for one in copy.record.carried if one.number <= number)
    copy.record = replace(copy.record, head=state, tip=state, carried=carried)
    try:
        _hold(copy, container.name)
        yield copy
    finally:
        with contextlib.suppress(StoreError, OSError):
            copy.remove()


@contextlib.contextmanager
def held(workspace: Workspace, name: str, digest: str, layers: Sequence[str]) -> Iterator[None]:
    """Hold an image (its digest) and layers (ids) against `rm`, `rmi` and `prune` of every process, inside the block.

    An anonymous container's record refers to them: if this process dies, the next cleanup removes it. On a store that
    takes no record (full or read-only) nothing is held. Raises `ContainerError` if a layer has just been removed.
    """
    store = workspace.store
    base, now = tuple(layers), timestamps.timestamp()
    record = Record(secrets.token_hex(6), name, digest, base, now, session=store.session, journal=store.unique())
    holder = Container(workspace, record, saved=False)
    try:
        _hold(holder, name)
        yield
    finally:
        with contextlib.suppress(StoreError, OSError):
            holder.remove()


def _hold(holder: Container, name: str) -> None:
    """Write the record of `holder`, which refers to the image and the layers of the container or image `name`.

    Raises `ContainerError` if one of them has just been removed.
    """
    store, record = holder.workspace.store, holder.record
    with contextlib.suppress(StoreError, OSError), store.lock(shared=True):
        _share(store, record.base)
        if record.head is not None:
            holder.workspace.states.share(record.head.id.journal)
        holder.save()
    needed = [store.path / "layers" / layer / "diff" for layer in holder.lowers]
    if not all(path.exists() for path in (store.blobs.path(record.image_digest), *needed)):
        problem = f"'{name}' was removed in another process, or a layer of it is missing"
        raise ContainerError(problem, hint="see `%container ps` and `images`; `%container verify` names missing layers")


def _fork(container: Container) -> Container:
    """Return an anonymous container, in memory, with the state and the history of `container`."""
    store = container.workspace.store
    record = container.record.moved_to(store.unique())
    copied = replace(record, name=secrets.token_hex(6), session=store.session)
    return Container(container.workspace, copied, saved=False)


def _share(store: Store, layers: Iterable[str]) -> None:
    with contextlib.suppress(OSError):  # a layer that has just been removed
        for layer in layers:
            store.layers.share(layer)


def _add_copy(workspace: Workspace, copy: Container, upper: WriteView, init: int, command: str) -> None:
    """Add a copy of the write layer to `copy`, as a new layer."""
    store = workspace.store
    still = paused(init, pause_path(store, upper.id))
    with copied(store, workspace, upper, still) as place, store.lock(shared=True):
        place.rename(store.path / "layers" / place.name)
        copy.add_cell(CellRecord(place.name, command, timestamps.timestamp(), Outcome(Reason.EXITED, 0)))
