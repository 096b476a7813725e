"""Files that hold images: root file systems, docker and OCI archives, and layouts. Their content decides which.

An archive is unpacked in a sandbox, into the store's `tmp`. If the result is a docker archive or an image layout, its
images are ingested from there. Otherwise the tree itself becomes the only layer of an image.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError, ImageNotFound, UsageError
from nbcontainer.images import sandboxed
from nbcontainer.images.archives import choosing
from nbcontainer.images.archives.docker_archive import DockerArchive, is_docker_archive
from nbcontainer.images.archives.layout_with_manifest import LayoutWithManifest
from nbcontainer.images.archives.oci_layout import OciLayout, is_layout
from nbcontainer.images.archives.old_docker_archive import OldDockerArchive, is_old_docker_archive
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.images.builtin import busybox
from nbcontainer.images.ingest import Ingest, examine
from nbcontainer.oci import documents as oci
from nbcontainer.oci import platforms, reference
from nbcontainer.oci.names import check_claims
from nbcontainer.oci.timestamps import timestamp
from nbcontainer.store import durability, user_files, writable
from nbcontainer.store.errors import path_advice, store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.images.sources import Candidate, FileSource
    from nbcontainer.images.staging import StagedTree, Staging
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image, ImageConfig
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.progress import Tracker
    from nbcontainer.store.layout import Store

_HEX = r"[0-9a-f]{64}"
_BLOBS = r"blobs/sha(256|512)"
_OF_IMAGES = re.compile(
    rf"({_BLOBS}/[0-9a-f]{{64,128}}|{_HEX}(\.json|\.tar(\.gz)?|/.*)?|sha256:{_HEX}|oci-layout|(index|manifest)\.json|repositories)"
)
_FOLDERS_OF_IMAGES = re.compile(rf"(\.|blobs|{_BLOBS}|{_HEX})")
_LISTED = 10  # images in a message
_FOLDERS = 4  # directories in each other, with nothing beside them, that can be around an image's files


@dataclass(frozen=True)
class ImportOptions:
    """How the images of a file are named and configured.

    `name` (familiar) is for its only image; empty for the names in the file. `stem` is the name of an image that has
    none, or only a tag. Of an index, the image for `platform` is taken, by default this machine's. `config`,
    `created_by` and `created` (RFC 3339, by default now) are for a root file system, which has none of them; with
    `only_root` the file must be one. `select` is the name or tag of the one image to take, or its place, as in `@0`;
    empty for all.
    """

    name: str = ""
    stem: str = "imported"
    platform: Platform | None = None
    config: ImageConfig = field(
        default_factory=lambda: oci.ImageConfig(env=busybox.BUSYBOX_CONFIG.env, cmd=("/bin/sh",))
    )
    created_by: str = "nbcontainer import"
    created: str = ""
    only_root: bool = False
    select: str = ""


def stem_of(path: Path) -> str:
    """Return the name for an image in the file `path` that has no name of its own."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.name.lower().partition(".tar")[0]).strip("-")
    if stem == reference.HOST or reference.reads_like_a_digest(stem):
        return f"imported-{stem}"
    return stem or "imported"


