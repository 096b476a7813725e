"""Files that hold images: root file systems, docker and OCI archives, layouts, told apart by what is in them.

An archive is unpacked in a sandbox, into the store's `tmp`. If what comes out is a docker archive or an image layout,
its images are brought in from there; else the tree itself becomes the only layer of an image.
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
from nbcontainer.images.archives.docker_archive import DockerArchive, is_docker_archive
from nbcontainer.images.archives.oci_layout import OciLayout, is_layout
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.images.builtin import busybox
from nbcontainer.images.ingest import examine, ingest
from nbcontainer.images.staging import scratch, staged
from nbcontainer.oci import documents as oci
from nbcontainer.oci import platforms, reference
from nbcontainer.oci.names import check_claims
from nbcontainer.oci.timestamps import timestamp
from nbcontainer.progress import Tracker
from nbcontainer.store import durability, user_files, writable
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.images.sources import Candidate
    from nbcontainer.oci.documents import Descriptor, Image, ImageConfig
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.progress import Listener
    from nbcontainer.store.layout import Store

_HEX = r"[0-9a-f]{64}"
_OF_IMAGES = re.compile(
    rf"(blobs/sha256/{_HEX}|{_HEX}(\.json|\.tar(\.gz)?|/.*)?|sha256:{_HEX}|oci-layout|(index|manifest)\.json|repositories)"
)
_FOLDERS_OF_IMAGES = re.compile(rf"(\.|blobs|blobs/sha256|{_HEX})")
_LISTED = 10  # images in a message


@dataclass(frozen=True)
class ImportOptions:
    """What is to become of a file's images.

    `name` (familiar) is for its only image, empty for the names that it has itself. `stem` names what has none, and
    what has only a tag. `config` and `created_by` are for a root file system, which has neither; with
    `only_root` it must be one.
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


def stem_of(path: Path) -> str:
    """The name for an image that is in the file `path` and says no name itself."""
    stem = re.sub(r"[^a-z0-9]+", "-", path.name.lower().partition(".tar")[0]).strip("-")
    if stem == reference.HOST or reference.reads_like_a_digest(stem):
        return f"imported-{stem}"
    return stem or "imported"


