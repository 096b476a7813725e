"""From a source into the store: layers are fetched and unpacked in parallel, checked, and added all at once.

The sandbox that unpacks a layer reads from a pipe what has come of it so far, so that both go on at the same time.
Until the end nothing of an image is in the store but whole or partial blobs in `partial`, and trees in `tmp`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import HostileArchive, ImageError
from nbcontainer.images.sources import StoreSource
from nbcontainer.images.staging import StagedTree, staged
from nbcontainer.linux.files import enlarge_pipe
from nbcontainer.oci import documents as oci
from nbcontainer.oci import names, selection
from nbcontainer.progress import Stopped, Tracker
from nbcontainer.store import durability
from nbcontainer.store.errors import store_error
from nbcontainer.store.partial_blobs import Partial, WrongBytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.images.runner import Runner
    from nbcontainer.images.sources import Source
    from nbcontainer.oci.documents import Descriptor, Image, LayerRecord
    from nbcontainer.oci.platforms import Platform
    from nbcontainer.oci.selection import ResolvedImage
    from nbcontainer.progress import Part
    from nbcontainer.store.layout import Store

_AT_ONCE = 4  # layers
_LOOK = 0.1  # seconds between two states for the listener
_ROUNDS = 3


@dataclass(frozen=True)
class _Ready:
    """A layer that came whole and is what it should be."""

    partial: Partial
    staged: StagedTree


def ingest(
    store: Store,
    runner: Runner,
    source: Source,
    blob: Descriptor,
    called: Sequence[str],
    tracker: Tracker,
    platform: Platform | None = None,
) -> Image:
    """The image that `blob` is in the source, or has for the platform, as an image of the store under these names.

    Layers that the store has are not fetched. An interrupted one leaves the store as it was; of a remote source, what
    came of the blobs is kept for the next try. Raises `ImageError`, `ImageNotFound`, `StoreError`.
    """
    chosen = examine(store, source, blob, called, platform)
    for _ in range(_ROUNDS):
        wanted = _missing(store, chosen.image)
        tracker.layers = len(wanted)
        tracker.total = sum(layer.blob.size for layer in wanted)
        with _layers(store, runner, source, wanted, tracker) as ready, store.lock():
            for layer in ready:
                layer.partial.adopt()
                layer.staged.adopt(store)
            # A prune in another process may have taken a layer away that nobody else had, since it was looked for.
            if not _missing(store, chosen.image, trusted={(r.partial.blob.digest, r.staged.diff_id) for r in ready}):
                image = _name(store, chosen, called)
                runner.later(lambda: durability.flush(store))
                return image
    raise ImageError("another process removes the layers of the image all the time", hint="try again")


def examine(
    store: Store, source: Source, blob: Descriptor, called: Sequence[str], platform: Platform | None = None
) -> ResolvedImage:
    """The image as the source describes it, once its names and sizes were compared with its digests and the store.

    Nothing enters the store. Raises `ImageError`, `ImageNotFound`.
    """
    chosen = selection.resolve(source, blob, platform)
    names.check(called, chosen.image.digest, chosen.index)
    _check_sizes(store, chosen.image)
    return chosen


def _name(store: Store, chosen: ResolvedImage, called: Sequence[str]) -> Image:
    image = chosen.image
    for name in called:
        image = store.put_image(chosen.blob, chosen.documents, name, index=chosen.index)
    return image


def _missing(store: Store, image: Image, trusted: set[tuple[str, str]] | None = None) -> list[LayerRecord]:
    """The layers that the store does not have, or whose blob it does not know to be that layer, each once."""
    known = {(layer.blob.digest, layer.diff_id) for other in store.images().values() for layer in other.layers}
    known |= trusted or set()
    return [
        layer
        for layer in {layer.blob.digest: layer for layer in image.layers}.values()
        if (layer.blob.digest, layer.diff_id) not in known
        or store.layer(layer.diff_id) is None
        or _size_here(store, layer.blob) != layer.blob.size
    ]


def _size_here(store: Store, blob: Descriptor) -> int | None:
    """The size of the store's blob; None if it has none."""
    try:
        return store.blob_path(blob.digest).stat().st_size
    except FileNotFoundError:
        return None


