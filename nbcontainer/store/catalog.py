"""The entries of a store's index.json, the image of each, and the name that the image has in this store.

Other tools and older versions write index.json too. So the statements of an entry are compared with the blobs: the
size, the index that the image was chosen from, and a digest in the name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.oci import descriptors, names
from nbcontainer.oci import documents as oci
from nbcontainer.oci.selection import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.store.blobs import Blobs


@dataclass(frozen=True)
class Listed:
    """One entry, its image (None if it is damaged), and its name here: its digest if the stated name is false."""

    entry: dict[str, Any]
    name: str
    image: oci.Image | None

    @property
    def misnamed(self) -> str:
        """The false name that the entry states; empty if its name is true."""
        stated = names.stated(self.entry)
        return stated if stated != self.name else ""


@dataclass(frozen=True)
class Catalog:
    """All entries, and the images by their names."""

    listed: tuple[Listed, ...]
    images: dict[str, oci.Image]

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of the images that cannot be read."""
        return tuple(one.name for one in self.listed if one.image is None)


def read(blobs: Blobs, entries: Iterable[dict[str, Any]], known: Catalog | None = None) -> Catalog:
    """Return the catalog of these entries; images of the `known` one are not read again."""
    before = {repr(one.entry): one.image for one in known.listed} if known else {}
    listed = tuple(_listed(blobs, entry, before.get(repr(entry))) for entry in entries)
    return Catalog(listed, {one.name: one.image.named(one.name) for one in listed if one.image is not None})


def _listed(blobs: Blobs, entry: dict[str, Any], known: oci.Image | None) -> Listed:
    name = names.stated(entry)
    try:
        image = known or _image(blobs, entry)
    except ImageError:
        return Listed(entry, name, None)
    return Listed(entry, image.digest if names.fault(name, image.digest, image.index) else name, image)


def _image(blobs: Blobs, entry: dict[str, Any]) -> oci.Image:
    blob = descriptors.descriptor(entry)
    if blob.media_type in oci.INDEXES:  # another tool wrote this entry
        chosen = resolve(blobs, blob, None)
        return replace(chosen.image, index=chosen.index)
    manifest = blob.check(blobs.read(blob.digest))
    config, _ = oci.read_manifest(manifest, blob.media_type)
    image = oci.read_image(manifest, blobs.read(config.digest), blob.media_type)
    index = names.stated_index(entry)
    return replace(image, index=index if names.indexes(blobs.read, index, image.digest) else "")
