"""Images to files: archives that OCI readers and `docker load` accept, and layout directories.

Sources: image-spec, image-layout.md; moby, image/spec/v1.2.md for manifest.json.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.layout_directory import layout_at
from nbcontainer.images.archives.prepare import PreparedImage, prepare, read_blob
from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression, compression_of
from nbcontainer.images.layers.tar_writer import TarWriter
from nbcontainer.oci import descriptors, names, reference, untrusted_json
from nbcontainer.oci import documents as oci
from nbcontainer.store import user_files
from nbcontainer.store.outputs import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.images.archives.layout_directory import LayoutFolder
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Tracker
    from nbcontainer.store.layout import Store

_FULL_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def save_archive(
    store: Store, images: Sequence[Image], target: Path, tracker: Tracker, layers: Compression = Compression.NONE
) -> int:
    """Write images to the file `target` (host), each blob once; return its size in bytes.

    `layers` is the compression for plain layers. The file is compressed as its name says. On any error it does not
    change. The same images give the same bytes. Raises `ImageError`, `StoreError`, `UsageError`.
    """
    compression = compression_of(target)
    with contextlib.ExitStack() as stack:
        outgoing = _prepared(store, images, layers, stack, tracker)
        with replacing(store, target) as fd, TarWriter(fd, compression) as writer:
            for name in ("blobs/", "blobs/sha256/"):
                writer.entry(name.encode(), tar.DIRECTORY, 0o755, 0, 0, 0, 0)
            _add_blobs(writer, outgoing, tracker)
            for name, data in _files(images, outgoing).items():
                _add(writer, name, len(data), [data])
            return writer.finish()[2]


def save_directory(
    store: Store, images: Sequence[Image], target: Path, tracker: Tracker, layers: Compression = Compression.NONE
) -> None:
    """Add images to the layout directory `target` (host), which is made if it is missing.

    `layers` is the compression for plain layers. Readers see the old index.json or the new one. Raises `ImageError`,
    `LinkRefused`, `StoreError`.
    """
    with contextlib.ExitStack() as stack:
        outgoing = _prepared(store, images, layers, stack, tracker)
        try:
            with user_files.directory(store, target, make=True) as folder, layout_at(folder, target) as layout:
                layout.entries()  # refuses a directory of something else
                layout.begin(_LAYOUT)
                _copy_blobs(layout, outgoing, tracker)
                entries = layout.entries()  # with what another process has added meanwhile
                for image, one in zip(images, outgoing, strict=True):
                    new = _entry(image, one, images)
                    entries = [old for old in entries if _key(old) != _key(new)] + [new]
                layout.finish(descriptors.canonical(_index(entries)))
        except OSError as error:
            hint = "check the path's permissions and the free space"
            raise ImageError(f"cannot write {target}: {error.strerror or error}", hint=hint) from error


def _key(entry: dict[str, Any]) -> Any:
    """Return what identifies an entry: a later one with the same name, or without one the same digest, replaces it.

    The full name comes first: the other one is the tag alone or the full name, by what is saved at the same time.
    """
    annotations = untrusted_json.mapping(entry, "annotations", "index.json")
    return annotations.get(_FULL_NAME) or annotations.get(oci.REF_NAME) or entry.get("digest")


def _copy_blobs(layout: LayoutFolder, outgoing: Sequence[PreparedImage], tracker: Tracker) -> None:
    part = tracker.part()
    for one in outgoing:
        for blob, data in one.documents:
            layout.put_blob(blob, [data])
    for blob, path in _layers(outgoing):
        if layout.has(blob):
            part.add(blob.size)
        else:
            layout.put_blob(blob, read_blob(path, blob, part))


def _prepared(
    store: Store, images: Sequence[Image], layers: Compression, stack: contextlib.ExitStack, tracker: Tracker
) -> list[PreparedImage]:
    part = tracker.part()
    outgoing = [prepare(store, image, layers, stack, part) for image in images]
    tracker.total = part.done + sum(blob.size for blob, _ in _layers(outgoing))
    return outgoing


def _layers(outgoing: Iterable[PreparedImage]) -> Iterator[tuple[Descriptor, Path]]:
    """Yield each layer once: its descriptor and its file (host)."""
    yield from {blob.digest: (blob, path) for one in outgoing for blob, path in one.layers}.values()


def _index(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": list(entries)}


def _files(images: Sequence[Image], outgoing: Sequence[PreparedImage]) -> dict[str, bytes]:
    """Return the files of an archive other than its blobs, by name."""
    pairs = list(zip(images, outgoing, strict=True))
    described = {
        one.manifest.digest: {
            "Config": _place(one.config),
            "RepoTags": [_full_name(image) for image, other in pairs if other.manifest == one.manifest and _tag(image)],
            "Layers": [_place(blob) for blob in oci.read_manifest(one.documents[-1][1])[1]],
        }
        for one in outgoing
    }
    return {
        "index.json": descriptors.canonical(_index([_entry(image, one, images) for image, one in pairs])),
        "manifest.json": descriptors.canonical(list(described.values())),
        "oci-layout": _LAYOUT,
    }


def _entry(image: Image, outgoing: PreparedImage, images: Sequence[Image]) -> dict[str, Any]:
    """Return an image's entry in index.json: by its tag, as in `docker save`, unless two images have that tag."""
    if names.fault(image.name, outgoing.manifest.digest) or reference.is_digest(image.name):
        return outgoing.manifest.as_json()  # the index that a name states is not in the archive
    full, tag = _full_name(image), _tag(image)
    alone = [_tag(other) for other in images].count(tag) == 1
    annotations = {oci.REF_NAME: tag if tag and alone else full, _FULL_NAME: full}
    return {**outgoing.manifest.as_json(), "annotations": annotations}


def _full_name(image: Image) -> str:
    return reference.parse(image.name).canonical


def _tag(image: Image) -> str:
    """Return the image's tag; empty if its name has a digest."""
    named = reference.parse(image.name)
    return "" if named.digest or reference.is_digest(image.name) else named.tag


def _place(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.replace(':', '/', 1)}"


def _add_blobs(writer: TarWriter, outgoing: Sequence[PreparedImage], tracker: Tracker) -> None:
    part = tracker.part()
    written: set[str] = set()
    for one in outgoing:
        for blob, data in one.documents:
            if blob.digest not in written:
                _add(writer, _place(blob), blob.size, [data])
            written.add(blob.digest)
    for blob, path in _layers(outgoing):
        _add(writer, _place(blob), blob.size, read_blob(path, blob, part))


def _add(writer: TarWriter, name: str, size: int, chunks: Iterable[bytes]) -> None:
    writer.entry(name.encode(), tar.REGULAR, 0o644, 0, 0, size, 0)
    for data in chunks:
        writer.data(data)
    writer.pad(size)
