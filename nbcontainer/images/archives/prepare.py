"""Images as they leave the store: as they are, or with their plain layers compressed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.builtin.host import is_of_this_machine
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.pigz import compressor
from nbcontainer.images.layers.unpack import media_type
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.oci.documents import Descriptor, Image
    from nbcontainer.progress import Part
    from nbcontainer.store.layout import Store

_CHUNK = 1 << 20


@dataclass(frozen=True)
class PreparedImage:
    """An image as it leaves: its manifest, its documents (the manifest last), and the layers' files (host)."""

    manifest: Descriptor
    documents: tuple[tuple[Descriptor, bytes], ...]
    layers: tuple[tuple[Descriptor, Path], ...]

    @property
    def config(self) -> Descriptor:
        """The configuration's descriptor."""
        return self.documents[0][0]


def prepare(
    store: Store, image: Image, compression: Compression, stack: contextlib.ExitStack, part: Part
) -> PreparedImage:
    """The image as it leaves; with a compression its plain layers are compressed and its manifest is OCI's.

    Those that are compressed already stay as they are. `part` counts the bytes that were compressed. Files made for
    it are gone when `stack` is closed.
    Raises `ImageError`, `OSError`.
    """
    if is_of_this_machine(store, image):
        hint = "`%container export` writes all that one of its containers sees, as a tar"
        raise ImageError(f"{image.name} is this machine with changes, and nothing without this machine", hint=hint)
    data = store.read_blob(image.digest)
    described, blobs = oci.read_manifest(data, image.media_type)
    config = store.read_blob(described.digest)
    plain = oci.PLAIN_LAYERS if compression is not Compression.NONE else frozenset()
    if not any(blob.media_type in plain for blob in blobs):
        manifest = oci.Descriptor(image.media_type, image.digest, len(data))
        layers = tuple((blob, store.blob_path(blob.digest)) for blob in dict.fromkeys(blobs))
        return PreparedImage(manifest, ((described, config), (manifest, data)), layers)
    made: dict[Descriptor, tuple[Descriptor, Path]] = {}
    for blob in dict.fromkeys(blobs):
        path = store.blob_path(blob.digest)
        if blob.media_type in plain:
            made[blob] = _compressed(store, blob, compression, stack, part)
        else:
            made[blob] = (blob, path)
    records = tuple(replace(layer, blob=made[layer.blob][0]) for layer in image.layers)
    settings = replace(described, media_type=oci.CONFIG)
    data = replace(image, layers=records).manifest_document(settings)
    manifest = oci.Descriptor(oci.MANIFEST, oci.digest_of(data), len(data))
    return PreparedImage(manifest, ((settings, config), (manifest, data)), tuple(made.values()))


def _compressed(
    store: Store, blob: Descriptor, compression: Compression, stack: contextlib.ExitStack, part: Part
) -> tuple[Descriptor, Path]:
    path, fd = stack.enter_context(store.incoming())
    with compressor(fd, compression) as out:
        for data in read_blob(store.blob_path(blob.digest), blob):
            out.write(data)
            part.add(len(data))
    return oci.Descriptor(media_type(compression), out.digest, out.size), path


def read_blob(path: Path, blob: Descriptor) -> Iterator[bytes]:
    """A blob's bytes; at the end they were checked. Raises `ImageError` for others than `blob` says."""
    seen = hashlib.sha256()
    size = 0
    hint = "see `%container verify`"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ImageError(f"the store has lost {blob.digest}", hint=hint) from None
    with os.fdopen(fd, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            seen.update(data)
            size += len(data)
            yield data
    if size != blob.size or f"sha256:{seen.hexdigest()}" != blob.digest:
        raise ImageError(f"{blob.digest} in the store is damaged", hint=hint)
