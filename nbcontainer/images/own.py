"""The store itself as a source: for images whose blobs are there, and whose layers are not unpacked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.images.ingest import ingest
from nbcontainer.images.sources import StoreSource
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from nbcontainer.images.runner import Runner
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store


def restore(store: Store, runner: Runner, image: Image) -> Image:
    """Unpacks the layers of an image of the store that are not. Raises `ImageError` where a blob is lost or wrong."""
    blob = oci.Descriptor(image.media_type, image.digest, len(store.read_blob(image.digest)))
    with Tracker(f"unpack {image.name}") as tracker:
        ingest(store, runner, StoreSource(store), blob, (), tracker)
    return image
