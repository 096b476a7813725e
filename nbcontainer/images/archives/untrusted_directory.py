"""A directory whose files nobody trusts: they are opened inside it and nowhere else."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from pathlib import Path

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not be waited for


class UntrustedDirectory:
    """The directory at `where`, a path (host) or a descriptor that stays the caller's. Open until `close`."""

    def __init__(self, where: Path | int) -> None:
        """Opens it. Raises `OSError`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._fd = os.open(f"/proc/self/fd/{where}" if isinstance(where, int) else where, flags)

    def close(self) -> None:
        """Closes it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        with os.scandir(self._fd) as entries:
            return next(entries, None) is None

    def open(self, name: str) -> int:
        """A descriptor of a regular file, for the caller to close; links may lead to others in the directory.

        Raises `FileNotFoundError`, `ImageError`.
        """
        try:
            fd = openat2(self._fd, name, _OPEN, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"no {name!r}") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot open {name[:200]!r} in the image's files: {error}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ImageError(f"{name[:200]!r} in the image's files is no regular file")
        return fd

    def read(self, name: str, limit: int) -> bytes:
        """A file's bytes, one more than `limit` at most. Raises as `open` does."""
        with os.fdopen(self.open(name), "rb") as file:
            return file.read(limit + 1)

    def has(self, name: str) -> bool:
        """Whether there is such a regular file."""
        try:
            os.close(self.open(name))
        except (FileNotFoundError, ImageError):
            return False
        return True
