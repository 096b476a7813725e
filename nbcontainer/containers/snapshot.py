"""A container as it is now, while something runs in it: a copy to commit, compare or export."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.active import running_containers
from nbcontainer.containers.container import Container, get
from nbcontainer.containers.pause import pause_path, paused, wake
from nbcontainer.containers.record import CellRecord, Record, read_record
from nbcontainer.containers.writes.copies import copied
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteView
from nbcontainer.containers.writes.write_layer import WriteView
from nbcontainer.errors import ContainerBusy
from nbcontainer.oci import timestamps
from nbcontainer.sandbox.outcome import Reason
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.workspace import Workspace


@contextlib.contextmanager
def frozen_copy(workspace: Workspace, name: str) -> Iterator[Container]:
    """A copy of what runs by this name, in whichever process; the container itself where nothing does.

    Raises `ContainerError`, `StoreError`, `ImageError`.
    """
    facts = running_containers(workspace.store).get(name)
    if facts is None:
        yield get(workspace, name)
        return
    wake(workspace.store, facts)
    if facts.get("storage") and name not in workspace.active:
        hint = "do it there, or when the cell has ended"
        raise ContainerBusy(f"what {name} writes is in memory of another notebook (--storage)", hint=hint)
    lowers = tuple(facts["lowers"])
    try:
        record = read_record(workspace.store.path / "containers" / name)
    except (FileNotFoundError, NotADirectoryError):  # an anonymous one, which is written down when it has a layer
        record = Record(name, facts["image"], facts["digest"], lowers[::-1], facts["started"])
    parts = tuple(facts["parts"])
    if facts.get("storage"):
        upper: WriteView = LimitedWriteView(workspace.store, workspace, facts["upper"], lowers, parts)
    else:
        upper = WriteView(workspace.store, facts["upper"], lowers, parts)
    with snapshot(Container(workspace, record), facts["pid"], facts["command"], upper) as copy:
        yield copy


@contextlib.contextmanager
def snapshot(container: Container, init: int, command: str, upper: WriteView | None = None) -> Iterator[Container]:
    """An anonymous container with the files that `container` has now; it is gone afterwards, and its image is not.

    What runs in it, below the host pid `init`, stands still while what it changed, in `upper`, is copied. `command` is
    what the history says of it. Raises `StoreError`, `ImageError`, `ContainerError` where it cannot be paused.
    """
    workspace, store, upper = container.workspace, container.workspace.store, upper or container.upper
    record = replace(container.record, name=secrets.token_hex(6), session=store.session)
    copy = Container(workspace, record)
    try:
        if upper is not None and upper.changed():
            try:
                _add_copy(workspace, copy, upper, init, command)
            except OSError as error:
                raise store_error("copy what the container changed", store.path, error) from error
        yield copy
    finally:
        copy.remove()


def _add_copy(workspace: Workspace, copy: Container, upper: WriteView, init: int, command: str) -> None:
    """Adds the upper directory as it is now to `copy`, as a layer of its own."""
    store = workspace.store
    still = paused(init, pause_path(store, upper.id))
    with copied(store, workspace, upper, still) as place, store.lock(shared=True):
        place.rename(store.path / "layers" / place.name)
        copy.add_cell(CellRecord(place.name, command, timestamps.timestamp(), Reason.EXITED, 0))
