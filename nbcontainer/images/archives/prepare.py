"""Images as they leave the store: unchanged, or with their plain layers compressed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.archives import compressed_forms
from nbcontainer.images.builtin.host import is_of_this_machine
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.pigz import compressor
from nbcontainer.images.layers.unpack import media_type
from nbcontainer.oci import descriptors
from nbcontainer.oci import documents as oci
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image, LayerRecord
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
    store: Store,
    image: Image,
    compression: Compression,
    stack: contextlib.ExitStack,
    part: Part,
    has: Callable[[Descriptor], bool] = lambda _: False,
) -> PreparedImage:
    """Return the image as it leaves the store; if plain layers are compressed, its manifest is an OCI one.

    Layers that are compressed already stay as they are. A layer whose compressed form the receiver `has` is not
    compressed again, and is not among the layers' files. `part` counts the bytes that were read to be compressed. Files
    made for it are removed when `stack` is closed. Raises `ImageError`, `StoreError`.
    """
    try:
        return _prepare(store, image, _Compressing(store, compression, stack, part, has))
    except OSError as error:
        raise store_error("compress layers in the store", store.path, error) from error


def _prepare(store: Store, image: Image, compressing: _Compressing) -> PreparedImage:
    if is_of_this_machine(store, image):
        hint = "write the files of one of its containers with `%container export`"
        raise ImageError(f"{image.name} consists of the host with changes, and is incomplete elsewhere", hint=hint)
    data = store.blobs.read(image.digest)
    described, blobs = oci.read_manifest(data, image.media_type)
    config = store.blobs.read(described.digest)
    plain = oci.PLAIN_LAYERS if compressing.compression is not Compression.NONE else frozenset()
    if not any(blob.media_type in plain for blob in blobs):
        manifest = descriptors.Descriptor(image.media_type, image.digest, len(data))
        layers = tuple((blob, store.blobs.path(blob.digest)) for blob in dict.fromkeys(blobs))
        return PreparedImage(manifest, ((described, config), (manifest, data)), layers)
    prepared: dict[Descriptor, tuple[Descriptor, Path | None]] = {}
    for layer in {layer.blob: layer for layer in image.layers}.values():
        is_plain = layer.blob.media_type in plain
        prepared[layer.blob] = compressing(layer) if is_plain else (layer.blob, store.blobs.path(layer.blob.digest))
    records = tuple(replace(layer, blob=prepared[layer.blob][0]) for layer in image.layers)
    settings = replace(described, media_type=oci.CONFIG)
    data = replace(image, layers=records).manifest_document(settings)
    manifest = descriptors.Descriptor(oci.MANIFEST, descriptors.digest_of(data), len(data))
    layers = tuple((blob, path) for blob, path in prepared.values() if path is not None)
    return PreparedImage(manifest, ((settings, config), (manifest, data)), layers)


@dataclass(frozen=True)
class _Compressing:
    """Compresses layers to files in the store's `tmp`; called with a layer, it returns its descriptor and path (host).

    The path is None for a layer that the receiver `has` in its compressed form.
    """

    store: Store
    compression: Compression
    stack: contextlib.ExitStack
    part: Part
    has: Callable[[Descriptor], bool]

    def __call__(self, layer: LayerRecord) -> tuple[Descriptor, Path | None]:
        known = compressed_forms.recall(self.store, layer.diff_id, self.compression)
        if known is not None and self.has(known):
            return known, None
        path, fd = self.stack.enter_context(self.store.incoming())
        with compressor(fd, self.compression) as out:
            for data in read_blob(self.store.blobs.path(layer.blob.digest), layer.blob, self.part):
                out.write(data)
        blob = descriptors.Descriptor(media_type(self.compression), out.digest, out.size)
        compressed_forms.remember(self.store, layer.diff_id, self.compression, blob)
        return blob, path


def read_blob(path: Path, blob: Descriptor, part: Part) -> Iterator[bytes]:
    """Yield a blob's bytes, and check them at the end. `part` counts those that the caller has used.

    Raises `ImageError` if they differ from `blob`, and `OSError`, `Stopped`.
    """
    algorithm = descriptors.algorithm_of(blob.digest)
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
