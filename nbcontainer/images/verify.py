"""Reading every blob of the store again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.prepare import read_blob
from nbcontainer.images.ingest import follow
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Part, Tracker
    from nbcontainer.store.layout import Store

_AT_ONCE = 2


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with an image; `blob` is the damaged file (host), None where one is missing."""

    image: str
    what: str
    blob: Path | None = None


def verify(store: Store, tracker: Tracker) -> list[Problem]:
    """Reads all blobs that images have, and looks whether their unpacked layers are there."""
    problems = [Problem(name, "its documents cannot be read") for name in store.damaged()]
    problems += [
        Problem(one.name, f"index.json gives it the name {one.misnamed!r}, which is false and is not used")
        for one in store.catalog().listed
        if one.misnamed
    ]
    images = list(store.images().values())
    blobs = {blob.digest: blob for image in images for blob in _blobs(store, image)}
    tracker.total = sum(blob.size for blob in blobs.values())
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbcontainer-verify") as pool:
        jobs = {digest: pool.submit(_check, store, blob, tracker.part()) for digest, blob in blobs.items()}
        try:
            follow(list(jobs.values()), tracker)
        except BaseException:
            tracker.stop()
            pool.shutdown(cancel_futures=True)
            raise
    wrong = {digest: said for digest, job in jobs.items() if (said := job.result())}
    for image in images:
        problems += [
            Problem(image.name, f"{blob.digest} {wrong[blob.digest]}", _there(store, blob))
            for blob in dict.fromkeys(_blobs(store, image))
            if blob.digest in wrong
        ]
        problems += [
            Problem(image.name, f"layer {layer.diff_id} is not unpacked")
            for layer in dict.fromkeys(image.layers)
            if store.layer(layer.diff_id) is None
        ]
    return problems


def _blobs(store: Store, image: Image) -> list[oci.Descriptor]:
    """All blobs of an image: they are no secret to each other, so their sizes are known."""
    manifest = store.read_blob(image.digest)
    config, layers = oci.read_manifest(manifest, image.media_type)
    return [oci.Descriptor(image.media_type, image.digest, len(manifest)), config, *layers]


def _check(store: Store, blob: oci.Descriptor, part: Part) -> str:
    """What is wrong with a blob; empty where nothing is."""
    path = store.blob_path(blob.digest)
    if not path.exists():
        return "is missing"
    try:
        for data in read_blob(path, blob):
            part.add(len(data))
    except ImageError:
        return "is damaged"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    part.finish()
    return ""


def _there(store: Store, blob: oci.Descriptor) -> Path | None:
    path = store.blob_path(blob.digest)
    return path if path.exists() else None
