"""The store's errors: the failed operation, and what the user can do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from nbcontainer.errors import ERRNO_ADVICE, FREE_SPACE, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FREE_SPACE", "path_advice", "store_error", "store_errors"]

_OWN = "set NBCONTAINER_HOME to a directory of your own"
_CIRCLE = "check the path: its symbolic links lead in a circle"
_DIRECTORY = "set NBCONTAINER_HOME to a directory"

_ADVICE = {
    **ERRNO_ADVICE,
    errno.EACCES: _OWN,
    errno.EPERM: _OWN,
    errno.ENOTDIR: _DIRECTORY,
    errno.ENOENT: _DIRECTORY,
    errno.EEXIST: _DIRECTORY,
    errno.ELOOP: _CIRCLE,
}


_OF_PATHS = {
    **ERRNO_ADVICE,
    errno.EACCES: "check the path's permissions",
    errno.EPERM: "check the path's permissions",
    errno.EROFS: "choose a path on a writable file system",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ELOOP: _CIRCLE,
    errno.ENOTDIR: "check the path: a part of it is not a directory",
    errno.EISDIR: "check the path: it is a directory",
    errno.ENXIO: "check the path: it is a socket, or a device that is not there",
    errno.EIO: "check the disk",
}


def path_advice(error: OSError) -> str:
    """Return the one thing to do if a host path of the caller's cannot be used."""
    return _OF_PATHS.get(error.errno or 0, "check the path")


def store_error(do: str, path: Path | str, error: OSError) -> StoreError:
    """Return the `StoreError` for an `OSError`, with a hint by its number.

    `do` is the operation that failed, `path` (host) what it failed on, empty if that is not known.
    """
    place = f" at {path}" if str(path) else ""
    return StoreError(f"cannot {do}{place}: {error.strerror or error}", hint=_ADVICE.get(error.errno or 0, ""))


class store_errors:  # noqa: N801 - a context manager like those of contextlib; each cell uses it a few times
    """Turns what the kernel refuses this process (descriptors, space, memory) into a `StoreError`: one line.

    `do` is the operation, and `path` the store's, for an error that names no file.
    """

    __slots__ = ("_do", "_path")

    def __init__(self, do: str, path: Path | str) -> None:
        self._do = do
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise store_error(self._do, error.filename or self._path, error) from error
