"""The choice of one image from an index for several platforms."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.oci import descriptors, platforms
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import IndexEntry
    from nbcontainer.oci.platforms import Platform

NESTING = 4
"""Levels of indexes in indexes."""
_LOOKED_AT = 10
"""Images of an index without a platform whose configurations are read."""
_ATTESTATION = "vnd.docker.reference.type"


class Documents(Protocol):
    """Documents by digest. They are untrusted: callers check them."""

    def document(self, blob: Descriptor) -> bytes:
        """Return an index, a manifest or a configuration. Raises `ImageError`."""
        ...


@dataclass(frozen=True)
class ResolvedImage:
    """One image of a source: its manifest, its documents byte for byte, and the digest of its index, empty for none."""

    blob: Descriptor
    image: oci.Image
    documents: tuple[bytes, ...]
    index: str = ""


def resolve(source: Documents, blob: Descriptor, platform: Platform | None) -> ResolvedImage:
    """Return the image of manifest `blob`, or the image in index `blob` for `platform`; None is this machine's.

    With None, an image for another platform is returned if `blob` is its manifest. Raises `ImageError` for an invalid
    document, `ImageNotFound` if there is no image for the platform.
    """
    indexes: list[bytes] = []
    found = blob
    while found.media_type not in oci.MANIFESTS:
        if len(indexes) == NESTING:
            raise ImageError(f"more than {NESTING} indexes are nested")
        indexes.append(found.check(source.document(found)))
        entries = oci.read_index(indexes[-1], found.media_type)
        found = _choose_entry(source, entries, platform or platforms.host())
    manifest = found.check(source.document(found))
    config, _ = oci.read_manifest(manifest, found.media_type)
    settings = config.check(source.document(config))
    image = oci.read_image(manifest, settings, found.media_type)
    if platform is not None and platforms.rank(image.platform, platform) < 0:
        raise ImageNotFound(f"the image is for {image.platform}, not for {platform}", hint="leave out --platform")
    # The store has a manifest by its sha256 digest; an index that lists it by another one cannot be compared with it.
    own = descriptors.Descriptor(found.media_type, image.digest, found.size)
    index = blob.digest if indexes and own == found and descriptors.algorithm_of(blob.digest) == "sha256" else ""
    return ResolvedImage(own, image, (*indexes, manifest, settings), index)


def is_beside(entry: IndexEntry) -> bool:
    """Whether an entry of an index is an artifact beside the image: an attestation, a signature or an SBOM."""
    return _ATTESTATION in entry.annotations or entry.artifact_type not in ("", *oci.CONFIGS)


def _choose_entry(source: Documents, entries: Sequence[IndexEntry], wanted: Platform) -> Descriptor:
    known = oci.MANIFESTS | oci.INDEXES
    images = [entry for entry in entries if entry.blob.media_type in known and not is_beside(entry)]
    if len(images) == 1 and images[0].platform is None:
        return images[0].blob
    offered = [(entry.platform, number) for number, entry in enumerate(images) if entry.platform is not None]
    number = platforms.choose(offered, wanted)
    if number is not None:
        return images[number].blob
    if (found := _by_configuration(source, images, wanted)) is not None:
        return found
    names = ", ".join(dict.fromkeys(str(platform) for platform, _ in offered))
    hint = f"choose one of these with --platform: {names}" if names else "its index states no platform; name a digest"
    raise ImageNotFound(f"no image for {wanted}", hint=hint)


def _by_configuration(source: Documents, images: Sequence[IndexEntry], wanted: Platform) -> Descriptor | None:
    """Return the first image without a platform in the index whose configuration has a platform that suits."""
    unstated = [one.blob for one in images if one.platform is None and one.blob.media_type in oci.MANIFESTS]
    for blob in unstated[:_LOOKED_AT]:
        with contextlib.suppress(oci.NotAnImage, ImageNotFound):
            return resolve(source, blob, wanted).blob
    return None
