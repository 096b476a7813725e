"""Images from registries: their documents, and their blobs, whose transfers resume after an interruption."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, ImageNotFound, RegistryError
from nbcontainer.images.ingest import Ingest
from nbcontainer.images.registry.bodies import Pace, read_document
from nbcontainer.images.registry.client import Client, StatusError, Transient
from nbcontainer.images.registry.endpoints import endpoints
from nbcontainer.oci import descriptors, platforms, untrusted_json
from nbcontainer.oci import documents as oci
from nbcontainer.store.partial_blobs import WrongBytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from nbcontainer.images.registry.connections import Patience
    from nbcontainer.images.registry.endpoints import Endpoint
    from nbcontainer.images.staging import Staging
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.reference import Reference
    from nbcontainer.store.partial_blobs import Partial

_CHUNK = 1 << 18
_ACCEPT = {"Accept": ", ".join(sorted(oci.MANIFESTS | oci.INDEXES))}


def pull(
    staging: Staging, wanted: Reference, *, platform: Platform | None = None, patience: Patience | None = None
) -> Image:
    """Pull an image from its registry, or from the first of its mirrors that has it, under its own name.

    Layers that the store has are not fetched; an interrupted pull resumes. Raises `ImageNotFound`, `RegistryError`,
    `ImageError`, `StoreError`.
    """
    pull_from = functools.partial(_pull_from, staging, wanted, platform, patience)
    *mirrors, last = endpoints(wanted)
    for endpoint in mirrors:
        try:
            return pull_from(endpoint)
        except (ImageNotFound, RegistryError):
            continue
    return pull_from(last)


def _pull_from(
    staging: Staging, wanted: Reference, platform: Platform | None, patience: Patience | None, endpoint: Endpoint
) -> Image:
    with (
        staging.tracker(f"pull {wanted}") as tracker,
        contextlib.closing(Client(endpoint, tracker, patience=patience)) as client,
    ):
        source = RegistrySource(client)
        ingest = Ingest(staging, source, tracker)
        blob, _ = source.find(wanted.digest or wanted.tag)
        known = staging.store.index.images().get(wanted.familiar)
        same = known is not None and blob.digest in (known.digest, known.index)
        if known is not None and same and _suits(known, platform) and not ingest.missing(known):
            return known
        return ingest.run(blob, [wanted.familiar], platform)


def _suits(image: Image, platform: Platform | None) -> bool:
    return platforms.rank(image.platform, platform or platforms.host()) >= 0


class RegistrySource:
    """`nbcontainer.images.sources.Source` of one repository of a registry."""

    remote = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, bytes] = {}

    def find(self, wanted: str) -> tuple[Descriptor, bytes]:
        """Return the manifest or index of a tag or a digest: its descriptor and its bytes.

        Raises `ImageNotFound`, `RegistryError`, `ImageError`.
        """
        endpoint = self._client.endpoint

        def ask() -> tuple[Descriptor, bytes]:
            with self._client.request("GET", f"manifests/{wanted}", _ACCEPT) as response:
                data = read_document(response, untrusted_json.LIMIT, self._client.patience)
                return descriptors.Descriptor(_type_of(response, data), descriptors.digest_of(data), len(data)), data

        try:
            blob, data = self._client.patiently(ask)
        except StatusError as error:
            if error.status != 404:
                raise
            raise ImageNotFound(
                f"{endpoint.host} has no {endpoint.path}:{wanted}", hint="check the name and the tag"
            ) from None
        if wanted.startswith("sha256:") and blob.digest != wanted:
            raise ImageError(f"{endpoint.host} returned {blob.digest} for {wanted}")
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
                return read_document(response, untrusted_json.LIMIT, self._client.patience)

        return bytes(self._client.patiently(ask))

    def candidate(self, _: Descriptor) -> int | None:
        """See `Source`."""
        return None

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`. After an interruption it resumes, as long as there is progress."""
        try:
            while not partial.complete:
                self._client.patiently(lambda: self._fetch_more(blob, partial, progress), lambda: partial.have)
        except StatusError as error:
            raise ImageError(f"cannot fetch a layer of the image: {error.message}") from None

    def _fetch_more(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        begin = partial.have
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._client.request("GET", f"blobs/{blob.digest}", headers, fine=(200, 206)) as response:
            skip = _check_range(response, blob, begin)
            pace = Pace(self._client.patience)
            while data := response.read1(_CHUNK):
                if not pace.is_kept(len(data)):
                    raise Transient("the transfer is too slow")
                if skip:
                    skip, data = max(skip - len(data), 0), data[skip:]
                partial.write(data)
                progress(partial.have)
        if not partial.complete:
            raise Transient("the connection was closed")

    def abort(self) -> None:
        """See `Source`."""
        self._client.abort()


def _check_range(response: BaseHTTPResponse, blob: Descriptor, begin: int) -> int:
    """Return how many bytes of the response to skip: a registry can send the whole blob instead of its rest.

    Raises `WrongBytes` if the length is wrong, `RegistryError` if it is another range.
    """
    partly = response.status == 206
    if partly and not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
        raise RegistryError("the registry sent another range of a layer than the one requested")
    length = untrusted_json.number(response.headers.get("Content-Length", ""))
    if length is not None and length != (blob.size - begin if partly else blob.size):
        raise WrongBytes(f"the registry sends {length} bytes of blob {blob.digest} instead of the expected {blob.size}")
    return 0 if partly else begin


def _type_of(response: BaseHTTPResponse, data: bytes) -> str:
    """Return a document's media type: the header's, or the document's own if the header has no known one."""
    stated = response.headers.get("Content-Type", "").partition(";")[0].strip()
    if stated in oci.MANIFESTS | oci.INDEXES:
        return stated
    return untrusted_json.text(untrusted_json.parse(data, "the manifest"), "mediaType", "the manifest") or stated
