"""Images from registries: the documents, and blobs that go on where they broke off."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, ImageNotFound, RegistryError
from nbcontainer.images.ingest import ingest
from nbcontainer.images.registry.client import Client, StatusError, Transient
from nbcontainer.images.registry.endpoints import endpoints
from nbcontainer.oci import documents as oci
from nbcontainer.oci import platforms, untrusted_json
from nbcontainer.progress import Tracker
from nbcontainer.store.partial_blobs import WrongBytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from nbcontainer.images.registry.connections import Patience
    from nbcontainer.images.registry.endpoints import Endpoint
    from nbcontainer.images.runner import Runner
    from nbcontainer.oci.documents import Descriptor, Image
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.reference import Reference
    from nbcontainer.progress import Listener
    from nbcontainer.store.layout import Store
    from nbcontainer.store.partial_blobs import Partial

_CHUNK = 1 << 18
_ACCEPT = {"Accept": ", ".join(sorted(oci.MANIFESTS | oci.INDEXES))}


def pull(
    store: Store,
    runner: Runner,
    wanted: Reference,
    *,
    platform: Platform | None = None,
    listener: Listener | None = None,
    patience: Patience | None = None,
) -> Image:
    """Brings an image in from its registry, or from the first of its mirrors that has it, under its own name.

    What the store has already is not fetched; an interrupted pull goes on where it was. Raises `ImageNotFound`,
    `RegistryError`, `ImageError`, `StoreError`.
    """
    *mirrors, last = endpoints(wanted)
    for endpoint in mirrors:
        try:
            return _pull_from(endpoint, store, runner, wanted, platform, listener, patience)
        except (ImageNotFound, RegistryError):
            continue
    return _pull_from(last, store, runner, wanted, platform, listener, patience)


def _pull_from(
    endpoint: Endpoint,
    store: Store,
    runner: Runner,
    wanted: Reference,
    platform: Platform | None,
    listener: Listener | None,
    patience: Patience | None,
) -> Image:
    with (
        Tracker(f"pull {wanted}", listener) as tracker,
        contextlib.closing(Client(endpoint, tracker, patience=patience)) as client,
    ):
        remote = Remote(client)
        blob, _ = remote.find(wanted.digest or wanted.tag)
        known = store.images().get(wanted.familiar)
        if known is not None and blob.digest in (known.digest, known.index) and _suits(known, platform):
            return known
        return ingest(store, runner, remote, blob, [wanted.familiar], tracker, platform)


def _suits(image: Image, platform: Platform | None) -> bool:
    return platforms.rank(image.platform, platform or platforms.host()) >= 0


class Remote:
    """`nbcontainer.images.sources.Source` of a repository."""

    remote = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, bytes] = {}

    def find(self, wanted: str) -> tuple[Descriptor, bytes]:
        """The manifest or index of a tag or a digest. Raises `ImageNotFound`, `RegistryError`."""
        endpoint = self._client.endpoint

        def ask() -> tuple[Descriptor, bytes]:
            with self._client.request("GET", f"manifests/{wanted}", _ACCEPT) as response:
                data = _read(response, untrusted_json.LIMIT)
                return oci.Descriptor(_type_of(response, data), oci.digest_of(data), len(data)), data

        try:
            blob, data = self._client.patiently(ask)
        except StatusError as error:
            if error.status != 404:
                raise
            raise ImageNotFound(
                f"{endpoint.host} has no {endpoint.path}:{wanted}", hint="check the name and the tag"
            ) from None
        if wanted.startswith("sha256:") and blob.digest != wanted:
            raise ImageError(f"{endpoint.host} gives {blob.digest} for {wanted}")
        self._known[blob.digest] = data
        return blob, data

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        if blob.digest in self._known:
            return self._known[blob.digest]
        if blob.media_type in oci.MANIFESTS | oci.INDEXES:
            return self.find(blob.digest)[1]

        def ask() -> bytes:
            with self._client.request("GET", f"blobs/{blob.digest}") as response:
                return _read(response, untrusted_json.LIMIT)

        return bytes(self._client.patiently(ask))

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`. Tries again from where it broke off, as long as it gets on."""
        try:
            while not partial.complete:
                self._client.patiently(lambda: self._some(blob, partial, progress), lambda: partial.have)
        except StatusError as error:
            raise ImageError(f"the registry lacks a layer of the image: {error.message}") from None

    def _some(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        begin = partial.have
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._client.request("GET", f"blobs/{blob.digest}", headers, fine=(200, 206)) as response:
            skip = _check_range(response, blob, begin)
            pace = _Pace(self._client.patience)
            while data := response.read1(_CHUNK):
                pace.count(len(data))
                if skip:
                    skip, data = max(skip - len(data), 0), data[skip:]
                partial.write(data)
                progress(partial.have)
        if not partial.complete:
            raise Transient("the connection broke off")

    def abort(self) -> None:
        """See `Source`."""
        self._client.abort()


def _check_range(response: BaseHTTPResponse, blob: Descriptor, begin: int) -> int:
    """How many bytes of the response to skip: it may be the whole blob. Raises `WrongBytes` for another length."""
    partly = response.status == 206
    if partly and not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
        raise RegistryError("the registry sends another part of a layer than it was asked for")
    length = untrusted_json.number(response.headers.get("Content-Length", ""))
    if length is not None and length != (blob.size - begin if partly else blob.size):
        raise WrongBytes(f"the registry has {length} bytes of {blob.digest}, and {blob.size} were promised")
    return 0 if partly else begin


class _Pace:
    """Ends a transfer that trickles."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._bytes = 0

    def count(self, size: int) -> None:
        """Counts bytes. Raises `Transient` where there were too few for too long."""
        self._bytes += size
        passed = time.monotonic() - self._since
        if passed >= self._patience.silence:
            if self._bytes < self._patience.slowest * passed:
                raise Transient("it sends next to nothing")
            self._since, self._bytes = time.monotonic(), 0


def _read(response: BaseHTTPResponse, limit: int) -> bytes:
    """A whole small body. Raises `ImageError` past `limit` bytes."""
    parts, size = [], 0
    while data := response.read1(_CHUNK):
        parts.append(data)
        size += len(data)
        if size > limit:
            raise ImageError(f"the registry's document has more than {limit >> 20} MiB, which is the limit")
    return b"".join(parts)


def _type_of(response: BaseHTTPResponse, data: bytes) -> str:
    """A document's media type: the header's, or its own where the header says nothing that is known."""
    said = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if said in oci.MANIFESTS | oci.INDEXES:
        return said
    return untrusted_json.text(untrusted_json.parse(data, "the manifest"), "mediaType", "the manifest") or said
