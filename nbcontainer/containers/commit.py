"""Commit a container to an image, and export its merged tree as a tar."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerIncomplete
from nbcontainer.images import sandboxed
from nbcontainer.images.layers.compression import compression_of
from nbcontainer.linux.files import syncfs
from nbcontainer.oci import config_changes, descriptors, reference, timestamps
from nbcontainer.oci import documents as oci
from nbcontainer.store import outputs
from nbcontainer.store.errors import store_error
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.state import CellRecord
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.oci.documents import Image, LayerRecord

    Progress = Callable[[int], None]

MOST_LAYERS = 64
"""A container with more layers becomes an image of flattened ones: container engines take 127 layers and fewer."""


def commit(
    container: Container,
    name: str,
    *,
    message: str = "",
    author: str = "",
    changes: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Image:
    """Make an image from the container's image and one layer for each cell that changed something; return it.

    If more than `MOST_LAYERS` cells did, a layer has the changes of 16 cells, or of 256 and so on; the history of the
    image has an entry for each cell in any case.

    `changes` are instructions as in `docker commit --change`, and `labels` are added. The layers of the container's
    image are referenced, not copied, so the cost depends on the changes only. With SOURCE_DATE_EPOCH, the same changes
    give the same digest. If changes of a cell are lost, the container is refused unless `force` is true.
    Raises `ContainerBusy`, `ContainerIncomplete`, `ImageError`, `StoreError`, `UsageError`.
    """
    wanted = reference.parse_new(name)
    store = container.workspace.store
    try:
        with container.use():
            if not force:
                _check_complete(container)
        return _commit(container, wanted.familiar, message, author, changes, labels or {}, progress)
    except OSError as error:
        raise store_error("commit to the store", store.path, error) from error


def _check_complete(container: Container) -> None:
    if lost := container.record.lost:
        cells = "a cell are" if lost == 1 else f"{lost} cells are"
        problem = f"container '{container.name}' is incomplete: the changes of {cells} lost"
        hint = f"undo it with `%container undo {container.name}`, or commit without these changes by `--force`"
        raise ContainerIncomplete(problem, hint=hint)


def _commit(
    container: Container,
    name: str,
    message: str,
    author: str,
    changes: Sequence[str],
    labels: Mapping[str, str],
    progress: Progress | None,
) -> Image:
    workspace, store = container.workspace, container.workspace.store
    base = container.image()
    config = replace(base.config, labels={**base.config.labels, **container.record.labels})
    config = config_changes.apply_all(config, changes)
    config = replace(config, labels={**config.labels, **labels})
    with contextlib.ExitStack() as stack, container.use():
        groups = container.groups(MOST_LAYERS)
        packed = _packed(workspace, stack, [layer for layer, _ in groups], progress)
        now = timestamps.timestamp()
        steps = [step for _, states in groups for step in _steps([state.cell for state in states], now)]
        if steps and message:
            steps[-1] = replace(steps[-1], comment=message)
        image = oci.Image(
            config,
            (*base.layers, *(layer for _, layer in packed)),
            created=now,
            history=(*base.history, *steps),
            author=author or base.author,
            platform=base.platform,
        )
        # One lock for blobs, layer names and the image's name: a prune in between could remove the blobs.
        with store.lock():
            store.blobs.adopt_all((path, layer.blob.digest) for path, layer in packed)
            for (of_group, _), (_, layer) in zip(groups, packed, strict=True):
                store.layers.name(of_group, layer.diff_id)
            workspace.images.lowers(image)
            return store.index.add_image(image, name)


def _steps(cells: Sequence[CellRecord], now: str) -> list[oci.HistoryEntry]:
    """Return the history entries of cells whose changes are one layer: the layer is that of the last one."""
    # RFC 3339 in UTC sorts as text.
    steps = [oci.HistoryEntry(min(cell.created, now), cell.command, empty=True) for cell in cells]
    return [*steps[:-1], replace(steps[-1], empty=False)]


def _packed(
    workspace: Workspace, stack: contextlib.ExitStack, layers: Sequence[str], progress: Progress | None
) -> list[tuple[Path, LayerRecord]]:
    """Return layers as blobs, still in the store's `tmp`, on disk. Several are packed in one sandbox."""
    opened = [stack.enter_context(workspace.store.incoming()) for _ in layers]
    blobs = [blob for _, blob in opened]
    places = [f"{layer}/diff" for layer in layers]
    clamp = timestamps.source_date_epoch()
    if len(layers) < 2 or any((workspace.store.path / "layers" / place).is_symlink() for place in places):
        found = [
            workspace.on_directory(
                sandboxed.pack_layer, f"layers/{place}", [blob], read_only=True, progress=progress, clamp=clamp
            )
            for place, blob in zip(places, blobs, strict=True)
        ]
    else:
        found = workspace.on_directory(
            sandboxed.pack_layers, "layers", blobs, read_only=True, progress=progress, layers=places, clamp=clamp
        )
        syncfs(blobs[0])  # once for all
    return [(path, _layer_record(packed)) for (path, _), packed in zip(opened, found, strict=True)]


def _layer_record(packed: Mapping[str, Any]) -> LayerRecord:
    descriptor = descriptors.Descriptor(oci.LAYER, packed["diff_id"], packed["blob_size"])
    return oci.LayerRecord(descriptor, packed["diff_id"])


def check_export(workspace: Workspace, target: Path) -> None:
    """Raise what `export` raises if the host file `target` cannot be written: before an image is made."""
    compression_of(target)
    outputs.check(workspace.store, target)


def export(workspace: Workspace, layers: Sequence[str], target: Path, *, progress: Progress | None = None) -> int:
    """Write the merged tree of layers (ids, from the bottom up) to the host file `target`; return its size in bytes.

    Its name selects the compression: .gz, .tgz, .zst, .tzst. On any error, the file does not change. Mounts of the
    container (volumes, /proc, /dev, /sys) are left out. Raises `ImageError`, `UsageError`.
    """
    compression = compression_of(target)
    with replacing(workspace.store, target) as fd:
        packed = workspace.on_layers(
            sandboxed.pack_tree,
            layers[::-1],
            [fd],
            progress=progress,
            compression=str(compression),
            clamp=timestamps.source_date_epoch(),
        )
    return int(packed["blob_size"])
