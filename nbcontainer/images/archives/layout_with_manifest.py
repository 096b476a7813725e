"""Archives of `docker save` since Docker 25: an OCI layout and a `manifest.json` beside it.

Either of the two can lack images. Docker 25.0 wrote an index.json without entries for `docker save IMAGE@DIGEST`
(moby issue 47210), and later versions leave out the second of two images by digest (moby issue 51389).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.oci import documents as oci
from nbcontainer.oci.selection import NESTING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.archives.docker_archive import DockerArchive
    from nbcontainer.images.archives.oci_layout import OciLayout
    from nbcontainer.images.sources import Candidate
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.store.partial_blobs import Partial


class LayoutWithManifest:
    """`nbcontainer.images.sources.FileSource` of both: the layout's images, and those that only manifest.json has."""

    remote = False

    def __init__(self, layout: OciLayout, docker: DockerArchive) -> None:
        self._layout = layout
        self._docker = docker

    def candidates(self, stem: str) -> list[Candidate]:
        """Return the images of both files, each once, with its names in both. Raises `ImageError`.

        An entry of index.json without its blobs, or of another kind than an image, is left out.
        """
        claims, found, known = self._docker.claims(), [], set()
        for candidate in self._layout.candidates(stem):
            configs = self._configs(candidate.blob)
            known |= configs
            more = [name for config in sorted(configs) for name in claims.get(config, ())]
            if configs:
                found.append(replace(candidate, names=tuple(dict.fromkeys([*candidate.names, *more]))))
        return [*found, *self._docker.without(known)]

    def _configs(self, blob: Descriptor, level: int = 0) -> set[str]:
        """Return the digests of the configurations in a manifest or index; those that cannot be read are left out."""
        try:
            data = blob.check(self._layout.document(blob))
            if blob.media_type in oci.MANIFESTS:
                return {oci.read_manifest(data, blob.media_type)[0].digest}
            entries = oci.read_index(data, blob.media_type) if level < NESTING else ()
        except ImageError:
            return set()
        return {config for entry in entries for config in self._configs(entry.blob, level + 1)}

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        try:
            return self._docker.document(blob)
        except ImageError:
            return self._layout.document(blob)

    def candidate(self, blob: Descriptor) -> int | None:
        """See `Source`."""
        return self._docker.candidate(blob) if self._docker.has(blob) else self._layout.candidate(blob)

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`."""
        (self._docker if self._docker.has(blob) else self._layout).fetch(blob, partial, progress)

    def abort(self) -> None:
        """See `Source`: reading files does not wait."""
