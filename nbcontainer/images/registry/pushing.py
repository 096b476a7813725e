"""Images to registries: layers in parallel, those that are there left out, the manifest last."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from nbcontainer.images.archives.prepare import prepare, read_blob
from nbcontainer.images.ingest import follow
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.registry.client import Client, StatusError
from nbcontainer.images.registry.endpoints import endpoints
from nbcontainer.progress import Tracker
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.images.registry.connections import Patience
    from nbcontainer.oci.documents import Descriptor, Image
    from nbcontainer.oci.reference import Reference
    from nbcontainer.progress import Listener, Part
    from nbcontainer.store.layout import Store

_AT_ONCE = 4


def push(
    store: Store,
    image: Image,
    target: Reference,
    *,
    compression: Compression = Compression.GZIP,
    listener: Listener | None = None,
    patience: Patience | None = None,
) -> Descriptor:
    """Puts an image into the registry of `target`: its manifest there, another one where layers were compressed.

    What the registry has already is not sent. Raises `RegistryError`, `ImageError`, `StoreError`.
    """
    (endpoint,) = endpoints(target, push=True)
    with contextlib.ExitStack() as stack:
        tracker = stack.enter_context(Tracker(f"push {target}", listener))
        client = stack.enter_context(contextlib.closing(Client(endpoint, tracker, push=True, patience=patience)))
        client.reach()
        part = tracker.part()
        try:
            outgoing = prepare(store, image, compression, stack, part)
        except OSError as error:
            raise store_error("compress layers in the store", store.path, error) from error
        tracker.layers = len(outgoing.layers)
        tracker.total = part.done + sum(blob.size for blob, _ in outgoing.layers)
        pool = stack.enter_context(ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbcontainer-push"))
        jobs = [
            pool.submit(_push_blob, client, blob, functools.partial(read_blob, path, blob), tracker.part())
            for blob, path in outgoing.layers
        ]
        try:
            follow(jobs, tracker)
        except BaseException:
            tracker.stop()
            client.abort()
            pool.shutdown(cancel_futures=True)
            raise
        *others, (manifest, document) = outgoing.documents
        for blob, data in others:
            _push_blob(client, blob, functools.partial(iter, [data]), None)
        client.patiently(lambda: _push_manifest(client, manifest, document, target.tag or manifest.digest))
        return manifest


def _push_manifest(client: Client, blob: Descriptor, document: bytes, name: str) -> None:
    headers = {"Content-Type": blob.media_type}
    with client.request("PUT", f"manifests/{name}", headers, document, fine=(201, 202)):
        pass


def _push_blob(client: Client, blob: Descriptor, read: Callable[[], Iterable[bytes]], part: Part | None) -> None:
    """Sends a blob, from its beginning at each try."""

    def send() -> None:
        if part is not None:
            part(0)
        with client.request("POST", "blobs/uploads/", {"Content-Length": "0"}, fine=(202,)) as response:
            where = _with_digest(client.location(response), blob.digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with client.request("PUT", where, headers, _counted(read(), part), fine=(201, 204)):
            pass

    if client.patiently(lambda: _is_there(client, blob)):
        if part is not None:
            part(blob.size)
    else:
        client.patiently(send)
    if part is not None:
        part.finish()


def _is_there(client: Client, blob: Descriptor) -> bool:
    try:
        with client.request("HEAD", f"blobs/{blob.digest}"):
            return True
    except StatusError as error:
        if error.status != 404:
            raise
        return False


def _with_digest(url: str, digest: str) -> str:
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({"digest": digest}))))
    return parts._replace(query=query).geturl()


def _counted(chunks: Iterable[bytes], part: Part | None) -> Iterator[bytes]:
    for data in chunks:
        yield data
        if part is not None:
            part.add(len(data))
