"""Space that a store sets aside, so that on a full disk the first removal can be written: a few files in `reserve`."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = "reserve"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_FILES = 4
"""Inodes: a session's file, a new index.json, a directory for what is being removed, and one more."""

_SIZE = 1 << 17  # bytes of each: index.json has some 300 for each image


def fill(folder: Path) -> None:
    """Make the files that are missing in `folder`, as far as there is space. Raises nothing: the next process tries."""
    with contextlib.suppress(OSError):
        for number in range(_FILES):
            _make(folder / str(number))


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, _SIZE)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(fd)


def release(folder: Path) -> bool:
    """Remove the files, which frees their space; return whether there were any."""
    found = False
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink()
            found = True
    return found
