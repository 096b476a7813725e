"""Files of the store that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace_file(target: Path, temporary: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace the file `target` by one with `data`; a process that reads it finds the old or the new file.

    `temporary` is a path without a file on the same file system; it is removed if this fails. With `sync`, the data is
    on disk before the file has its name (fsync(2)); `sync_directory` brings the name to disk, too. Raises `OSError`.
    """
    try:
        with temporary.open("xb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Bring the names in a directory to disk (fsync(2)). Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
