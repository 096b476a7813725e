"""Bringing images into the store, finding them by what people write, and taking them away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, ImageNotFound, NbcontainerError
from nbcontainer.images import oci, recipes, reference, work
from nbcontainer.images.store import cannot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.images.oci import Image, ImageConfig
    from nbcontainer.images.runner import Runner
    from nbcontainer.images.store import Store

    Progress = Callable[[int], None]


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org) in seconds, or None. Raises `ImageError` for no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdigit():
        raise ImageError(f"SOURCE_DATE_EPOCH is {text!r}", hint="set it to seconds since 1970, or unset it")
    return int(text)


def timestamp(seconds: float | None = None) -> str:
    """RFC 3339, in UTC: of now, or of SOURCE_DATE_EPOCH where it is set, or of `seconds`."""
    if seconds is None:
        epoch = source_date_epoch()
        seconds = time.time() if epoch is None else epoch
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@dataclass(frozen=True)
class _Unpacked:
    """An archive's layer and blob in the store's `tmp`."""

    place: Path
    blob_path: Path
    blob: oci.Descriptor
    diff_id: str

    def adopt(self, store: Store) -> None:
        """Moves both to where they belong. Call with the store's exclusive lock held, and name them before it goes."""
        store.adopt_blob(self.blob_path, self.blob.digest)
        if store.layer(self.diff_id) is None:
            layer = store.unique()
            self.place.rename(store.path / "layers" / layer)
            store.name_layer(layer, self.diff_id)


@contextlib.contextmanager
def _unpacked(store: Store, runner: Runner, source: int, progress: Progress | None) -> Iterator[_Unpacked]:
    """Unpacks the archive that descriptor `source` reads, to its end. What nobody adopts is gone afterwards."""
    place = store.new_directory(store.path / "tmp" / store.unique(), give=False)
    try:
        store.new_directory(place / "diff")
        with store.incoming() as (blob_path, blob):
            where = str((place / "diff").relative_to(store.path))
            done = runner.on_directory(
                work.unpack_here,
                where,
                [source, blob],
                progress=progress,
                single_id=runner.single_id,
                whiteouts=False,
            )
            descriptor = oci.Descriptor(done["media_type"], done["blob_digest"], done["blob_size"])
            yield _Unpacked(place, blob_path, descriptor, done["diff_id"])
    except OSError as error:
        raise cannot("import an image into the store", store.path, error) from error
    finally:
        if place.exists():
            discard(store, runner, [place])


def import_archive(
    store: Store,
    runner: Runner,
    source: int,
    name: str,
    *,
    config: ImageConfig | None = None,
    created_by: str = "nbcontainer import",
    created: str | None = None,
    progress: Progress | None = None,
) -> Image:
    """Makes image `name` of the root file system tar that descriptor `source` reads. Raises `ImageError`.

    Nothing of a failed or interrupted one stays. `source` is read to its end, and is the caller's.
    """
    when = created or timestamp()
    default = oci.ImageConfig(env=recipes.BUSYBOX_CONFIG.env, cmd=("/bin/sh",))
    with _unpacked(store, runner, source, progress) as unpacked:
        layer = oci.LayerRecord(unpacked.blob, unpacked.diff_id)
        step = oci.Step(when, created_by)
        with store.lock():
            unpacked.adopt(store)
            return store.add_image(oci.Image(config or default, (layer,), when, (step,)), name)


def describe(store: Store, image: Image) -> dict[str, Any]:
    """What `inspect` shows of an image: its documents, and where its layers are on this host."""
    manifest = json.loads(store.read_blob(image.digest))
    return {
        "name": image.name,
        "digest": image.digest,
        "manifest": manifest,
        "config": json.loads(store.read_blob(manifest["config"]["digest"])),
        "layers": [str(store.path / "layers" / layer / "diff") for layer in lowers(store, image)],
    }


def find(store: Store, runner: Runner, word: str, *, progress: Progress | None = None) -> Image:
    """The image that a person means by `word`: a name in the store, a digest, `busybox`, or the path of a tar.

    Raises `ImageNotFound` or `ImageError`.
    """
    if reference.is_path(word):
        return _find_archive(store, runner, reference.host_path(word), progress)
    wanted = reference.parse(word)
    try:
        return store.image(wanted.familiar)
    except ImageNotFound:
        if wanted.familiar != "busybox":
            if Path(word).is_file():
                raise ImageNotFound(f"no image {word!r} in the store", hint=f"for the file, write ./{word}") from None
            raise
    tar, origin = recipes.busybox()
    source = os.memfd_create("busybox.tar", os.MFD_CLOEXEC)
    try:
        with open(source, "wb", closefd=False) as file:
            file.write(tar)
        os.lseek(source, 0, os.SEEK_SET)
        return import_archive(
            store,
            runner,
            source,
            "busybox",
            config=recipes.BUSYBOX_CONFIG,
            created_by=f"nbcontainer recipe busybox from {Path(origin).name}",
            created=timestamp(0),
        )
    finally:
        os.close(source)


