"""The store itself as a source: for images whose blobs are there, and whose layers are not unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.transfer import bring_in
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.runner import Runner
    from nbcontainer.oci.documents import Descriptor, Image
    from nbcontainer.store.layout import Store
    from nbcontainer.store.partial_blobs import Partial


class Own:
    """`nbcontainer.images.source.Source` of a store's blobs, which are whole in `Partial` without being fetched."""

    remote = False

    def __init__(self, store: Store) -> None:
        self._store = store

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        return self._store.read_blob(blob.digest)

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`: what is not there, or is wrong, cannot be had."""
        raise ImageError(f"the store has lost {blob.digest}", hint="remove the image and bring it in again")

    def abort(self) -> None:
        """See `Source`."""


def restore(store: Store, runner: Runner, image: Image) -> Image:
    """Unpacks the layers of an image of the store that are not. Raises `ImageError` where a blob is lost or wrong."""
    blob = oci.Descriptor(image.media_type, image.digest, len(store.read_blob(image.digest)))
    with Tracker(f"unpack {image.name}") as tracker:
        bring_in(store, runner, Own(store), blob, (), tracker)
    return image
