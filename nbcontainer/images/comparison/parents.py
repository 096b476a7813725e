"""The directories above paths of a tree that is not trusted. It runs in a sandbox: nothing is imported later."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nbcontainer.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from types import TracebackType

_BELOW = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG})


class Parents:
    """Opens the directories above absolute paths, below the descriptor `root`. No link is followed.

    It keeps the last one open, because paths that are sorted share them. Close it, or use it as a context manager.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._path = ""
        self._fd: int | None = None

    def __enter__(self) -> Parents:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def above(self, path: str) -> int | None:
        """Return a descriptor of the directory above `path`, None if there is none. This object closes it."""
        parent = path.rpartition("/")[0]
        if self._fd is None or parent != self._path:
            self._close()
            self._path, self._fd = parent, opened(self._root, parent)
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None


def opened(root: int, path: str) -> int | None:
    """Return a descriptor of the directory `path` (absolute, empty for the root) below `root`, None if there is none.

    No link is followed. The caller closes it. Raises `OSError`.
    """
    try:
        return openat2(root, f".{path}", _OPEN, resolve=_BELOW)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None
