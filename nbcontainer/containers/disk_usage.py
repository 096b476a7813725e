"""What takes space in a store, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.containers.record import records
from nbcontainer.images import sandboxed
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.workspace import Workspace

_BLOCK = 512  # of st_blocks, stat(2)
_PLACES = ("layers", "blobs", "partial", "tmp", "containers")


@dataclass(frozen=True)
class Usage:
    """Bytes on disk of one user: what it has alone, and what it shares with others."""

    kind: str
    name: str
    own: int
    shared: int = 0


def usage(workspace: Workspace) -> list[Usage]:
    """The images' and containers' space, and that of what nobody has any more or does not have yet."""
    store = workspace.store
    trees = {f"layers/{name}": size for name, size in _trees(workspace, "layers").items() if name != "sha256"}
    blobs = {f"sha256:{path.name}": _size(path) for path in (store.path / "blobs/sha256").iterdir()}
    things = trees | blobs
    has: dict[tuple[str, str], set[str]] = {}
    for name, image in sorted(store.images().items()):
        config, _ = oci.read_manifest(store.read_blob(image.digest))
        layers = {f"layers/{layer}" for one in image.layers if (layer := store.layer(one.diff_id))}
        has["image", name] = {
            image.digest,
            config.digest,
            *store.indexes(image.index, image.digest),
            *(one.blob.digest for one in image.layers),
        } | layers
    for record in records(store):
        has["container", record.name] = {f"layers/{layer}" for layer in record.layers}
    users = {thing: sum(thing in found for found in has.values()) for thing in things}
    found = [
        Usage(
            kind,
            name,
            sum(things[thing] for thing in mine if users.get(thing) == 1),
            sum(things[thing] for thing in mine if users.get(thing, 0) > 1),
        )
        for (kind, name), mine in has.items()
    ]
    return [
        *found,
        Usage("broken-off transfers", "", sum(_size(path) for path in (store.path / "partial").iterdir())),
        Usage("work in progress", "", sum(_trees(workspace, "tmp").values())),
        Usage("nobody's", "", sum(size for thing, size in things.items() if not users[thing])),
    ]


def total(workspace: Workspace) -> int:
    """Bytes on disk of the whole store, everything once."""
    return sum(sum(_trees(workspace, place).values()) for place in _PLACES)


def _trees(workspace: Workspace, place: str) -> dict[str, int]:
    """What is in a directory of the store, by name: counted in a sandbox, where its owners are somebody."""
    return dict(workspace.on_directory(sandboxed.usage_here, place, read_only=True))


def _size(path: Path) -> int:
    return path.stat().st_blocks * _BLOCK
