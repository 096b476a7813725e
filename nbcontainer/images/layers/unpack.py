"""Unpacking a layer or root file system: extract it, store its blob and hash it, in one pass over the stream.

Everything happens below one directory descriptor: the functions work the same in a test's temporary directory as in a
sandbox whose root is that directory. This module imports everything at once: after pivot_root nothing can be imported.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.layers.decoder import Decoder, StreamDigests
from nbcontainer.images.layers.extractor import Extractor
from nbcontainer.images.layers.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Limits", "UnpackedStream", "media_type", "unpack"]

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_PROGRESS_EVERY = 1 << 20


@dataclass(frozen=True)
class UnpackedStream:
    """The result of `unpack`. All fields have JSON types.

    `diff_id` is the digest of the uncompressed tar, `blob_digest` and `blob_size` (bytes) are of the stored blob,
    `size` is the bytes of file contents, `skipped` are the device nodes that could not be made here, and `notes` are
    sentences about the archive for the user.
    """

    diff_id: str
    blob_digest: str
    blob_size: int
    media_type: str
    size: int
    entries: int
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()


def media_type(compression: Compression) -> str:
    """Return the OCI media type of a layer (image-spec media-types.md). Raises `ValueError` if there is none."""
    match compression:
        case Compression.NONE:
            return _LAYER
        case Compression.GZIP | Compression.ZSTD:
            return f"{_LAYER}+{compression}"
        case _:
            raise ValueError(f"OCI has no media type for {compression} layers")


def unpack(
    root_fd: int,
    source_fd: int,
    blob_fd: int | None,
    *,
    limits: Limits,
    single_id: bool,
    progress: Callable[[int], None] | None = None,
    whiteouts: bool = True,
    algorithm: str = "sha256",
    keep_root: bool = False,
) -> UnpackedStream:
    """Extract the tar on `source_fd` below `root_fd`, and write its blob to `blob_fd` without syncing it.

    The source is plain or compressed (gzip, zstd, xz, bzip2) and may be a pipe. The blob has the source's own bytes,
    or for xz and bzip2, which OCI does not have, the uncompressed tar. `progress` gets the source bytes read so far,
    about once a MiB. With `whiteouts`, `.wh.` entries become overlay whiteouts (user xattrs); without, as for a root
    filesystem, they are refused. With `single_id` owners are left out. `algorithm` is that of the diff_id, sha256 or
    sha512. With `keep_root` the metadata of `root_fd` stays. The caller closes all descriptors.

    Owners that are not mapped here become this process's. Parents that the archive does not name are made 0755 with
    time 0. After an error, extracted
    files are left, but no process and no descriptor. The caller must be single-threaded: a child is forked.

    Raises `HostileArchive` for an archive that breaks the rules, passes a limit, is damaged or cut off; `ImageError`
    for an owner that must not be set; `OSError` (ENOSPC, EDQUOT, …) as the kernel gave it.
    """
    decoder = Decoder(source_fd, blob_fd, limits, algorithm, end_needed=not whiteouts)
    umask = os.umask(0)
    extractor: Extractor | None = None
    try:
        extractor = Extractor(
            root_fd, decoder.entries.copy, limits, single_id=single_id, whiteouts=whiteouts, keep_root=keep_root
        )
        _extract(decoder, extractor, progress)
        extractor.finish()
        digests = decoder.report()
        return _unpacked(digests, extractor, _notes(digests, extractor, mark_needed=not whiteouts))
    finally:
        if extractor is not None:
            extractor.close()
        os.umask(umask)
        decoder.close()


def _extract(decoder: Decoder, extractor: Extractor, progress: Callable[[int], None] | None) -> None:
    reported = 0
    while (member := decoder.entries.next()) is not None:
        extractor.add(member)
        if progress is not None and (read := decoder.source_bytes) - reported >= _PROGRESS_EVERY:
            progress(read)
            reported = read
    if progress is not None:
        progress(decoder.source_bytes)


def _notes(digests: StreamDigests, extractor: Extractor, *, mark_needed: bool) -> tuple[str, ...]:
    """Return what the user should see; the digest of a layer ensures its length, so it needs no mark at its end."""
    notes = []
    if digests.unmarked and mark_needed:
        notes.append(f"the archive ends without its end mark, after {extractor.entries} entries: it may be cut off")
    if extractor.squashed:
        notes.append(extractor.squashed)
    return tuple(notes)


def _unpacked(digests: StreamDigests, extractor: Extractor, notes: tuple[str, ...]) -> UnpackedStream:
    return UnpackedStream(
        digests.diff_id,
        digests.blob_digest,
        digests.blob_size,
        media_type(Compression(digests.compression)),
        extractor.size,
        extractor.entries,
        extractor.skipped,
        notes,
    )
