"""Moving back what an interrupted run of `apply` has moved, by the log in its staging directory.

The log is on the host's file system, where another container could write: each move is done only if both sides are the
files that it names, and never leaves the directory.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from nbcontainer.images.cow.below import DIRECTORY, RENAME_EXCHANGE, RENAME_NOREPLACE, look, opened, parent, renameat2
from nbcontainer.images.cow.staging_area import LOG

if TYPE_CHECKING:
    from nbcontainer.images.cow.comparing import View
    from nbcontainer.images.cow.staging_area import StagingArea

_LIMIT = 64 << 20  # bytes of a log


def recover(view: View, area: StagingArea) -> int:
    """Move back what the log says, the last move first; return how many paths. Raises `OSError`."""
    try:
        with opened(view.tree, area.path, DIRECTORY) as stage:
            moves, rights = _read(stage)
            numbered = reversed([*enumerate(moves)])
            count = sum(_move_back(view, stage, b"%d" % number, *move) for number, move in numbered)
            for path, mode, uid, gid in rights if count else ():
                with contextlib.suppress(OSError), opened(view.tree, path, DIRECTORY) as folder:
                    os.fchown(folder, uid, gid)
                    os.fchmod(folder, mode & 0o3777)
    except FileNotFoundError:
        return 0
    area.remove()
    return count


def _read(stage: int) -> tuple[list[Any], list[Any]]:
    """Return the moves and the rights of the log, none if there is no log or if it cannot be read."""
    try:
        with opened(stage, LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
            found = json.loads(os.pread(fd, _LIMIT, 0))
        moves = [(os.fsencode(path), _number(old), _number(new)) for path, old, new in found["moves"]]
        rights = [(os.fsencode(path), int(mode), int(uid), int(gid)) for path, mode, uid, gid in found["rights"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return [], []
    return moves, rights


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _move_back(view: View, stage: int, name: bytes, path: bytes, before: int | None, after: int | None) -> bool:
    """Undo one move, if it was made; return whether it was."""
    there, staged = look(view.tree, path), look(stage, name)
    found = (None if there is None else there.st_ino, None if staged is None else staged.st_ino)
    if found != (after, before) or before == after:
        return False
    with contextlib.suppress(OSError), parent(view.tree, path) as (folder, leaf):
        if before is not None and after is not None:
            renameat2(stage, name, folder, leaf, RENAME_EXCHANGE)
        elif before is not None:
            renameat2(stage, name, folder, leaf, RENAME_NOREPLACE)
        else:
            renameat2(folder, leaf, stage, name, RENAME_NOREPLACE)
        return True
    return False
