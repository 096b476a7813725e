"""Commit a container to an image, and export its merged tree as a tar."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerIncomplete
from nbcontainer.images import sandboxed
from nbcontainer.images.layers.compression import compression_of
from nbcontainer.oci import config_changes, reference, timestamps
from nbcontainer.oci import documents as oci
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
        cells = [cell for cell in container.cells if cell.layer]
        packed = [_packed(workspace, stack, cell, progress) for cell in cells]
        now = timestamps.timestamp()
        # RFC 3339 in UTC sorts as text.
        steps = [oci.HistoryEntry(min(cell.created, now), cell.command) for cell in cells]
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
            for cell, (path, layer) in zip(cells, packed, strict=True):
                store.blobs.adopt(path, layer.blob.digest)
                store.layers.name(cell.layer, layer.diff_id)
            workspace.images.lowers(image)
            return store.index.add_image(image, name)


def _packed(
    workspace: Workspace, stack: contextlib.ExitStack, cell: CellRecord, progress: Progress | None
) -> tuple[Path, LayerRecord]:
    """Return the cell's layer as a blob, still in the store's `tmp`."""
    path, blob = stack.enter_context(workspace.store.incoming())
    packed = workspace.on_directory(
        sandboxed.pack_layer,
        f"layers/{cell.layer}/diff",
        [blob],
        read_only=True,
        progress=progress,
        clamp=timestamps.source_date_epoch(),
    )
    descriptor = oci.Descriptor(oci.LAYER, packed["diff_id"], packed["blob_size"])
    return path, oci.LayerRecord(descriptor, packed["diff_id"])


def export(workspace: Workspace, layers: Sequence[str], target: Path, *, progress: Progress | None = None) -> int:
    """Write the merged tree of layers (ids, from the bottom up) to the host file `target`; return its size in bytes.

    Its name selects the compression: .gz, .tgz, .zst, .tzst. On any error, the file is as it was before. Mounts of the
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