def _check_sizes(store: Store, image: Image) -> None:
    """Raises `ImageError` for a layer that cannot have the size that the image states.

    It is compared with the store's blob. If that is damaged, it proves nothing and is brought in again.
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
    with store.blob_path(blob.digest).open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == blob.digest


@contextlib.contextmanager
def _layers(
    store: Store, runner: Runner, source: Source, wanted: Sequence[LayerRecord], tracker: Tracker
) -> Iterator[list[_Ready]]:
    """Fetches and unpacks layers, a few at once; at the end, or on any error, what was not adopted is put away."""
    stacks = [contextlib.ExitStack() for _ in wanted]
    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="nbcontainer-layer") as pool:
            jobs = [
                pool.submit(_bring, store, runner, source, layer, tracker, stack)
                for layer, stack in zip(wanted, stacks, strict=True)
            ]
            try:
                follow(jobs, tracker)
            except BaseException:
                tracker.stop()
                source.abort()
                pool.shutdown(cancel_futures=True)
                raise
        yield [job.result() for job in jobs]
    except OSError as error:
        raise store_error("bring an image into the store", store.path, error) from error
    finally:
        for stack in stacks:
            stack.close()


def follow(jobs: Sequence[Future[Any]], tracker: Tracker) -> None:
    """Waits for all jobs, telling how far they are; raises what the first that failed did."""
    waiting = set(jobs)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
        tracker.show()
        for job in done:
            job.result()


class _OldBytes(WrongBytes):
    """A blob is wrong that began with what an earlier try left."""


def _bring(
    store: Store, runner: Runner, source: Source, layer: LayerRecord, tracker: Tracker, stack: contextlib.ExitStack
) -> _Ready:
    """One layer. A part of it that an earlier try left, and that was wrong, is thrown away and all is fetched."""
    part = tracker.part()
    try:
        ready = _attempt(store, runner, source, layer, tracker, part, stack)
    except _OldBytes:
        ready = _attempt(store, runner, source, layer, tracker, part, stack)
    part.finish()
    return ready


def _attempt(
    store: Store,
    runner: Runner,
    source: Source,
    layer: LayerRecord,
    tracker: Tracker,
    part: Part,
    stack: contextlib.ExitStack,
) -> _Ready:
    tracker.check()
    with contextlib.ExitStack() as attempt:
        partial = _open(store, source, layer, tracker)
        attempt.callback(partial.close, keep=source.remote)
        try:
            made = _fetch_and_unpack(store, runner, source, layer, partial, part, attempt)
        except WrongBytes as error:
            partial.close(keep=False)
            raise _OldBytes(error.message) if partial.resumed else error from None
        stack.push(attempt.pop_all())
    return _Ready(partial, made)


def _open(store: Store, source: Source, layer: LayerRecord, tracker: Tracker) -> Partial:
    candidate = source.candidate(layer.blob)
    try:
        return Partial(store, layer.blob, tracker, candidate)
    finally:
        if candidate is not None:
            os.close(candidate)


def _fetch_and_unpack(
    store: Store,
    runner: Runner,
    source: Source,
    layer: LayerRecord,
    partial: Partial,
    part: Part,
    stack: contextlib.ExitStack,
) -> StagedTree:
    """Fetches in a thread of its own, and unpacks here what comes. The fetch's error is the one to tell."""
    failed: list[BaseException] = []
    count_fetched, count_unpacked = (part, part.check) if source.remote else (part.check, part)
    fetch = threading.Thread(target=_fetch, args=(source, partial, count_fetched, failed), daemon=True)
    with _Pump(partial, count_unpacked) as pump:
        fetch.start()
        try:
            made = stack.enter_context(staged(store, runner, [pump.fd], whiteouts=True))
        except Exception as error:
            fetch.join()
            raise (failed[0] if failed else _explained(error, layer)) from None
        fetch.join()
    if failed:
        raise failed[0]
    if made.diff_id != layer.diff_id:
        raise ImageError(
            f"layer {layer.blob.digest} holds {made.diff_id}, and the image's configuration says {layer.diff_id}"
        )
    return made


def _explained(error: Exception, layer: LayerRecord) -> Exception:
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
            while offset < self._partial.blob.size and (there := self._partial.beyond(offset)) > offset:
                offset += os.splice(self._partial.fd, self._end, there - offset, offset_src=offset)
                self._progress(offset)
        except (BrokenPipeError, Stopped):
            pass  # nobody reads any more
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


def restore(store: Store, runner: Runner, image: Image) -> Image:
    """Unpacks the layers of an image of the store that are not. Raises `ImageError` where a blob is lost or wrong."""
    blob = oci.Descriptor(image.media_type, image.digest, len(store.read_blob(image.digest)))
    with Tracker(f"unpack {image.name}") as tracker:
        ingest(store, runner, StoreSource(store), blob, (), tracker)
    return image
