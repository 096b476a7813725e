"""Images as they leave the store: unchanged, or with their plain layers compressed."""

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
from nbcontainer.store.errors import store_error

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
    """An image as it leaves the store: its manifest, its documents (manifest last), and its layers' files (host)."""

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
    """Return the image as it leaves the store; if plain layers are compressed, its manifest is an OCI one.

    Layers that are compressed already stay as they are. `part` counts the bytes that were read to be compressed. Files
    made for it are removed when `stack` is closed. Raises `ImageError`, `StoreError`.
    """
    try:
        return _prepare(store, image, compression, stack, part)
    except OSError as error:
        raise store_error("compress layers in the store", store.path, error) from error


def _prepare(
    store: Store, image: Image, compression: Compression, stack: contextlib.ExitStack, part: Part
) -> PreparedImage:
    if is_of_this_machine(store, image):
        hint = "write the files of one of its containers with `%container export`"
        raise ImageError(f"{image.name} consists of this machine with changes, and is incomplete elsewhere", hint=hint)
    data = store.blobs.read(image.digest)
    described, blobs = oci.read_manifest(data, image.media_type)
    config = store.blobs.read(described.digest)
    plain = oci.PLAIN_LAYERS if compression is not Compression.NONE else frozenset()
    if not any(blob.media_type in plain for blob in blobs):
        manifest = oci.Descriptor(image.media_type, image.digest, len(data))
        layers = tuple((blob, store.blobs.path(blob.digest)) for blob in dict.fromkeys(blobs))
        return PreparedImage(manifest, ((described, config), (manifest, data)), layers)
    prepared: dict[Descriptor, tuple[Descriptor, Path]] = {}
    for blob in dict.fromkeys(blobs):
        if blob.media_type in plain:
            prepared[blob] = _compressed(store, blob, compression, stack, part)
        else:
            prepared[blob] = (blob, store.blobs.path(blob.digest))
    records = tuple(replace(layer, blob=prepared[layer.blob][0]) for layer in image.layers)
    settings = replace(described, media_type=oci.CONFIG)
    data = replace(image, layers=records).manifest_document(settings)
    manifest = oci.Descriptor(oci.MANIFEST, oci.digest_of(data), len(data))
    return PreparedImage(manifest, ((settings, config), (manifest, data)), tuple(prepared.values()))


def _compressed(
    store: Store, blob: Descriptor, compression: Compression, stack: contextlib.ExitStack, part: Part
) -> tuple[Descriptor, Path]:
    """Compress a layer to a file in `tmp`; return its descriptor and path (host)."""
    path, fd = stack.enter_context(store.incoming())
    with compressor(fd, compression) as out:
        for data in read_blob(store.blobs.path(blob.digest), blob, part):
            out.write(data)
    return oci.Descriptor(media_type(compression), out.digest, out.size), path


def read_blob(path: Path, blob: Descriptor, part: Part) -> Iterator[bytes]:
    """Yield a blob's bytes, and check them at the end. `part` counts those that the caller has used.

    Raises `ImageError` if they differ from `blob`, and `OSError`, `Stopped`.
    """
    algorithm = oci.algorithm_of(blob.digest)
    digest = hashlib.new(algorithm)
    size = 0
    hint = "run `%container verify`"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ImageError(f"blob {blob.digest} is missing from the store", hint=hint) from None
    with os.fdopen(fd, "rb", buffering=0) as file:
        while data := file.read(_CHUNK):
            digest.update(data)
            size += len(data)
            yield data
            part.add(len(data))
    if size != blob.size or f"{algorithm}:{digest.hexdigest()}" != blob.digest:
        raise ImageError(f"blob {blob.digest} in the store is damaged", hint=hint)