def open_file(store: Store, path: Path) -> int:
    """A descriptor to read a host file or directory by, for the caller to close.

    Raises `ImageNotFound`, `ImageError`, and `LinkRefused` for a path through a link that a container could have made.
    """
    try:
        fd, links = user_files.open_file(path)
    except FileNotFoundError:
        raise ImageNotFound(f"no file {path}", hint="check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    try:
        writable.check(store, links)
    except BaseException:
        os.close(fd)
        raise
    return fd


def load(store: Store, runner: Runner, fd: int, wish: ImportOptions, listener: Listener | None = None) -> list[Image]:
    """Brings in all images of a file, a pipe or a layout directory, open at `fd`, which stays the caller's.

    A file is read from its offset, a pipe to its end. The documents and names of all images are checked before the
    first is added; if a layer is wrong, the images before it in the file were added.
    Raises `ImageError`, `ImageNotFound`, `StoreError`, `UsageError`.
    """
    kind = stat.S_IFMT(os.fstat(fd).st_mode)
    try:
        if kind == stat.S_IFDIR:
            with contextlib.closing(UntrustedDirectory(fd)) as folder:
                if not is_layout(folder):
                    raise ImageError("the directory is no OCI image layout", hint="for a root file system, give a tar")
                return _take(store, runner, OciLayout(folder, private=False), wish, listener)
        if kind == stat.S_IFREG and _seems_of_images(store, runner, fd):
            start = os.lseek(fd, 0, os.SEEK_CUR)
            images = _load_images(store, runner, fd, wish, listener)
            if images is not None:
                return images
            os.lseek(fd, start, os.SEEK_SET)  # it only began like one
        return _load_any(store, runner, fd, wish, listener)
    except OSError as error:
        raise store_error("bring an image into the store", store.path, error) from error


def _seems_of_images(store: Store, runner: Runner, fd: int) -> bool:
    """Whether an archive begins as those do that hold images: then its own bytes need not be kept."""
    with scratch(store, runner) as tree:
        names = runner.on_directory(sandboxed.first_names_here, str(tree.relative_to(store.path)), [fd], read_only=True)
    cleaned = [(name.removeprefix("./").rstrip("/") or ".", is_folder) for name, is_folder in names]
    return bool(cleaned) and all(
        (_FOLDERS_OF_IMAGES if is_folder else _OF_IMAGES).fullmatch(name) for name, is_folder in cleaned
    )


def _load_images(
    store: Store, runner: Runner, fd: int, wish: ImportOptions, listener: Listener | None
) -> list[Image] | None:
    """The images of an archive of images; None where it is none after all."""
    with contextlib.ExitStack() as stack:
        with _reading(fd, wish, listener) as tracker:
            made = staged(store, runner, [fd], whiteouts=False, single_id=True, progress=tracker.part())
            tree = stack.enter_context(made).tree
        folder = stack.enter_context(contextlib.closing(UntrustedDirectory(tree)))
        source = _source(store, runner, folder, stack)
        return None if source is None else _take(store, runner, source, wish, listener)


def _load_any(store: Store, runner: Runner, fd: int, wish: ImportOptions, listener: Listener | None) -> list[Image]:
    """An archive that may be anything: its bytes are kept, as the layer's that a root file system is."""
    with contextlib.ExitStack() as stack:
        blob_path, blob_fd = stack.enter_context(store.incoming())
        with _reading(fd, wish, listener) as tracker:
            made = stack.enter_context(staged(store, runner, [fd, blob_fd], whiteouts=False, progress=tracker.part()))
        with contextlib.closing(UntrustedDirectory(made.tree)) as folder:
            source = _source(store, runner, folder, stack)
            if source is not None:
                return _take(store, runner, source, wish, listener)
        created = wish.created or timestamp()
        image = oci.Image(
            wish.config,
            (oci.LayerRecord(made.blob, made.diff_id),),
            created,
            (oci.HistoryEntry(created, wish.created_by),),
            platform=wish.platform or platforms.host(),
        )
        # Named under the same lock, or a prune in between could take the layer away.
        with store.lock():
            durability.mark(store, made.blob.digest)
            store.adopt_blob(blob_path, made.blob.digest)
            made.adopt(store)
            image = store.add_image(image, wish.name or wish.stem)
        runner.later(lambda: durability.flush(store))
        return [image]


def _reading(fd: int, wish: ImportOptions, listener: Listener | None) -> Tracker:
    return Tracker(f"read {wish.stem}", listener, total=os.fstat(fd).st_size)


def _source(
    store: Store, runner: Runner, folder: UntrustedDirectory, stack: contextlib.ExitStack
) -> OciLayout | DockerArchive | None:
    if is_layout(folder):
        return OciLayout(folder, private=True)

    def decompress(fd: int) -> tuple[Path, Descriptor]:
        path, blob = stack.enter_context(store.incoming())
        with staged(store, runner, [fd, blob], whiteouts=True) as made:
            return path, made.blob

    return DockerArchive(folder, decompress) if is_docker_archive(folder) else None


def _names(offer: Candidate, wish: ImportOptions, *, alone: bool) -> tuple[str, ...]:
    """The names that an image gets: the user's, its own, or the file's. Raises `ImageError` for reserved ones."""
    if wish.name:
        return (wish.name,)
    check_claims(offer.names)
    return offer.names or (wish.stem if alone else f"{wish.stem}:{offer.blob.digest[7:19]}",)


def _take(
    store: Store, runner: Runner, source: OciLayout | DockerArchive, wish: ImportOptions, listener: Listener | None
) -> list[Image]:
    if wish.only_root:
        raise UsageError("--change is for a root file system, and this holds images", hint="leave --change out")
    offers = source.offers(wish.stem)
    if not offers:
        raise ImageError("there is no image in it")
    if wish.name and len(offers) > 1:
        names = ", ".join(name for offer in offers[:_LISTED] for name in offer.names or (offer.blob.digest[:19],))
        raise UsageError(f"it holds {len(offers)} images: {names}", hint="`%container load` brings them all in")
    named = [(offer.blob, _names(offer, wish, alone=len(offers) == 1)) for offer in offers]
    for blob, called in named:
        examine(store, source, blob, called, wish.platform)
    images = []
    for blob, called in named:
        with Tracker(f"load {called[0]}", listener) as tracker:
            images.append(ingest(store, runner, source, blob, called, tracker, wish.platform))
    return images
