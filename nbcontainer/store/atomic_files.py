"""Host files that are written whole or not at all, in a directory that containers may share."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    Answer = TypeVar("Answer")


def replace_file(target: Path, temporary: Path, data: bytes, *, sync: bool = True) -> None:
    """Replace the file `target` by one with `data`; a process that reads it finds the old or the new file.

    `temporary` is a path without a file on the same file system; it is removed if this fails. With `sync`, the data is
    on disk before the file has its name (fsync(2)). Raises `OSError`.
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
    """Brings the names in a directory to disk (fsync(2)). Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
