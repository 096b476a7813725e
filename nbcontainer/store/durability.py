"""Deferred syncing of blobs: marks for those that may not be on disk yet, and a check of them after a crash.

Waiting for the disk takes a third of the time of an import. So a blob can be in its place before it is on disk. A mark
in `unsynced`, with the id of the current boot, is on disk first; it is removed after syncfs(2). A mark of another boot
means that the machine crashed in between: then the blob is read again, and removed if it is damaged. A missing blob can
be pulled or loaded again; a wrong one would be handed on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.files import syncfs

if TYPE_CHECKING:
    from nbcontainer.store.layout import Store

UNSYNCED = "unsynced"
_ALGORITHMS = {64: "sha256", 128: "sha512"}
"""By the hexadecimal digits of a digest: its hash function."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4)
_GONE = b"gone"


def mark(store: Store, digest: str, boot: Path = _BOOT) -> None:
    """Mark the blob with that digest as possibly not on disk; the mark itself is on disk. Raises `StoreError`."""
    store.write_file(f"{UNSYNCED}/{digest.partition(':')[2]}", boot.read_bytes())


def flush(store: Store, boot: Path = _BOOT) -> None:
    """Bring the store's file system to disk (syncfs(2)), then remove the marks of this boot. Raises `OSError`."""
    now = boot.read_bytes()
    marks = [path for path in (store.path / UNSYNCED).iterdir() if _boot_in(path) == now]
    fd = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
    for path in marks:
        path.unlink(missing_ok=True)


def recover(store: Store, boot: Path = _BOOT) -> list[str]:
    """Remove the blobs that a crash of the machine has damaged, and return their digests.

    Call with the store's exclusive lock held. Raises `OSError`.
    """
    now = boot.read_bytes()
    damaged = []
    for path in (store.path / UNSYNCED).iterdir():
        if _boot_in(path) in (now, _GONE):
            continue
        algorithm = _ALGORITHMS.get(len(path.name), "sha256")
        blob = store.blobs.path(f"{algorithm}:{path.name}")
        with contextlib.suppress(FileNotFoundError), blob.open("rb") as file:
            if hashlib.file_digest(file, algorithm).hexdigest() != path.name:
                blob.unlink()
                damaged.append(f"{algorithm}:{path.name}")
        path.unlink(missing_ok=True)
    return damaged


def _boot_in(mark: Path) -> bytes:
    """Return what a mark contains; `_GONE` if another process has just removed it, which takes no lock."""
    try:
        return mark.read_bytes()
    except FileNotFoundError:
        return _GONE
