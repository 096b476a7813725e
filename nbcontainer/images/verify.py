"""Reading every blob of the store again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.prepare import read_blob
from nbcontainer.images.parallel import run_jobs
from nbcontainer.oci import descriptors
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Part, Tracker
    from nbcontainer.store.layout import Store

_AT_ONCE = 2


@dataclass(frozen=True)
class Problem:
    """A problem of an image; `blob` is the damaged file (host), None if a blob or a layer is missing."""

    image: str
    what: str
    blob: Path | None = None


def verify(store: Store, tracker: Tracker) -> list[Problem]:
    """Read the blobs of all images, look for their unpacked layers, and return the problems."""
    problems = [Problem(name, "its documents cannot be read") for name in store.index.damaged()]
    problems += [
        Problem(one.name, f"index.json gives it the name {one.misnamed!r}, which is false and is not used")
        for one in store.index.catalog().listed
        if one.misnamed
    ]
    lists = {image.name: _blobs(store, image) for image in store.index.images().values()}
    images = [image for image in store.index.images().values() if lists.get(image.name)]
    blobs = list({blob.digest: blob for listed in lists.values() for blob in listed}.values())
    tracker.total = sum(blob.size for blob in blobs)
    jobs = [functools.partial(_check, store, blob, tracker.part()) for blob in blobs]
    results = run_jobs(jobs, tracker, threads=_AT_ONCE, name="verify")
    wrong = {blob.digest: problem for blob, problem in zip(blobs, results, strict=True) if problem}
    for image in images:
        problems += [
            Problem(image.name, f"{blob.digest} {wrong[blob.digest]}", _existing_path(store, blob))
            for blob in dict.fromkeys(lists[image.name])
            if blob.digest in wrong
        ]
        problems += [
            Problem(image.name, f"layer {layer.diff_id} is not unpacked")
            for layer in dict.fromkeys(image.layers)
            if store.layers.find(layer.diff_id) is None
        ]
    there = {one.name for one in store.index.catalog().listed}
    return [problem for problem in problems if problem.image in there]


def _blobs(store: Store, image: Image) -> list[descriptors.Descriptor]:
    """Return all blobs of an image: its manifest, its configuration and its layers; none if it was just removed."""
    try:
        manifest = store.blobs.read(image.digest)
        config, layers = oci.read_manifest(manifest, image.media_type)
    except ImageError:
        if image.name in store.index.images():
            raise
        return []
    return [descriptors.Descriptor(image.media_type, image.digest, len(manifest)), config, *layers]


def _check(store: Store, blob: descriptors.Descriptor, part: Part) -> str:
    """Return the problem of a blob; empty for none."""
    path = store.blobs.path(blob.digest)
    if not path.exists():
        return "is missing"
    try:
        for _ in read_blob(path, blob, part):
            pass
    except ImageError:
        return "is damaged"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    part.finish()
    return ""


def _existing_path(store: Store, blob: descriptors.Descriptor) -> Path | None:
    path = store.blobs.path(blob.digest)
    return path if path.exists() else None
