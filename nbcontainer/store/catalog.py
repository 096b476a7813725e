"""What index.json of a store lists: each entry, the image behind it, and the name that the image has here.

Other tools and older versions write index.json, too. What an entry states is compared with the blobs: its size, the
index that the image was chosen from, and a digest in its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from nbcontainer.errors import ImageError
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names
from nbcontainer.oci.selection import Documents, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable


class Blobs(Documents, Protocol):
    """The blobs of a store."""

    def read_blob(self, digest: str) -> bytes:
        """A document, checked against its digest. Raises `ImageError`."""
        ...


@dataclass(frozen=True)
class Listed:
    """One entry, and the image's name here: its digest where the stated name is false. No image if it is damaged."""

    entry: dict[str, Any]
    name: str
    image: oci.Image | None

    @property
    def misnamed(self) -> str:
        """The false name that the entry states; empty where it states none."""
        said = names.stated(self.entry)
        return said if said != self.name else ""


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
    blob = oci.descriptor(entry)
    if blob.media_type in oci.INDEXES:  # not from here: another tool put it into the layout
        chosen = resolve(blobs, blob, None)
        return replace(chosen.image, index=chosen.index)
    manifest = blob.check(blobs.read_blob(blob.digest))
    config, _ = oci.read_manifest(manifest, blob.media_type)
    image = oci.read_image(manifest, blobs.read_blob(config.digest), blob.media_type)
    index = names.stated_index(entry)
    return replace(image, index=index if names.indexes(blobs.read_blob, index, image.digest) else "")
