"""The containers of a workspace: a new one, one by its name, and all of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcontainer.containers.container import Container
from nbcontainer.containers.record import RECORD, Record, check_free, check_name, locked, not_found, read_record
from nbcontainer.containers.removal import move_to_tmp
from nbcontainer.errors import ContainerDamaged, UsageError
from nbcontainer.oci import timestamps
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.oci.documents import Image


def has(workspace: Workspace, name: str) -> bool:
    """Return whether the store has a named container of that name."""
    return (workspace.store.path / "containers" / name / RECORD).exists()


def check_new(workspace: Workspace, name: str) -> None:
    """Raise `UsageError` or `ContainerExists` if no container of that name can be created now."""
    check_name(name)
    check_free(workspace.store, name)


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
        check_free(store, name)
        lowers = workspace.images.lowers(image)
        created, journal = timestamps.timestamp(), store.unique()
        record = Record(name, image.name, image.digest, lowers, created, labels=dict(labels or {}), journal=journal)
        container = kind(workspace, record, saved=False)
        container.save()
    return container


def create_anonymous(
    workspace: Workspace,
    image: Image,
    labels: Mapping[str, str] | None = None,
    kind: type[Container] = Container,
) -> Container:
    """Return a new anonymous container of an image that the store has just returned, in memory."""
    store = workspace.store
    base = store.index.recall(f"layers of {image.digest}", lambda: workspace.images.lowers(image), look=False)
    record = Record(
        os.urandom(6).hex(),
        image.name,
        image.digest,
        base,
        timestamps.timestamp(),
        session=store.session,
        labels=dict(labels or {}),
        journal=store.unique(),
    )
    return kind(workspace, record, saved=False)


def get(workspace: Workspace, name: str, kind: type[Container] = Container) -> Container:
    """Return the container of that name.

    Raises `ContainerNotFound`, `ContainerDamaged`, `StoreError`, and `UsageError` for an invalid name.
    """
    _check_no_state(name)
    check_name(name)
    place = f"{workspace.store.path}/containers/{name}"
    try:
        return kind(workspace, read_record(place, workspace.states))
    except (FileNotFoundError, NotADirectoryError):
        raise not_found(name) from None
    except OSError as error:
        raise store_error("read a container's record", place, error) from error


def _check_no_state(name: str) -> None:
    """Raise `UsageError` for a state, as `dev@3`, in the place of a container."""
    container, at, number = name.partition("@")
    if at and number.isascii() and number.isdecimal():
        own = f"'{container}'" if container else "a container's name, or leave it out for the last one"
        hint = f"write {own}; `%container checkout {name} --name NEW` makes a container of the state"
        raise UsageError(f"expected a container, and '{name}' is a state of one", hint=hint)


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
    with locked(path), store.lock():
        moved = move_to_tmp(store, [path])
    workspace.discard_later(moved)
