"""Archives of `docker save` and `podman save`: a `manifest.json` names configurations and layers.

Source: moby, image/spec/v1.2.md; and image/tarexport. Archives without a manifest.json are from before Docker 1.10:
see `nbcontainer.images.archives.old_docker_archive`.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.archives.oci_layout import copy
from nbcontainer.images.layers import compression
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.unpack import media_type
from nbcontainer.images.sources import Candidate
from nbcontainer.oci import descriptors, reference, untrusted_json
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.store.partial_blobs import Partial

    Decompress = Callable[[int], tuple[Path, Descriptor]]

MANIFEST = "manifest.json"
_SIGNATURE = 10


def is_docker_archive(folder: UntrustedDirectory) -> bool:
    """Whether the directory has the files of a docker archive."""
    try:
        items = _items(folder)
    except (ImageError, FileNotFoundError):
        return False
    return bool(items) and all("Config" in item and "Layers" in item for item in items)


def _items(folder: UntrustedDirectory) -> list[dict[str, Any]]:
    text = folder.read(MANIFEST, untrusted_json.LIMIT)
    return untrusted_json.objects(untrusted_json.parse(b'{"images":' + text + b"}", MANIFEST), "images", MANIFEST)


def familiar_names(tags: Iterable[str], file: str) -> tuple[str, ...]:
    """Return the names that `file` states, in their familiar form, each once. Raises `ImageError`."""
    try:
        return tuple(dict.fromkeys(reference.parse(tag).familiar for tag in tags))
    except UsageError as error:
        raise ImageError(f"{file}: {error.message}") from None


class DockerArchive:
    """`nbcontainer.images.sources.FileSource` of an unpacked docker archive. It makes a manifest for each image."""

    remote = False

    def __init__(self, folder: UntrustedDirectory, decompress: Decompress) -> None:
        """`decompress` makes a plain tar of a layer whose compression OCI does not have: its path (host) and blob.

        That file must exist as long as the archive is read.
        """
        self._folder = folder
        self._decompress = decompress
        self._documents: dict[str, bytes] = {}
        self._files: dict[str, str | Path] = {}

    def candidates(self, _stem: str = "") -> list[Candidate]:
        """Return the images of the archive. Every layer is read, for its digest. Raises `ImageError`."""
        return [self._candidate(config, item, names) for config, item, names in self._images()]

    def claims(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the archive's images by the digest of their configuration. No layer is read."""
        return {descriptors.digest_of(config): names for config, _, names in self._images()}

    def without(self, configs: Collection[str]) -> list[Candidate]:
        """Return the images whose configurations have other digests than these."""
        return [
            self._candidate(config, item, names)
            for config, item, names in self._images()
            if descriptors.digest_of(config) not in configs
        ]

    def _images(self) -> Iterator[tuple[bytes, dict[str, Any], tuple[str, ...]]]:
        for item in _items(self._folder):
            tags = untrusted_json.strings(item, "RepoTags", MANIFEST)
            yield self._read(untrusted_json.text(item, "Config", MANIFEST)), item, familiar_names(tags, MANIFEST)

    def _candidate(self, config: bytes, item: dict[str, Any], names: tuple[str, ...]) -> Candidate:
        paths = untrusted_json.strings(item, "Layers", MANIFEST)
        return self._add(config, [self._layer(path) for path in paths], names)

    def _add(self, config: bytes, layers: Sequence[Descriptor], names: tuple[str, ...]) -> Candidate:
        """Make the manifest of an image, and return the image."""
        manifest = descriptors.canonical(
            {
                "schemaVersion": 2,
                "mediaType": oci.MANIFEST,
                "config": descriptors.Descriptor(oci.CONFIG, descriptors.digest_of(config), len(config)).as_json(),
                "layers": [layer.as_json() for layer in layers],
            }
        )
        for data in (config, manifest):
            self._documents[descriptors.digest_of(data)] = data
        return Candidate(descriptors.Descriptor(oci.MANIFEST, descriptors.digest_of(manifest), len(manifest)), names)

    def _read(self, path: str) -> bytes:
        try:
            return self._folder.read(path, untrusted_json.LIMIT)
        except FileNotFoundError:
            raise ImageError(f"{path[:200]!r} is missing from the archive", hint="save the image again") from None

    def _layer(self, path: str) -> Descriptor:
        fd = self._open(path)
        with os.fdopen(fd, "rb") as file:
            kind = compression.detect(file.read(_SIGNATURE))
            if kind not in (Compression.NONE, Compression.GZIP, Compression.ZSTD):
                os.lseek(fd, 0, os.SEEK_SET)
                plain, blob = self._decompress(fd)
                self._files[blob.digest] = plain
                return blob
            file.seek(0)
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
            size = os.fstat(fd).st_size
        self._files[digest] = path
        return descriptors.Descriptor(media_type(kind), digest, size)

    def _open(self, path: str | Path) -> int:
        if not isinstance(path, str):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._folder.open_file(path)
        except FileNotFoundError:
            raise ImageError(f"{path[:200]!r} is missing from the archive", hint="save the image again") from None

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is the layer of an image that was returned."""
        return blob.digest in self._files

    def document(self, blob: Descriptor) -> bytes:
        """See `Source`."""
        try:
            return self._documents[blob.digest]
        except KeyError:
            raise ImageError(f"blob {blob.digest} is missing from the archive") from None

    def candidate(self, blob: Descriptor) -> int | None:
        """See `Source`."""
        return self._open(self._files[blob.digest])

    def fetch(self, blob: Descriptor, partial: Partial, progress: Callable[[int], None]) -> None:
        """See `Source`."""
        fd = self._open(self._files[blob.digest])
        try:
            copy(fd, partial, progress)
        finally:
            os.close(fd)

    def abort(self) -> None:
        """See `Source`: reading files does not wait."""
