"""Images to registries: layers in parallel, except those that the registry has, and the manifest last."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from nbcontainer.images.archives.prepare import prepare, read_blob
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.parallel import run_jobs
from nbcontainer.images.registry import urls
from nbcontainer.images.registry.client import Client, StatusError
from nbcontainer.images.registry.endpoints import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from nbcontainer.images.registry.connections import Patience
    from nbcontainer.images.staging import Staging
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image
    from nbcontainer.oci.reference import Reference
    from nbcontainer.progress import Part

_AT_ONCE = 4


def push(
    staging: Staging,
    image: Image,
    target: Reference,
    *,
    compression: Compression = Compression.GZIP,
    patience: Patience | None = None,
) -> Descriptor:
    """Push an image to the registry of `target`, and return its manifest there: a new one if layers were compressed.

    Blobs that the registry has are not sent, and layers that it has are not compressed again. Raises `RegistryError`,
    `ImageError`, `StoreError`.
    """
    (endpoint,) = endpoints(target, push=True)
    with contextlib.ExitStack() as stack:
        tracker = stack.enter_context(staging.tracker(f"push {target}"))
        client = stack.enter_context(contextlib.closing(Client(endpoint, tracker, push=True, patience=patience)))
        client.reach()
        part = tracker.part()
        outgoing = prepare(staging.store, image, compression, stack, part, functools.partial(_has_blob, client))
        tracker.layers = len(outgoing.layers)
        tracker.total = part.done + sum(blob.size for blob, _ in outgoing.layers)
        layers = [functools.partial(_push_layer, client, blob, path, tracker.part()) for blob, path in outgoing.layers]
        run_jobs(layers, tracker, threads=_AT_ONCE, name="push", abort=client.abort)
        *others, (manifest, document) = outgoing.documents
        for blob, data in others:
            _push_blob(client, blob, functools.partial(iter, [data]))
        client.patiently(lambda: _push_manifest(client, manifest, document, target.tag or manifest.digest))
        return manifest


def _push_manifest(client: Client, blob: Descriptor, document: bytes, name: str) -> None:
    headers = {"Content-Type": blob.media_type}
    with client.request("PUT", f"manifests/{name}", headers, document, fine=(201, 202)):
        pass


def _push_layer(client: Client, blob: Descriptor, path: Path, part: Part) -> None:
    """Send a layer from its file `path` (host)."""

    def read() -> Iterable[bytes]:
        part(0)
        return read_blob(path, blob, part)

    _push_blob(client, blob, read)
    part(blob.size)
    part.finish()


def _push_blob(client: Client, blob: Descriptor, read: Callable[[], Iterable[bytes]]) -> None:
    """Send a blob, from its beginning at each attempt, unless the registry has it."""

    def send() -> None:
        with client.request("POST", "blobs/uploads/", {"Content-Length": "0"}, fine=(202,)) as response:
            where = _with_digest(client.location(response), blob.digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with client.request("PUT", where, headers, read(), fine=(201, 204)):
            pass

    if not _has_blob(client, blob):
        client.patiently(send)


def _has_blob(client: Client, blob: Descriptor) -> bool:
    def ask() -> bool:
        try:
            with client.request("HEAD", f"blobs/{blob.digest}"):
                return True
        except StatusError as error:
            if error.status != 404:
                raise
            return False

    return client.patiently(ask)


def _with_digest(url: str, digest: str) -> str:
    parts = urls.split(url)
    query = "&".join(filter(None, (parts.query, urlencode({"digest": digest}))))
    return parts._replace(query=query).geturl()
