"""A directory with untrusted files: they are opened inside it, and no link leads out of it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError
from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not be waited for


class UntrustedDirectory:
    """The directory at `where`: a path (host), or a descriptor that the caller closes. Open until `close`."""

    def __init__(self, where: Path | int) -> None:
        """Open the directory. Raises `OSError`."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._fd = os.open(f"/proc/self/fd/{where}" if isinstance(where, int) else where, flags)

    def close(self) -> None:
        """Close the directory. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def has_only(self, names: Collection[str]) -> bool:
        """Whether nothing is in it but what has these names."""
        with os.scandir(self._fd) as entries:
            return all(entry.name in names for entry in entries)

    def folders(self) -> list[str]:
        """Return the names of the directories in it, sorted; links are not among them."""
        with os.scandir(self._fd) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def descend(self) -> bool:
        """If the only entry is a directory, become that directory. Return whether it did. Raises `OSError`."""
        with os.scandir(self._fd) as entries:
            names = [entry.name for entry, _ in zip(entries, range(2), strict=False)]
        if len(names) != 1:
            return False
        try:
            inner = os.open(names[0], _FOLDER, dir_fd=self._fd)
        except (NotADirectoryError, FileNotFoundError):
            return False
        os.close(self._fd)
        self._fd = inner
        return True

    def open_file(self, name: str) -> int:
        """Return a descriptor of a regular file, which the caller closes; links are followed inside the directory.

        Raises `FileNotFoundError`, `ImageError`.
        """
        try:
            fd = openat2(self._fd, name, _OPEN, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"no file {name!r}") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot open {name[:200]!r} in the image's files: {error}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ImageError(f"{name[:200]!r} in the image's files is not a regular file")
        return fd

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes, at most one more than `limit`. Raises as `open_file` does."""
        with os.fdopen(self.open_file(name), "rb") as file:
            return file.read(limit + 1)

    def has(self, name: str) -> bool:
        """Whether the directory has a regular file of that name."""
        try:
            os.close(self.open_file(name))
        except (FileNotFoundError, ImageError):
            return False
        return True
