"""From a source into the store: layers are fetched and unpacked in parallel, checked, and added all at once.

The sandbox that unpacks a layer reads its bytes from a pipe while they are fetched, so that both run at the same
time. Until the end, the only traces of an image in the store are blobs in `partial` and trees in `tmp`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images.parallel import run_jobs
from nbcontainer.images.sources import StoreSource
from nbcontainer.linux.pipes import enlarge_pipe
from nbcontainer.oci import descriptors, names, selection
from nbcontainer.progress import Stopped
from nbcontainer.store import durability
from nbcontainer.store.errors import store_error
from nbcontainer.store.partial_blobs import Partial, WrongBytes, lock_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.images.sources import Source
    from nbcontainer.images.staging import StagedTree, Staging
    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.oci.documents import Image, LayerRecord
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.selection import ResolvedImage
    from nbcontainer.progress import Part, Tracker
    from nbcontainer.store.layout import Store

_AT_ONCE = 4  # layers
_ROUNDS = 3


@dataclass(frozen=True)
class _Fetched:
    """A layer that was fetched, unpacked and checked, but not yet adopted."""

    partial: Partial
    staged: StagedTree


class Ingest:
    """One transfer of an image from `source` into the store of `staging`. `tracker` counts its bytes and layers.

    Layers that the store has are not fetched. An interrupted transfer leaves the images of the store as they were; of a
    remote source, the bytes that were fetched are kept for the next attempt.
    """

    def __init__(self, staging: Staging, source: Source, tracker: Tracker) -> None:
        self._staging = staging
        self._store = staging.store
        self._source = source
        self._tracker = tracker

    def run(self, blob: Descriptor, image_names: Sequence[str], platform: Platform | None = None) -> Image:
        """Add the image of manifest or index `blob`, and return it under the last of `image_names` (familiar).

        Of an index it is the image for `platform`, by default this machine's. Raises `ImageError`, `ImageNotFound`,
        `StoreError`.
        """
        resolved = examine(self._store, self._source, blob, image_names, platform)
        for _ in range(_ROUNDS):
            missing = self.missing(resolved.image)
            self._tracker.layers = len(missing)
            self._tracker.total = sum(layer.blob.size for layer in missing)
            with self._layers(missing) as fetched, self._store.lock():
                for layer in fetched:
                    layer.partial.adopt()
                    layer.staged.adopt(self._store)
                trusted = {(layer.partial.blob.digest, layer.staged.diff_id) for layer in fetched}
                # A prune in another process can have removed an unused layer since the store was asked for it.
                if not self.missing(resolved.image, trusted):
                    image = self._add(resolved, image_names)
                    self._staging.runner.later(lambda: durability.flush(self._store))
                    return image
        raise ImageError("other processes keep removing the layers of the image", hint="try again")

    def _add(self, resolved: ResolvedImage, image_names: Sequence[str]) -> Image:
        image = resolved.image
        for name in image_names:
            image = self._store.index.put_image(resolved.blob, resolved.documents, name, index=resolved.index)
        return image

    def missing(self, image: Image, trusted: set[tuple[str, str]] | None = None) -> list[LayerRecord]:
        """Return the layers to fetch, each once: they are missing, or it is not known that their blob is that layer.

        `trusted` are the (blob digest, diff_id) of layers that were checked just now.
        """
        store = self._store
        images = store.index.images().values()
        known = {(layer.blob.digest, layer.diff_id) for other in images for layer in other.layers} | (trusted or set())
        return [
            layer
            for layer in {layer.blob.digest: layer for layer in image.layers}.values()
            if (layer.blob.digest, layer.diff_id) not in known
            or store.layers.find(layer.diff_id) is None
            or _size_here(store, layer.blob) != layer.blob.size
        ]

    @contextlib.contextmanager
    def _layers(self, layers: Sequence[LayerRecord]) -> Iterator[list[_Fetched]]:
        """Fetch and unpack layers, a few at once. Layers that were not adopted are removed at the end."""
        stacks = [contextlib.ExitStack() for _ in layers]
        with contextlib.ExitStack() as everything:  # also after an error or an interrupt of one of them
            for stack in stacks:
                everything.callback(stack.close)
            try:
                partials = self._locked(layers, stacks)
                jobs = [functools.partial(self._bring, *one) for one in zip(layers, partials, stacks, strict=True)]
                yield run_jobs(jobs, self._tracker, threads=_AT_ONCE, name="layer", abort=self._source.abort)
            except OSError as error:
                raise store_error("add an image to the store", self._store.path, error) from error

    def _locked(self, layers: Sequence[LayerRecord], stacks: Sequence[contextlib.ExitStack]) -> list[Partial]:
        """Lock the blob of each layer, until its stack is closed. Waits for transfers that have some of them."""
        partials: dict[str, Partial] = {}
        for layer, stack in sorted(zip(layers, stacks, strict=True), key=lambda pair: lock_order(pair[0].blob)):
            partial = self._open(layer)
            partials[layer.blob.digest] = partial
            stack.callback(partial.close, keep=self._source.remote)
        return [partials[layer.blob.digest] for layer in layers]

    def _open(self, layer: LayerRecord) -> Partial:
        candidate = self._source.candidate(layer.blob)
        try:
            return Partial(self._store, layer.blob, self._tracker, candidate)
        finally:
            if candidate is not None:
                os.close(candidate)

    # One layer, in a thread of its own

    def _bring(self, layer: LayerRecord, partial: Partial, stack: contextlib.ExitStack) -> _Fetched:
        """Fetch and unpack one layer. If bytes of an earlier attempt were wrong, they are dropped and fetched again."""
        part = self._tracker.part()
        partial.resume()
        try:
            try:
                tree = self._attempt(layer, partial, part, stack)
            except WrongBytes:
                if not partial.resumed:
                    raise
                partial.restart()
                tree = self._attempt(layer, partial, part, stack)
        except WrongBytes:
            partial.close(keep=False)
            raise
        part.finish()
        self._staging.notices.extend(f"layer {layer.blob.digest[:19]}…: {note}" for note in tree.notes)
        return _Fetched(partial, tree)

    def _attempt(self, layer: LayerRecord, partial: Partial, part: Part, stack: contextlib.ExitStack) -> StagedTree:
        self._tracker.check()
        with contextlib.ExitStack() as attempt:
            tree = self._fetch_and_unpack(layer, partial, part, attempt)
            stack.push(attempt.pop_all())
        return tree

    def _fetch_and_unpack(
        self, layer: LayerRecord, partial: Partial, part: Part, stack: contextlib.ExitStack
    ) -> StagedTree:
        """Fetch in another thread, and unpack here what comes. If both fail, the fetch's error is raised."""
        failed: list[BaseException] = []
        count_fetched, count_unpacked = (part, part.check) if self._source.remote else (part.check, part)
        fetch = threading.Thread(target=_fetch, args=(self._source, partial, count_fetched, failed), daemon=True)
        with _Pump(partial, count_unpacked) as pump:
            fetch.start()
            try:
                algorithm = descriptors.algorithm_of(layer.diff_id)
                tree = stack.enter_context(self._staging.unpacked([pump.fd], whiteouts=True, algorithm=algorithm))
            except Exception as error:
                fetch.join()
                raise (failed[0] if failed else _with_layer(error, layer)) from None
            fetch.join()
        if failed:
            raise failed[0]
        if tree.diff_id != layer.diff_id:
            expected = f"the image's configuration expects {layer.diff_id}"
            raise ImageError(f"layer {layer.blob.digest} has the content {tree.diff_id}, but {expected}")
        return tree


