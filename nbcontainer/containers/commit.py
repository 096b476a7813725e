"""From what cells left to an image, and to a tar of the merged tree."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images import instructions, library, oci, reference, times, work
from nbcontainer.images.compression import Compression
from nbcontainer.images.store import cannot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.record import CellRecord
    from nbcontainer.images.oci import Image, LayerRecord

    Progress = Callable[[int], None]

_COMPRESSIONS = {
    ".gz": Compression.GZIP,
    ".tgz": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".tzst": Compression.ZSTD,
}


def commit(
    container: Container,
    name: str,
    *,
    message: str = "",
    author: str = "",
    changes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Image:
    """Makes image `name` of the container's image and a layer for each of its cells that changed something.

    `changes` are instructions as in `docker commit --change`. What the image had is referred to, not copied; the cost
    is that of the changes. The same changes give the same digest under SOURCE_DATE_EPOCH.
    Raises `ContainerBusy`, `ImageError`, `StoreError`, `UsageError`.
    """
    wanted = reference.parse(name)
    if wanted.digest:
        raise UsageError(f"{name!r} names a digest, which a new image does not have yet", hint="leave out the @ part")
    engine, store = container.engine, container.engine.store
    base = container.image()
    config = base.config
    for instruction in changes:
        config = instructions.apply(config, instruction)
    with contextlib.ExitStack() as stack, container.use():
        cells = [cell for cell in container.record.cells if cell.layer]
        packed = [_packed(engine, stack, cell, progress) for cell in cells]
        now = times.timestamp()
        # RFC 3339 in UTC sorts as text.
        steps = [oci.Step(min(cell.created, now), cell.command) for cell in cells]
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
        # Blobs, layers' names and the image's come together, or a prune in between could take the first away.
        with store.lock():
            for cell, (path, layer) in zip(cells, packed, strict=True):
                store.adopt_blob(path, layer.blob.digest)
                store.name_layer(cell.layer, layer.diff_id)
            library.lowers(store, image)
            return store.add_image(image, wanted.familiar)


def _packed(
    engine: Engine, stack: contextlib.ExitStack, cell: CellRecord, progress: Progress | None
) -> tuple[Path, LayerRecord]:
    """The cell's layer as a blob, still in the store's `tmp`."""
    store = engine.store
    try:
        path, blob = stack.enter_context(store.incoming())
        packed = engine.on_directory(
            work.pack_layer_here,
            f"layers/{cell.layer}/diff",
            [blob],
            read_only=True,
            progress=progress,
            clamp=times.source_date_epoch(),
        )
    except OSError as error:
        raise cannot("commit to the store", store.path, error) from error
    descriptor = oci.Descriptor(oci.LAYER, packed["diff_id"], packed["blob_size"])
    return path, oci.LayerRecord(descriptor, packed["diff_id"])


def export(engine: Engine, layers: Sequence[str], target: Path, *, progress: Progress | None = None) -> int:
    """Writes the merged tree of layers (ids, from the bottom up) to the host file `target`; its size in bytes.

    Compressed as its name says: .gz, .tgz, .zst, .tzst. The file is there whole or, on any error, as it was before.
    What was mounted in the container (volumes, /proc, /dev, /sys) is not in it. Raises `ImageError`, `UsageError`.
    """
    compression = _COMPRESSIONS.get(target.suffix, Compression.NONE)
    if target.suffix in (".xz", ".bz2", ".txz", ".tbz2"):
        raise UsageError(f"{target.suffix} is not written", hint="use .tar, .tar.gz or .tar.zst")
    with _replacing(target) as fd:
        packed = engine.on_layers(
            work.pack_tree_here,
            layers[::-1],
            [fd],
            progress=progress,
            compression=str(compression),
            clamp=times.source_date_epoch(),
        )
    return int(packed["blob_size"])


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[int]:
    """A descriptor of a new file that takes `target`'s place at the end; pipes and devices are written to.

    The file has no name until it is whole, where the file system knows such files (open(2): O_TMPFILE): then nothing
    of it stays, whatever ends this process.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            fd, named = os.open(target, os.O_WRONLY | os.O_CLOEXEC), None
        else:
            fd, named = _new_file(part)
        try:
            yield fd
            if named is False:
                # With a directory's descriptor Python calls linkat(2), which alone can follow; the path is absolute.
                os.link(f"/proc/self/fd/{fd}", part, src_dir_fd=fd, follow_symlinks=True)
        finally:
            os.close(fd)
        if named is not None:
            part.replace(target)
    except BrokenPipeError:
        raise  # whoever read it has had enough
    except OSError as error:
        hints = {
            errno.ENOENT: f"mkdir -p {target.parent}",
            errno.EISDIR: "name a file in it",
            errno.ENOSPC: "free some space",
        }
        hint = hints.get(error.errno or 0, "check the path's permissions")
        raise ImageError(f"cannot write {target}: {error.strerror or error}", hint=hint) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _new_file(path: Path) -> tuple[int, bool]:
    """A descriptor of a new file on `path`'s file system, and whether it has that name already."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path.parent, flags | os.O_TMPFILE, 0o666), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), True
