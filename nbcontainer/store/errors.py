"""The store's errors: what failed, and what a person can do about it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeVar

from nbcontainer.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    Answer = TypeVar("Answer")

FREE_SPACE = "free some space: `%container prune` removes what nothing uses"


def store_error(do: str, path: Path | str, error: OSError) -> StoreError:
    """The store's error for an OSError, with what a person can do about it."""
    hints = {
        errno.EACCES: "set NBCONTAINER_HOME to a directory of your own",
        errno.EPERM: "set NBCONTAINER_HOME to a directory of your own",
        errno.EROFS: "set NBCONTAINER_HOME to a directory on a writable file system",
        errno.ENOSPC: FREE_SPACE,
        errno.EDQUOT: FREE_SPACE,
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
        errno.ENFILE: "raise the limit on open files (ulimit -n)",
        errno.ENOMEM: "free some memory",
        errno.ENOTDIR: "set NBCONTAINER_HOME to a directory",
        errno.ENOENT: "set NBCONTAINER_HOME to a directory",
        errno.EEXIST: "set NBCONTAINER_HOME to a directory",
    }
    return StoreError(f"cannot {do} at {path}: {error.strerror or error}", hint=hints.get(error.errno or 0, ""))