def examine(
    store: Store, source: Source, blob: Descriptor, image_names: Sequence[str], platform: Platform | None = None
) -> ResolvedImage:
    """Return the image of manifest or index `blob`, after a check of its documents, `image_names` and sizes.

    The names are compared with its digests, the sizes with the store. Nothing enters the store. Raises `ImageError`,
    `ImageNotFound`.
    """
    resolved = selection.resolve(source, blob, platform)
    names.check(image_names, resolved.image.digest, resolved.index)
    _check_sizes(store, resolved.image)
    return resolved


def _size_here(store: Store, blob: Descriptor) -> int | None:
    """Return the size of the store's blob in bytes; None if it has none."""
    try:
        return store.blobs.path(blob.digest).stat().st_size
    except FileNotFoundError:
        return None


def _check_sizes(store: Store, image: Image) -> None:
    """Raise `ImageError` if a layer cannot have the size that the image states.

    The size is compared with that of the store's blob. A damaged blob proves nothing, and is fetched again.
    """
    blobs = {layer.blob.digest: layer.blob for layer in image.layers}.values()
    for blob in blobs:
        size = _size_here(store, blob)
        if size not in (None, blob.size) and _is_whole(store, blob):
            raise ImageError(f"the image states {blob.size} bytes for {blob.digest}, which has {size}")
    disk = os.statvfs(store.path)
    total = sum(blob.size for blob in blobs)
    if total > disk.f_blocks * disk.f_frsize > 0:
        raise ImageError(f"the image states {total} bytes of layers, which is more than the store's file system holds")


def _is_whole(store: Store, blob: Descriptor) -> bool:
    with store.blobs.path(blob.digest).open("rb") as file:
        algorithm = descriptors.algorithm_of(blob.digest)
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}" == blob.digest


def _with_layer(error: Exception, layer: LayerRecord) -> Exception:
    """Return the error; that of a hostile archive names the layer."""
    if isinstance(error, HostileArchive):
        return HostileArchive(f"layer {layer.blob.digest[:19]}…: {error.message}", hint=error.hint)
    return error


def _fetch(source: Source, partial: Partial, progress: Callable[[int], None], failed: list[BaseException]) -> None:
    try:
        if not partial.complete:
            source.fetch(partial.blob, partial, progress)
        progress(partial.have)
        partial.finish()
    except BaseException as error:
        failed.append(error)
        partial.fail()


class _Pump:
    """Feeds a pipe from a blob as it grows: `fd` is the end to read. Its thread ends when the pipe is closed."""

    def __init__(self, partial: Partial, progress: Callable[[int], None]) -> None:
        self._partial = partial
        self._progress = progress
        self.fd, self._end = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(self._end)
        self._thread = threading.Thread(target=self._run, name="nbcontainer-pump", daemon=True)

    def _run(self) -> None:
        offset = 0
        try:
            while offset < self._partial.blob.size and (have := self._partial.beyond(offset)) > offset:
                offset += os.splice(self._partial.fd, self._end, have - offset, offset_src=offset)
                self._progress(offset)
        except (BrokenPipeError, Stopped):
            pass  # the reader has ended, or the work was given up
        finally:
            os.close(self._end)

    def __enter__(self) -> _Pump:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        if self._thread.is_alive():
            self._partial.fail()
        self._thread.join()


def restore(staging: Staging, image: Image) -> Image:
    """Unpack the layers of an image of the store that are not unpacked, and return it.

    Raises `ImageError` if a blob is missing or damaged, and `StoreError`.
    """
    store = staging.store
    blob = descriptors.Descriptor(image.media_type, image.digest, len(store.blobs.read(image.digest)))
    with staging.tracker(f"unpack {image.name}") as tracker:
        Ingest(staging, StoreSource(store), tracker).run(blob, ())
    return image