def _find_archive(store: Store, runner: Runner, path: Path, progress: Progress | None) -> Image:
    """The image of a tar on the host, unpacked once: it is known again by its file's identity and times."""
    source = open_archive(path)
    try:
        facts = os.fstat(source)
        stamp = f"{facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
        short = hashlib.sha256(stamp.encode()).hexdigest()[:12]
        stem = re.sub(r"[^a-z0-9]+", "-", path.name.lower().partition(".tar")[0]).strip("-") or "archive"
        name = f"file/{stem}:{short}"
        known = store.images().get(name)
        if known is not None:
            return known
        return import_archive(store, runner, source, name, created_by=f"nbcontainer {path.name}", progress=progress)
    finally:
        os.close(source)


def open_archive(path: Path) -> int:
    """A descriptor to read a host file by, for the caller to close. Raises `ImageNotFound` or `ImageError`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ImageNotFound(f"no file {path}", hint="check the path") from None
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise ImageError(f"{path} is a directory", hint="give a tar of it")
    return fd


def lowers(store: Store, image: Image) -> tuple[str, ...]:
    """The ids of an image's layers, from the bottom up. Raises `ImageError`."""
    found = []
    for layer in image.layers:
        known = store.layer(layer.diff_id)
        if known is None:
            raise ImageError(
                f"the store has lost a layer of {image.name}", hint="remove the image and bring it in again"
            )
        found.append(known)
    return tuple(found)


def discard(store: Store, runner: Runner, paths: list[Path]) -> None:
    """Removes trees of the store: they are gone by name at once, and as files when this returns.

    What is in them may belong to ids that only exist in a container, so that the files go inside a sandbox. What
    cannot be removed now (no launcher any more, say) stays in `tmp` for a later sweep.
    """
    trash = store.path / "tmp" / store.unique()
    store.new_directory(trash)
    for path in paths:
        if _discard_memory(store, runner, path):
            with contextlib.suppress(FileNotFoundError):
                path.rename(trash / path.name)
    _discard_tree(runner, trash)


def _discard_memory(store: Store, runner: Runner, path: Path) -> bool:
    """Removes what a layer has in the store's `memory`, which `path` only links to; False where it cannot be, now."""
    done = True
    for link in (path / "work", path / "diff"):
        if link.is_symlink() and (folder := link.readlink()).exists() and folder.parents[1] == store.memory:
            done = _discard_tree(runner, folder) and done
            with contextlib.suppress(OSError):  # a layer that was kept has left its work directory behind
                folder.parent.rmdir()
    return done


def _discard_tree(runner: Runner, tree: Path) -> bool:
    """Removes a tree; False where it cannot be, now."""
    try:
        shutil.rmtree(tree)
    except (OSError, RecursionError):
        try:
            runner.on_directory(work.remove_here, str(tree))
            tree.rmdir()
        except (OSError, NbcontainerError):
            return False
    return True


def collect(store: Store, used: set[str], digests: set[str]) -> list[Path]:
    """Under the exclusive lock: unlinks the blobs that no image has, and returns the layers that nobody has.

    `used` are the layers that containers have, `digests` the images they were made from. The caller discards what is
    returned.
    """
    images = [*store.images().values(), *(store.read_image(digest) for digest in digests)]
    blobs = {layer.blob.digest for image in images for layer in image.layers}
    for image in images:
        config, _ = oci.read_manifest(store.read_blob(image.digest))
        blobs |= {image.digest, image.index, config.digest}
    for path in (store.path / "blobs" / "sha256").iterdir():
        if f"sha256:{path.name}" not in blobs:
            path.unlink()
    wanted = set(used)
    diff_ids = {layer.diff_id for image in images for layer in image.layers}
    for link in (store.path / "layers" / "sha256").iterdir():
        target = link.readlink().name
        if f"sha256:{link.name}" in diff_ids:
            wanted.add(target)
        elif target not in used:
            link.unlink()
    return [path for path in (store.path / "layers").iterdir() if path.name != "sha256" and path.name not in wanted]
