"""The store's errors: the failed operation, and what the user can do."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from nbcontainer.errors import ERRNO_ADVICE, FREE_SPACE, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FREE_SPACE", "store_error", "store_errors"]

_OWN = "set NBCONTAINER_HOME to a directory of your own"
_DIRECTORY = "set NBCONTAINER_HOME to a directory"

_ADVICE = {
    **ERRNO_ADVICE,
    errno.EACCES: _OWN,
    errno.EPERM: _OWN,
    errno.ENOTDIR: _DIRECTORY,
    errno.ENOENT: _DIRECTORY,
    errno.EEXIST: _DIRECTORY,
}


def store_error(do: str, path: Path | str, error: OSError) -> StoreError:
    """Return the `StoreError` for an `OSError`, with a hint by its number. `do` is the operation that failed."""
    return StoreError(f"cannot {do} at {path}: {error.strerror or error}", hint=_ADVICE.get(error.errno or 0, ""))


@contextlib.contextmanager
def store_errors(do: str, path: Path | str) -> Iterator[None]:
    """Turn what the kernel refuses this process (descriptors, space, memory) into a `StoreError`: one line.

    `do` is the operation, and `path` the store's, for an error that names no file.
    """
    try:
        yield
    except OSError as error:
        raise store_error(do, error.filename or path, error) from error
