"""What the store has and the disk perhaps not yet: marked, written back soon, and looked at again after a crash.

To wait for the disk takes a third of an import. So a blob may be in its place before it is on disk: a mark in
`unsynced` is there first, with the boot that made it, and goes when syncfs(2) has been there. A mark of another boot
means that the machine went down in between: then its blob is read again, and what is damaged is removed, since a blob
that is missing can be brought in again and one that is wrong would be handed on.
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

_BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4)


def mark(store: Store, digest: str, boot: Path = _BOOT) -> None:
    """Says that the blob of that digest may be there and not on disk; this itself is. Raises `StoreError`."""
    store.write_file(f"{UNSYNCED}/{digest.partition(':')[2]}", boot.read_bytes())


def flush(store: Store, boot: Path = _BOOT) -> None:
    """Brings all that is in the store to disk, and takes away the marks of this boot. Raises `OSError`."""
    now = boot.read_bytes()
    marks = [path for path in (store.path / UNSYNCED).iterdir() if path.read_bytes() == now]
    fd = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)
    for path in marks:
        path.unlink(missing_ok=True)


def recover(store: Store, boot: Path = _BOOT) -> list[str]:
    """Removes the blobs that a crash of the machine has damaged; their digests.

    Call with the store's exclusive lock held. Raises `OSError`.
    """
    now = boot.read_bytes()
    damaged = []
    for path in (store.path / UNSYNCED).iterdir():
        if path.read_bytes() == now:
            continue
        blob = store.blob_path(f"sha256:{path.name}")
        with contextlib.suppress(FileNotFoundError), blob.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
                blob.unlink()
                damaged.append(f"sha256:{path.name}")
        path.unlink()
    return damaged
