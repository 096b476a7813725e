"""Disk usage of a store."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.containers.history.marking import mark
from nbcontainer.containers.history.states import States
from nbcontainer.containers.record import read_record
from nbcontainer.errors import ContainerDamaged, ImageError
from nbcontainer.images import sandboxed
from nbcontainer.oci import documents as oci
from nbcontainer.store.cache_entries import Cache

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.record import Record
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.store.layout import Store

_BLOCK = 512  # of st_blocks, stat(2)
_PLACES = ("layers", "blobs", "partial", "tmp", "containers", "journals", "flats", "volumes", "cache")


@dataclass(frozen=True)
class Usage:
    """Bytes on disk that one image, container or other item uses alone (`own`), and together with others (`shared`)."""

    kind: str
    name: str
    own: int
    shared: int = 0


def usage(workspace: Workspace) -> list[Usage]:
    """Return the disk usage of images and containers, incomplete downloads, work in progress and unreferenced data."""
    store = workspace.store
    trees = {f"layers/{name}": size for name, size in _trees(workspace, "layers").items() if name != "sha256"}
    blobs = {digest: _size(store.blobs.path(digest)) for digest in store.blobs.digests()}
    sizes = trees | blobs
    used_by: dict[tuple[str, str], set[str]] = {}
    for name, image in sorted(store.index.images().items()):
        try:
            config, _ = oci.read_manifest(store.blobs.read(image.digest))
        except ImageError:
            continue  # it has just been removed, or is damaged (`verify`)
        layers = {f"layers/{layer}" for part in image.layers if (layer := store.layers.find(part.diff_id))}
        used_by["image", name] = {
            image.digest,
            config.digest,
            *store.index.indexes(image.index, image.digest),
            *(part.blob.digest for part in image.layers),
        } | layers
    states = workspace.states
    for record in _records(store):
        used_by["container", record.name] = {f"layers/{layer}" for layer in _layers(states, record)}
    users = Counter(thing for items in used_by.values() for thing in items)
    found = [
        Usage(
            kind,
            name,
            sum(sizes.get(thing, 0) for thing in items if users[thing] == 1),
            sum(sizes.get(thing, 0) for thing in items if users[thing] > 1),
        )
        for (kind, name), items in used_by.items()
    ]
    cache = Cache(store.path)
    return [
        *found,
        Usage("cached results", "", *_of_results(cache, sizes, users)),
        *(Usage("volume", name, size) for name, size in sorted(_trees(workspace, "volumes").items())),
        Usage("incomplete downloads", "", sum(_size(path) for path in (store.path / "partial").iterdir())),
        Usage("work in progress", "", sum(_trees(workspace, "tmp").values())),
        Usage("unreferenced", "", sum(size for thing, size in sizes.items() if not users[thing])),
    ]


def _of_results(cache: Cache, sizes: dict[str, int], users: Counter[str]) -> tuple[int, int]:
    """Return the bytes of the results of cached cells: their files and layers, and the layers that containers have."""
    layers = {f"layers/{layer}" for layer in cache.layers()}
    own = sum(sizes.get(layer, 0) for layer in layers if not users[layer])
    shared = sum(sizes.get(layer, 0) for layer in layers if users[layer])
    users.update(layers)
    return own + sum(_size(cache.folder / key) for key in cache.names()), shared


def _records(store: Store) -> list[Record]:
    """Return the records of all containers that can be read, by their names."""
    found = []
    states = States(store.path)
    for path in sorted((store.path / "containers").iterdir()):
        with contextlib.suppress(OSError, ContainerDamaged):
            found.append(read_record(path, states))
    return found


def _layers(states: States, record: Record) -> set[str]:
    """Return all layers that a container needs: of its image, and of all of its states, undone ones too."""
    journals = {state.id.journal for state in (record.head, record.tip) if state is not None} | {record.journal}
    layers = {layer for state in record.carried for layer in state.layers} | set(record.base)
    with contextlib.suppress(ContainerDamaged):
        layers |= mark(states, journals - {""})[1]
    return layers


def total(workspace: Workspace) -> int:
    """Return the bytes on disk of the whole store; shared data counts once."""
    return sum(sum(_trees(workspace, place).values()) for place in _PLACES)


def _trees(workspace: Workspace, place: str) -> dict[str, int]:
    """Return the size of each entry of a directory of the store, counted in a sandbox, which may read all of it."""
    return dict(workspace.on_directory(sandboxed.usage, place, read_only=True))


def _size(path: Path) -> int:
    """Return the bytes on disk of a file; 0 if another process has just removed it."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_blocks * _BLOCK
    return 0
