"""An image that travels with its tasks: what names it, which blobs a worker lacks, and how they get into its store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from nbcontainer.errors import ImageError, ImageNotFound, NbcontainerError
from nbcontainer.images.ingest import Ingest
from nbcontainer.images.staging import Staging
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names, reference
from nbcontainer.oci.descriptors import Descriptor
from nbcontainer.oci.documents import Image
from nbcontainer.progress import Tracker
from nbcontainer.store.layout import Store
from nbcontainer.store.partial_blobs import Partial

_LOCAL = ("busybox", reference.HOST)
"""Names that mean an image of the machine's own: a registry's image of that name is another one."""


class BlobsMissing(Exception):
    """The worker's store lacks these blobs. It never leaves this package."""

    def __init__(self, digests: list[str]) -> None:
        super().__init__(f"{len(digests)} blobs are missing")
        self.digests = digests


def described(store: Store, image: Image) -> dict[str, Any]:
    """Return what a task says of its image, as plain data: its name, digest and the descriptors of its blobs."""
    if image.name == reference.HOST:
        return {"name": image.name, "digest": "", "blobs": []}
    manifest = store.blobs.read(image.digest)
    config, layers = oci.read_manifest(manifest, image.media_type)
    blobs = [Descriptor(image.media_type, image.digest, len(manifest)), config, *layers]
    unique = {blob.digest: blob for blob in blobs}
    return {
        "name": image.name,
        "digest": image.digest,
        "blobs": [[blob.media_type, blob.digest, blob.size] for blob in unique.values()],
    }


def read_blob(store: Store, digest: str) -> bytes:
    """Return a blob of the notebook's store, to be sent. Raises `ImageError`."""
    try:
        return store.blobs.path(digest).read_bytes()
    except FileNotFoundError:
        hint = "remove the image, then pull or load it again"
        raise ImageError(f"blob {digest} is missing from the store", hint=hint) from None


class BlobSource:
    """`Source` of blobs that came with a task. They are compared with their digests like those of a registry."""

    remote = False

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self._blobs = blobs

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        return blob.check(self._read(blob))

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`."""
        partial.write(memoryview(self._read(blob))[partial.have :])
        progress(partial.have)

    def _read(self, blob: Descriptor) -> bytes:
        try:
            return self._blobs[blob.digest]
        except KeyError:
            raise ImageError(f"blob {blob.digest} was not sent", hint="run it again") from None

    def abort(self) -> None:
        """See `Source`."""


class WorkerImages:
    """Finds the images of tasks in a worker's store, or brings them there: one thread at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unreachable: set[str] = set()

    def find(self, engine: Any, image: Mapping[str, Any], blobs: Mapping[str, bytes] | None) -> str:
        """Return what names the image here. Raises `BlobsMissing` if it is not here and was not sent.

        It is looked up by digest in the store, then pulled by that digest if its name is a registry's, once for each
        process. Raises `ImageError`, `StoreError`.
        """
        name, digest = str(image["name"]), str(image["digest"])
        if name == reference.HOST:
            return name
        if not _has(engine, digest):
            with self._lock:
                if not _has(engine, digest):
                    self._bring(engine, name, digest, image["blobs"], blobs)
        return digest

    def _bring(
        self, engine: Any, name: str, digest: str, described_blobs: Any, blobs: Mapping[str, bytes] | None
    ) -> None:
        descriptors = [Descriptor(*blob) for blob in described_blobs]
        # Registries have compressed layers; those of a commit are plain.
        local = any(blob.media_type in oci.PLAIN_LAYERS for blob in descriptors)
        if blobs is None and self._pulled(engine, name, digest, local=local):
            return
        store = engine.store
        missing = [blob.digest for blob in descriptors if not store.blobs.path(blob.digest).exists()]
        sent = dict(blobs or {})
        if any(one not in sent for one in missing):
            raise BlobsMissing(missing)
        for blob in descriptors:
            if blob.digest not in sent:
                sent[blob.digest] = read_blob(store, blob.digest)
        staging = Staging(store, engine)
        with Tracker(f"bring {name}") as tracker:
            Ingest(staging, BlobSource(sent), tracker).run(descriptors[0], (digest,))

    def _pulled(self, engine: Any, name: str, digest: str, *, local: bool) -> bool:
        """Return whether the image was pulled by its digest. A registry that failed is not asked again.

        An image with a layer that was made here (`local`) is in no registry under this name.
        """
        if name in _LOCAL or name.startswith(names.OF_FILES) or digest in self._unreachable or local:
            return False
        try:
            wanted = reference.parse(f"{name.partition('@')[0]}@{digest}")
            engine.images.pull(wanted)
        except NbcontainerError:
            self._unreachable.add(digest)
            return False
        return True


def _has(engine: Any, digest: str) -> bool:
    try:
        engine.images.find(digest)
    except ImageNotFound:
        return False
    return True