def open_file(store: Store, path: Path) -> int:
    """Return a descriptor that reads a host file or directory; the caller closes it.

    Raises `ImageNotFound`, `ImageError`, and `LinkRefused` for a path through a link that a container could have made.
    """
    try:
        fd, links = user_files.open_file(path)
    except FileNotFoundError:
        raise ImageNotFound(f"no file {path}", hint="check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint=path_advice(error)) from error
    try:
        writable.check(store, links)
    except BaseException:
        os.close(fd)
        raise
    return fd


def load(staging: Staging, fd: int, options: ImportOptions) -> list[Image]:
    """Ingest all images of a file, a pipe or a layout directory, open at `fd`, which the caller closes.

    A file is read from its offset, a pipe to its end. The documents and names of all images are checked before the
    first is added. If a layer is wrong, the images before it in the file were added.
    Raises `ImageError`, `ImageNotFound`, `StoreError`, `UsageError`.
    """
    return _Load(staging, options).load(fd)


class _Load:
    """One call of `load`."""

    def __init__(self, staging: Staging, options: ImportOptions) -> None:
        self._staging = staging
        self._store = staging.store
        self._options = options

    def load(self, fd: int) -> list[Image]:
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        try:
            if kind == stat.S_IFDIR:
                return self._directory(fd)
            if kind == stat.S_IFREG and self._looks_like_images(fd):
                start = os.lseek(fd, 0, os.SEEK_CUR)
                images = self._images(fd)
                if images is not None:
                    return images
                os.lseek(fd, start, os.SEEK_SET)  # only its beginning looked like an archive of images
            return self._any_archive(fd)
        except OSError as error:
            raise store_error("add an image to the store", self._store.path, error) from error

    def _directory(self, fd: int) -> list[Image]:
        with contextlib.closing(UntrustedDirectory(fd)) as folder:
            if not is_layout(folder):
                raise ImageError("the directory is not an OCI image layout", hint="for a root file system, give a tar")
            return self._take(OciLayout(folder, private=False))

    def _looks_like_images(self, fd: int) -> bool:
        """Whether an archive begins like those that hold images: then the bytes of the archive need not be kept."""
        with self._staging.scratch() as tree:
            place = str(tree.relative_to(self._store.path))
            names = self._staging.runner.on_directory(sandboxed.first_names, place, [fd], read_only=True)
        cleaned = [(name.removeprefix("./").rstrip("/") or ".", is_folder) for name, is_folder in names]
        return bool(cleaned) and all(
            (_FOLDERS_OF_IMAGES if is_folder else _OF_IMAGES).fullmatch(name) for name, is_folder in cleaned
        )

    def _images(self, fd: int) -> list[Image] | None:
        """Return the images of an archive that looks like images; None if it has none."""
        with contextlib.ExitStack() as stack:
            with self._reading(fd) as tracker:
                unpacked = self._staging.unpacked([fd], whiteouts=False, single_id=True, progress=tracker.part())
                staged = stack.enter_context(unpacked)
            folder = stack.enter_context(contextlib.closing(UntrustedDirectory(staged.tree)))
            source = self._source(folder, stack)
            if source is None:
                return None
            self._staging.notices.extend(staged.notes)
            return self._take(source)

    def _any_archive(self, fd: int) -> list[Image]:
        """Ingest an archive with any content. Its bytes are kept: those of a root file system become its layer's."""
        with contextlib.ExitStack() as stack:
            blob_path, blob_fd = stack.enter_context(self._store.incoming())
            with self._reading(fd) as tracker:
                unpacked = self._staging.unpacked([fd, blob_fd], whiteouts=False, progress=tracker.part())
                staged = stack.enter_context(unpacked)
            self._staging.notices.extend(staged.notes)
            with contextlib.closing(UntrustedDirectory(staged.tree)) as folder:
                source = self._source(folder, stack)
                if source is not None:
                    return self._take(source)
            return [self._add_root(staged, blob_path)]

    def _add_root(self, staged: StagedTree, blob_path: Path) -> Image:
        """Make an image of one layer, a root file system."""
        options = self._options
        created = options.created or timestamp()
        image = oci.Image(
            options.config,
            (oci.LayerRecord(staged.blob, staged.diff_id),),
            created,
            (oci.HistoryEntry(created, options.created_by),),
            platform=options.platform or platforms.host(),
        )
        # Named under the same lock: a prune in between could remove the layer.
        with self._store.lock():
            durability.mark(self._store, staged.blob.digest)
            self._store.blobs.adopt(blob_path, staged.blob.digest)
            staged.adopt(self._store)
            image = self._store.index.add_image(image, options.name or options.stem)
        self._staging.runner.later(lambda: durability.flush(self._store))
        return image

    def _reading(self, fd: int) -> Tracker:
        return self._staging.tracker(f"read {self._options.stem}", total=os.fstat(fd).st_size)

    def _source(self, folder: UntrustedDirectory, stack: contextlib.ExitStack) -> FileSource | None:
        """Return the images in an unpacked archive, also if they are in a folder of it; None if there are none."""
        for _ in range(_FOLDERS):
            found = self._source_in(folder, stack)
            if found is not None or not folder.descend():
                return found
        return None

    def _source_in(self, folder: UntrustedDirectory, stack: contextlib.ExitStack) -> FileSource | None:
        def decompress(fd: int) -> tuple[Path, Descriptor]:
            path, blob = stack.enter_context(self._store.incoming())
            with self._staging.unpacked([fd, blob], whiteouts=True) as staged:
                return path, staged.blob

        docker = DockerArchive(folder, decompress) if is_docker_archive(folder) else None
        if is_layout(folder):
            layout = OciLayout(folder, private=True)
            return layout if docker is None else LayoutWithManifest(layout, docker)
        if docker is None and is_old_docker_archive(folder):
            return OldDockerArchive(folder, decompress)
        return docker

    def _take(self, source: FileSource) -> list[Image]:
        """Ingest all images of a source. All are examined before the first is added."""
        options = self._options
        if options.only_root:
            raise UsageError("--change is for a root file system, but the file holds images", hint="leave --change out")
        choice = choosing.choose(source, source.candidates(options.stem), options.platform)
        candidates = choice.candidates
        if options.select:
            candidates = (choosing.selected(candidates, options.select, options.stem),)
        if options.name and len(candidates) > 1:
            names = ", ".join(name for one in candidates[:_LISTED] for name in one.names or (one.blob.digest[:19],))
            hint = "import them all with `%container load`"
            raise UsageError(f"the file holds {len(candidates)} images: {names}", hint=hint)
        named = [(one.blob, self._names(one, alone=len(candidates) == 1)) for one in candidates]
        for blob, image_names in named:
            examine(self._store, source, blob, image_names, options.platform)
        self._staging.notices.extend(choice.notices)
        images = []
        for blob, image_names in named:
            with self._staging.tracker(f"load {image_names[0]}") as tracker:
                images.append(Ingest(self._staging, source, tracker).run(blob, image_names, options.platform))
        return images

    def _names(self, candidate: Candidate, *, alone: bool) -> tuple[str, ...]:
        """Return the names that an image gets: the user's, its own, or the stem. Raises `ImageError` for reserved ones.

        A reserved name is accepted if the store has it for the same manifest: `save` wrote it. `alone` means that the
        file has no other image.
        """
        if self._options.name:
            return (self._options.name,)
        known, digest = self._store.index.images(), candidate.blob.digest
        check_claims(name for name in candidate.names if name not in known or known[name].digest != digest)
        stem = self._options.stem
        return candidate.names or (stem if alone else f"{stem}:{candidate.blob.digest[7:19]}",)
