"""The store's errors: the failed operation, and what the user can do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from nbcontainer.errors import ERRNO_ADVICE, FREE_SPACE, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FREE_SPACE", "store_error"]

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
