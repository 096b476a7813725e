"""The images of one store: found by what users write, ingested and saved."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError, ImageNotFound, RegistryError, UsageError
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.images.builtin import busybox
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.whiteouts import is_opaque
from nbcontainer.images.staging import StagedTree, Staging
from nbcontainer.oci import descriptors, names, platforms, reference
from nbcontainer.oci import documents as oci
from nbcontainer.oci.timestamps import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.archives.loading import ImportOptions
    from nbcontainer.images.registry.connections import Patience
    from nbcontainer.images.runner import Runner
    from nbcontainer.images.verify import Problem
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.reference import ImageFile, Reference
    from nbcontainer.progress import Listener, Tracker
    from nbcontainer.store.layout import Store

ALWAYS, MISSING, NEVER = "always", "missing", "never"
PULL = (ALWAYS, MISSING, NEVER)
"""The values of `--pull`: ask the registry each time, only for images that the store does not have, or never."""


_NO_FILES = descriptors.digest_of(b"")
"""The diff_id of a layer of 0 bytes."""


@dataclass(frozen=True)
class Images:
    """The images of `store`. Thread-safe.

    `runner` runs functions on untrusted files, `listener` gets the progress of transfers, and `patience` is how long to
    wait for registries. Sentences for the user about images that were taken with a tolerance are added to `notices`.
    Registry client and archive readers are imported when they are first used: most cells need
    neither.
    """

    store: Store
    runner: Runner
    listener: Listener | None = None
    patience: Patience | None = None
    notices: list[str] = field(default_factory=list)

    def reporting_to(self, listener: Listener | None) -> Images:
        """Return the same images with another listener, and without notices."""
        return Images(self.store, self.runner, listener, self.patience)

    @property
    def _staging(self) -> Staging:
        return Staging(self.store, self.runner, self.listener, self.notices)

    # Finding

    def find(self, word: str, *, pull: str = MISSING, platform: str = "") -> Image:
        """Return the image that `word` names: a name, a digest, or the path (host) of an archive or layout directory.

        If the store does not have a name, the image is made here (`busybox`) or pulled, as `pull` (one of `PULL`)
        allows. All layers of the image are unpacked. Raises `ImageNotFound`, `ImageError`, `RegistryError`,
        `StoreError`, `UsageError`.
        """
        if pull not in PULL:
            raise UsageError(f"unknown value --pull {pull}", hint=f"choose one of {', '.join(PULL)}")
        wanted_platform = platforms.parse(platform) if platform else None
        if reference.is_path(word):
            return self._find_file(reference.image_file(word), wanted_platform)
        if pull == ALWAYS:
            return self._find_name(word, wanted_platform, pull)
        question = f"{platform} {word}"
        return self.store.index.recall(question, lambda: self._find_name(word, wanted_platform, pull))

    def _find_name(self, word: str, platform: Platform | None, pull: str) -> Image:
        if reference.is_digest(word):
            return self._unpacked(self.store.index.image(word))
        wanted = reference.parse(word)
        try:
            return self._named(wanted, platform, pull)
        except (ImageNotFound, RegistryError) as error:
            if Path(word).is_file() or Path(word, "oci-layout").exists():
                raise ImageNotFound(error.message, hint=f"for the file, write ./{word}") from None
            raise

    def _named(self, wanted: Reference, platform: Platform | None, pull: str) -> Image:
        if wanted.familiar == reference.HOST:
            return self._host(platform)
        if pull != ALWAYS:
            try:
                return self._unpacked(self._stored(wanted, platform))
            except ImageNotFound:
                if wanted.familiar == "busybox" and platform in (None, platforms.host()):
                    return self._busybox(pull)
                if pull == NEVER:
                    raise
        return self.pull(wanted, platform)

    def _stored(self, wanted: Reference, platform: Platform | None) -> Image:
        image = self.store.index.image(wanted.familiar)
        if platform is not None and platforms.rank(image.platform, platform) < 0:
            hint = "leave out --pull never to pull it"
            raise ImageNotFound(f"the store's {wanted} is for {image.platform}, not for {platform}", hint=hint)
        return image

    def _unpacked(self, image: Image) -> Image:
        """Return the image with all its layers unpacked: other tools can add images without that."""
        if all(self.store.layers.find(layer.diff_id) for layer in image.layers):
            return image
        from nbcontainer.images.ingest import restore

        return restore(self._staging, image)

    def _host(self, platform: Platform | None) -> Image:
        from nbcontainer.images.builtin.host import host

        if platform not in (None, platforms.host()):
            message = f"the image host has the platform {platforms.host()} only"
            raise ImageNotFound(message, hint="leave out --platform")
        return host(self._staging)

    def _busybox(self, pull: str) -> Image:
        """Return busybox, made from this machine's binary without a network if there is one, else pulled."""
        from nbcontainer.images.archives.loading import ImportOptions

        try:
            data, origin = busybox.busybox()
        except ImageNotFound as error:
            return self._pull_busybox(pull, error)
        tar = os.memfd_create("busybox.tar", os.MFD_CLOEXEC)
        try:
            with open(tar, "wb", closefd=False) as file:
                file.write(data)
            os.lseek(tar, 0, os.SEEK_SET)
            options = ImportOptions(
                "busybox",
                config=busybox.BUSYBOX_CONFIG,
                created_by=f"nbcontainer recipe busybox from {Path(origin).name}",
                created=timestamp(0),
            )
            return self.reporting_to(None).load(tar, options)[0]
        finally:
            os.close(tar)

    def _pull_busybox(self, pull: str, missing: ImageNotFound) -> Image:
        if pull == NEVER:
            raise missing
        try:
            return self.pull(reference.parse("busybox"))
        except RegistryError as error:
            raise ImageNotFound(f"{missing.message}; {error.message}", hint=missing.hint) from None

    def _find_file(self, file: ImageFile, platform: Platform | None) -> Image:
        """Return the image in a host file. It is ingested once: the file's identity and times are in its name."""
        from nbcontainer.images.archives.loading import ImportOptions, open_file, stem_of

        path = file.path
        source = open_file(self.store, path)
        try:
            facts = _facts(source)
            stamp = f"{facts.st_dev} {facts.st_ino} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {platform}"
            stamp += f" {file.select}" if file.select else ""
            name = f"{names.OF_FILES}{stem_of(path)}:{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
            known = self.store.index.images().get(name)
            if known is not None:
                return known
            by = f"nbcontainer {path.name}"
            options = ImportOptions(name, stem_of(path), platform, created_by=by, select=file.select)
            return self.load(source, options)[0]
        finally:
            os.close(source)

    # Transfers

    def pull(self, wanted: Reference, platform: Platform | None = None) -> Image:
        """See `nbcontainer.images.registry.pulling.pull`."""
        from nbcontainer.images.registry.pulling import pull

        return pull(self._staging, wanted, platform=platform, patience=self.patience)

    def push(self, image: Image, target: Reference, *, compression: Compression = Compression.GZIP) -> Descriptor:
        """See `nbcontainer.images.registry.pushing.push`."""
        from nbcontainer.images.registry.pushing import push

        return push(self._staging, image, target, compression=compression, patience=self.patience)

    def load(self, fd: int, options: ImportOptions) -> list[Image]:
        """See `nbcontainer.images.archives.loading.load`."""
        from nbcontainer.images.archives.loading import load

        return load(self._staging, fd, options)

    def save(self, images: Sequence[Image], target: Path, layers: Compression = Compression.NONE) -> int:
        """See `nbcontainer.images.archives.saving.save_archive`."""
        from nbcontainer.images.archives.saving import save_archive

        with self._saving(images) as tracker:
            return save_archive(self.store, images, target, tracker, layers)

    def save_layout(self, images: Sequence[Image], target: Path, layers: Compression = Compression.NONE) -> None:
        """See `nbcontainer.images.archives.saving.save_directory`."""
        from nbcontainer.images.archives.saving import save_directory

        with self._saving(images) as tracker:
            save_directory(self.store, images, target, tracker, layers)

    def _saving(self, images: Sequence[Image]) -> Tracker:
        return self._staging.tracker(f"save {' '.join(image.name for image in images)}")

    # What the store has of them

    def verify(self) -> list[Problem]:
        """See `nbcontainer.images.verify.verify`."""
        from nbcontainer.images.verify import verify

        with self._staging.tracker("verify") as tracker:
            return verify(self.store, tracker)

    def describe(self, image: Image) -> dict[str, Any]:
        """Return what `inspect` shows of an image: its documents, and the directories of its layers (host)."""
        manifest = json.loads(self.store.blobs.read(image.digest))
        return {
            "name": image.name,
            "digest": image.digest,
            "manifest": manifest,
            "config": json.loads(self.store.blobs.read(manifest["config"]["digest"])),
            "layers": [str(self.store.path / "layers" / layer / "diff") for layer in self.lowers(image)],
        }

    def lowers(self, image: Image) -> tuple[str, ...]:
        """Return the ids of an image's layers, from the bottom up, each once. Raises `ImageError`, `StoreError`.

        Those below a layer that hides all of them are left out. An image without layers (FROM scratch) has an empty
        one: overlayfs needs a layer below.
        """
        if not image.layers:
            return (self._empty_layer(),)
        found: dict[str, None] = {}
        for layer in image.layers:
            known = self.store.layers.find(layer.diff_id)
            if known is None:
                hint = "remove the image, then pull or load it again"
                raise ImageError(f"a layer of image {image.name} is missing from the store", hint=hint)
            # overlayfs refuses a layer on itself; the upper one of two has the effect of both.
            found.pop(known, None)
            if is_opaque(f"{self.store.path}/layers/{known}/diff"):
                found.clear()
            found[known] = None
        return tuple(found)

    def _empty_layer(self) -> str:
        """Return the id of the layer without files, which is made if the store has none."""
        if known := self.store.layers.find(_NO_FILES):
            return known
        nothing = descriptors.Descriptor(oci.LAYER, _NO_FILES, 0)
        with self._staging.scratch() as tree, self.store.lock():
            StagedTree(tree, nothing, _NO_FILES).adopt(self.store)
            found = self.store.layers.find(_NO_FILES)
        assert found is not None
        return found

    def collect(self, used: set[str], digests: set[str]) -> list[Path]:
        """Remove the blobs that no image uses, and return the layers (host) that nothing uses, to be discarded.

        `used` are the layers that containers use, `digests` the images that they were made from. Call with the store's
        exclusive lock held. Raises `ImageError` if an image is damaged: what it uses is not known.
        """
        index = self.store.index
        if damaged := index.damaged():
            raise ImageError(f"image {damaged[0]} is damaged", hint="run `%container verify`")
        images = [*index.images().values(), *(index.read_image(digest) for digest in digests)]
        blobs = {layer.blob.digest for image in images for layer in image.layers}
        for image in images:
            config, _ = oci.read_manifest(self.store.blobs.read(image.digest))
            blobs |= {image.digest, config.digest, *index.indexes(image.index, image.digest)}
        for digest in self.store.blobs.digests():
            if digest not in blobs:
                self.store.blobs.path(digest).unlink()
        needed = set(used)
        diff_ids = {layer.diff_id.rpartition(":")[2] for image in images for layer in image.layers}
        if not all(image.layers for image in images):
            diff_ids.add(_NO_FILES.rpartition(":")[2])
        for link in (self.store.path / "layers" / "sha256").iterdir():
            target = link.readlink().name
            if link.name in diff_ids:
                needed.add(target)
            elif target not in used:
                link.unlink()
        layers = (self.store.path / "layers").iterdir()
        return [path for path in layers if path.name != "sha256" and path.name not in needed]


def _facts(source: int) -> os.stat_result:
    """Return what identifies a version of a file, open at `source`; of a layout directory, that of its index.json."""
    facts = os.fstat(source)
    if stat.S_ISDIR(facts.st_mode):
        with contextlib.suppress(FileNotFoundError), contextlib.closing(UntrustedDirectory(source)) as folder:
            index = folder.open_file("index.json")
            facts = os.fstat(index)
            os.close(index)
    return facts
