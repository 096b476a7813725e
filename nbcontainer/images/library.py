"""Finding images by what people write, and what becomes of those that nobody has."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, ImageNotFound, RegistryError, UsageError
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.images.builtin import busybox
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names, platforms, reference
from nbcontainer.oci.timestamps import timestamp

if TYPE_CHECKING:
    from nbcontainer.images.runner import Runner
    from nbcontainer.oci.documents import Image
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.reference import Reference
    from nbcontainer.progress import Listener
    from nbcontainer.store.layout import Store

ALWAYS, MISSING, NEVER = "always", "missing", "never"
PULL = (ALWAYS, MISSING, NEVER)
"""What `--pull` can be: ask the registry each time, only for what the store does not have, or never."""


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


def find(
    store: Store,
    runner: Runner,
    word: str,
    *,
    pull: str = MISSING,
    platform: str = "",
    progress: Listener | None = None,
) -> Image:
    """The image that a person means by `word`: a name, a digest, or the path of an archive or of a layout directory.

    A name that the store does not have is made here (`busybox`) or pulled from its registry, as `pull` allows.
    Raises `ImageNotFound`, `ImageError`, `UsageError`.
    """
    if pull not in PULL:
        raise UsageError(f"--pull {pull} is not known", hint=f"choose one of {', '.join(PULL)}")
    wanted_platform = platforms.parse(platform) if platform else None
    if reference.is_path(word):
        return _find_file(store, runner, reference.host_path(word), wanted_platform, progress)
    if pull == ALWAYS:
        return _find_name(store, runner, word, wanted_platform, pull, progress)
    return store.recall(f"{platform} {word}", lambda: _find_name(store, runner, word, wanted_platform, pull, progress))


def _find_name(
    store: Store, runner: Runner, word: str, platform: Platform | None, pull: str, progress: Listener | None
) -> Image:
    if reference.is_digest(word):
        return _whole(store, runner, store.image(word))
    wanted = reference.parse(word)
    try:
        return _named(store, runner, wanted, platform, pull, progress)
    except (ImageNotFound, RegistryError) as error:
        if Path(word).is_file() or Path(word, "oci-layout").exists():
            raise ImageNotFound(error.message, hint=f"for the file, write ./{word}") from None
        raise


def _named(
    store: Store,
    runner: Runner,
    wanted: Reference,
    platform: Platform | None,
    pull: str,
    progress: Listener | None,
) -> Image:
    if wanted.familiar == reference.HOST:
        from nbcontainer.images.builtin.host import host  # nothing else needs any of it

        if platform not in (None, platforms.host()):
            raise ImageNotFound(f"host is this machine, which is {platforms.host()}", hint="leave --platform out")
        return host(store, runner)
    if pull != ALWAYS:
        try:
            return _whole(store, runner, _known(store, wanted, platform))
        except ImageNotFound:
            if wanted.familiar == "busybox" and platform in (None, platforms.host()):
                return _busybox(store, runner, pull, progress)
            if pull == NEVER:
                raise
    return _pull(store, runner, wanted, platform, progress)


def _whole(store: Store, runner: Runner, image: Image) -> Image:
    """The image, with all its layers unpacked: others may put images into the layout that the store is."""
    if all(store.layer(layer.diff_id) for layer in image.layers):
        return image
    from nbcontainer.images.ingest import restore

    return restore(store, runner, image)


def _pull(
    store: Store, runner: Runner, wanted: Reference, platform: Platform | None, progress: Listener | None
) -> Image:
    from nbcontainer.images.registry.pulling import pull

    return pull(store, runner, wanted, platform=platform, listener=progress)


def _known(store: Store, wanted: Reference, platform: Platform | None) -> Image:
    image = store.image(wanted.familiar)
    if platform is not None and platforms.rank(image.platform, platform) < 0:
        hint = "leave out --pull never to pull it"
        raise ImageNotFound(f"the store's {wanted} is for {image.platform}, not for {platform}", hint=hint)
    return image


def _busybox(store: Store, runner: Runner, pull: str, progress: Listener | None) -> Image:
    """busybox without a network, where there is one on this machine, else from the registry."""
    from nbcontainer.images.archives.loading import ImportOptions, load

    try:
        tar, origin = busybox.busybox()
    except ImageNotFound as error:
        if pull == NEVER:
            raise
        try:
            return _pull(store, runner, reference.parse("busybox"), None, progress)
        except RegistryError as other:
            raise ImageNotFound(f"{error.message}; {other.message}", hint=error.hint) from None
    source = os.memfd_create("busybox.tar", os.MFD_CLOEXEC)
    try:
        with open(source, "wb", closefd=False) as file:
            file.write(tar)
        os.lseek(source, 0, os.SEEK_SET)
        wish = ImportOptions(
            "busybox",
            config=busybox.BUSYBOX_CONFIG,
            created_by=f"nbcontainer recipe busybox from {Path(origin).name}",
            created=timestamp(0),
        )
        return load(store, runner, source, wish)[0]
    finally:
        os.close(source)


def _find_file(store: Store, runner: Runner, path: Path, platform: Platform | None, progress: Listener | None) -> Image:
    """The image in a file on the host, brought in once: it is known again by its file's identity and times."""
    from nbcontainer.images.archives.loading import ImportOptions, load, open_file, stem_of

    source = open_file(store, path)
    try:
        facts = _facts(source)
        stamp = f"{facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {platform}"
        name = f"{names.OF_FILES}{stem_of(path)}:{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
        known = store.images().get(name)
        if known is not None:
            return known
        wish = ImportOptions(name, stem_of(path), platform, created_by=f"nbcontainer {path.name}")
        return load(store, runner, source, wish, progress)[0]
    finally:
        os.close(source)


def _facts(source: int) -> os.stat_result:
    """What tells one version of a file from another; of a layout directory, its index's."""
    facts = os.fstat(source)
    if stat.S_ISDIR(facts.st_mode):
        with contextlib.suppress(FileNotFoundError), contextlib.closing(UntrustedDirectory(source)) as folder:
            index = folder.open("index.json")
            facts = os.fstat(index)
            os.close(index)
    return facts


def lowers(store: Store, image: Image) -> tuple[str, ...]:
    """The ids of an image's layers, from the bottom up, each once. Raises `ImageError`."""
    found: dict[str, None] = {}
    for layer in image.layers:
        known = store.layer(layer.diff_id)
        if known is None:
            raise ImageError(
                f"the store has lost a layer of {image.name}", hint="remove the image and bring it in again"
            )
        # A layer on itself is refused by overlayfs, and what it does below it does once more above.
        found.pop(known, None)
        found[known] = None
    return tuple(found)


def collect(store: Store, used: set[str], digests: set[str]) -> list[Path]:
    """Under the exclusive lock: unlinks the blobs that no image has, and returns the layers that nobody has.

    `used` are the layers that containers have, `digests` the images they were made from. The caller discards what is
    returned. Raises `ImageError` where an image is damaged: what belongs to it is not known.
    """
    if damaged := store.damaged():
        raise ImageError(f"image {damaged[0]} is damaged", hint="see `%container verify`")
    images = [*store.images().values(), *(store.read_image(digest) for digest in digests)]
    blobs = {layer.blob.digest for image in images for layer in image.layers}
    for image in images:
        config, _ = oci.read_manifest(store.read_blob(image.digest))
        blobs |= {image.digest, config.digest, *store.indexes(image.index, image.digest)}
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
