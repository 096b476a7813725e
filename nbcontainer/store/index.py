"""The images of the store by name: its index.json."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from nbcontainer.errors import ImageError, ImageNotFound, StoreError
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names, reference
from nbcontainer.oci.descriptors import Descriptor, algorithm_of, canonical, digest_of
from nbcontainer.store import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nbcontainer.store.blobs import Blobs
    from nbcontainer.store.catalog import Catalog
    from nbcontainer.store.locks import StoreLock

    Answer = TypeVar("Answer")

    class WriteFile(Protocol):
        """Replaces a file of the store, by its path in the store, and syncs it; see `Store.write_file`."""

        def __call__(self, name: str, data: bytes, *, freeing: bool = False) -> None:
            """Replace the file `name`; with `freeing`, use the reserve if the disk is full."""


class Index:
    """The images of one store by name, in the file `path` (host). Thread-safe.

    Guarantees: readers see the old index.json or the new one. A name is added or removed under the exclusive lock, and
    belongs to one image at a time. The images themselves are read from `blobs`, and only again when index.json is
    another file.
    """

    def __init__(self, path: Path, blobs: Blobs, lock: StoreLock, write_file: WriteFile) -> None:
        """`write_file(name, data)` replaces a file of the store, by its path in the store, and syncs it."""
        self._path = str(path)
        self._blobs = blobs
        self._lock = lock
        self._write_file = write_file
        self._mutex = threading.RLock()
        self._cached: tuple[tuple[int, ...], Catalog] | None = None
        self._recalled: tuple[dict[str, oci.Image] | None, dict[str, Any]] = (None, {})

    def create(self) -> None:
        """Write an index without images, unless there is one. Call with the exclusive lock held."""
        if not os.path.exists(self._path):  # noqa: PTH110
            self._write_index([])

    # Reading

    def images(self) -> dict[str, oci.Image]:
        """Return all images by name, as `catalog` lists them. Raises `StoreError`."""
        return self.catalog().images

    def catalog(self) -> Catalog:
        """Return what index.json lists, from memory unless it is another file. Raises `StoreError`."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - a string: every cell calls this
        except FileNotFoundError:
            hint = "the store was removed: restart the notebook"
            raise StoreError(f"{self._path} is missing", hint=hint) from None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        with self._mutex:
            if self._cached is None or self._cached[0] != stamp:
                known = self._cached[1] if self._cached else None
                self._cached = (stamp, catalog.read(self._blobs, self._entries(), known))
            return self._cached[1]

    def recall(self, question: str, find: Callable[[], Answer], *, look: bool = True) -> Answer:
        """Return what `find` returns, or what it returned to the same `question` before.

        Answers are kept as long as index.json is the same file. Without `look`, the caller has just asked another
        question, and whether it is the same file is not looked at again.
        """
        images = self.images() if look or self._cached is None else self._cached[1].images
        with self._mutex:
            if self._recalled[0] is not images:
                self._recalled = (images, {})
            known = self._recalled[1]
        if question not in known:
            known[question] = find()
        return cast("Answer", known[question])

    def indexes(self, index: str, manifest: str) -> tuple[str, ...]:
        """Return the digests of `index` and of the store's indexes inside it, if they list `manifest`; else none."""
        return names.indexes(self._blobs.read, index, manifest)

    def damaged(self) -> tuple[str, ...]:
        """Return the names of the images that cannot be read: which blobs and layers they use is not known."""
        return self.catalog().damaged

    def read_image(self, digest: str, media_type: str = "") -> oci.Image:
        """Return the image with that manifest digest, whether it has a name or not. Raises `ImageError`."""
        manifest = self._blobs.read(digest)
        config, _ = oci.read_manifest(manifest, media_type)
        return oci.read_image(manifest, self._blobs.read(config.digest), media_type)

    def image(self, name: str) -> oci.Image:
        """Return the image with that (familiar) name, or with that digest, or the only one whose digest starts so.

        The digest is that of the manifest or of the index that it was chosen from; a short form has 12 digits or more.
        Raises `ImageNotFound`, and `ImageError` if the image cannot be read.
        """
        images = self.images()
        if name in images:
            return images[name]
        wanted = name.rpartition("@")[2]
        for image in images.values():
            if reference.is_digest(wanted) and wanted in (image.digest, image.index):
                return image
        if reference.is_short_digest(name):
            found = {image.digest: image for image in images.values() if image.digest[7:].startswith(name)}
            if len(found) == 1:
                return next(iter(found.values()))
        if name in self.damaged():
            hint = "run `%container verify`, or remove the image and pull or load it again"
            raise ImageError(f"image {name!r} in the store is damaged", hint=hint)
        hint = "list the images with `%container images`, or add one with `%container pull` or `import`"
        raise ImageNotFound(f"no image {name!r} in the store", hint=hint)

    # Writing

    def add_image(self, image: oci.Image, name: str) -> oci.Image:
        """Write the documents of a new image, whose layers' blobs are in the store, and name it as `tag` does.

        Return the image under that name. Raises `ImageError`, `StoreError`.
        """
        config = image.config_document()
        manifest = image.manifest_document(Descriptor(oci.CONFIG, digest_of(config), len(config)))
        return self.put_image(
            Descriptor(oci.MANIFEST, digest_of(manifest), len(manifest)),
            [config, manifest],
            name,
        )

    def put_image(self, manifest: Descriptor, documents: Sequence[bytes], name: str, *, index: str = "") -> oci.Image:
        """Add an image by its documents, byte for byte, and name it as `tag` does.

        The blobs of its layers are in the store. `index` is the digest of the index that the manifest was chosen from,
        which is one of the documents; empty for none. Return the image under that name. Raises `ImageError` as `tag`
        does, before anything is written, and `StoreError`.
        """
        names.check((name,), manifest.digest, index)
        with self._lock.hold():
            for document in documents:
                self._blobs.write(document)
            self._write_config(manifest, documents)
            image = replace(self.read_image(manifest.digest, manifest.media_type), index=index)
            return self.tag(image, name)

    def _write_config(self, manifest: Descriptor, documents: Sequence[bytes]) -> None:
        """Write the configuration by the digest that the manifest states, if that is not a sha256 one."""
        config, _ = oci.read_manifest(self._blobs.read(manifest.digest), manifest.media_type)
        algorithm = algorithm_of(config.digest)
        for document in documents if algorithm != "sha256" else ():
            if digest_of(document, algorithm) == config.digest:
                self._blobs.write(document, algorithm)

    def tag(self, image: oci.Image, name: str) -> oci.Image:
        """Give an image of the store a name; another image that has the name loses it.

        Every name enters the store here. Raises `ImageError` for a name that is false about the image, `StoreError`.
        """
        with self._lock.hold():
            if image.index and not self.indexes(image.index, image.digest):
                raise ImageError(f"the index {image.index} does not list {image.digest}", hint="pull the image again")
            names.check((name,), image.digest, image.index)
            if not self._blobs.path(image.digest).exists():
                problem = f"image '{image.name or image.digest}' was removed in another process"
                raise ImageNotFound(problem, hint="see `%container images`")
            blob = Descriptor(image.media_type, image.digest, len(self._blobs.read(image.digest)))
            others = [entry for entry in self._entries() if names.stated(entry) != name]
            self._write_index([*others, names.entry_of(image, blob, name)])
        return image.named(name)

    def drop_images(self, dropped: Iterable[str]) -> None:
        """Remove names, all at once; see `drop_image`. Raises `ImageNotFound` if there is not one of them."""
        names = set(dropped)
        with self._lock.hold():
            listed = self.catalog().listed
            if missing := sorted(names - {one.name for one in listed}):
                raise ImageNotFound(f"no image {missing[0]!r} in the store", hint="see `%container images`")
            self._write_index([one.entry for one in listed if one.name not in names], freeing=True)

    def drop_image(self, name: str) -> None:
        """Remove a name. Blobs and layers that nothing uses any more stay for the cleanup. Raises `ImageNotFound`."""
        self.drop_images((name,))

    # The file

    def _entries(self) -> list[dict[str, Any]]:
        try:
            entries = json.loads(Path(self._path).read_text())["manifests"]
            if not all(isinstance(entry, dict) for entry in entries):
                raise TypeError("an entry is not an object")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(f"cannot read {self._path}: {error}", hint="restore or remove the file") from error
        return list(entries)

    def _write_index(self, entries: list[dict[str, Any]], *, freeing: bool = False) -> None:
        document = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
        self._write_file("index.json", canonical(document), freeing=freeing)
