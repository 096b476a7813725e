"""Moving back what an interrupted run of `apply` has moved, by the log in its staging directory, and removing that.

The log is on the host's file system, where another container could write: each move is done only if both sides are the
files that it names, and never leaves the directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.images.cow.before import Before
from nbcontainer.images.cow.below import DIRECTORY, RENAME_EXCHANGE, RENAME_NOREPLACE, look, opened, parent, renameat2
from nbcontainer.images.cow.rights import Merge
from nbcontainer.images.cow.staging_area import LOG, lock

if TYPE_CHECKING:
    from nbcontainer.images.cow.comparing import View
    from nbcontainer.images.cow.staging_area import StagingArea

_LIMIT = 64 << 20  # bytes of a log


class _Move(NamedTuple):
    """One line of the log: the inode before and after, and the size and time (ns) of what the host had."""

    path: bytes
    before: int | None
    after: int | None
    size: int
    mtime: int

    def is_of(self, facts: os.stat_result) -> bool:
        """Return whether the host's file is the same as before the move."""
        return stat.S_ISDIR(facts.st_mode) or (facts.st_size, facts.st_mtime_ns) == (self.size, self.mtime)


@dataclass
class _Log:
    """What was about to be moved, which directories were about to get other rights, and the times of directories."""

    moves: list[_Move] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    times: list[tuple[bytes, int]] = field(default_factory=list)


@dataclass
class Recovered:
    """How many paths were moved back, and the facts of those that the host had and that are the same as before."""

    count: int = 0
    moved_back: dict[bytes, Before] = field(default_factory=dict)


def recover(view: View, area: StagingArea, *, done: bool = False) -> Recovered:
    """Move back what the log says, the last move first, and remove the staging directory. Raises `OSError`.

    If `apply` is `done`, nothing is moved back.
    """
    found = Recovered()
    try:
        with opened(view.tree, area.path, DIRECTORY) as stage:
            lock(stage)
            log = _Log() if done else _read(stage)
            for number, move in reversed([*enumerate(log.moves)]):
                found.count += _move_back(view, stage, b"%d" % number, move, found.moved_back)
            for merge in log.merges:
                with contextlib.suppress(OSError):
                    found.count += merge.undo(view.tree)
    except FileNotFoundError:
        return found
    area.remove()
    for path, mtime in log.times if found.count else ():
        _set_time(view, path, mtime)
    return found


def _set_time(view: View, path: bytes, mtime: int) -> None:
    with contextlib.suppress(OSError, OverflowError), opened(view.tree, path, DIRECTORY) as folder:
        os.utime(folder, ns=(os.fstat(folder).st_atime_ns, mtime))


def _read(stage: int) -> _Log:
    """Return the log, an empty one if there is none or if it cannot be read."""
    try:
        with opened(stage, LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
            found = json.loads(os.pread(fd, _LIMIT, 0))
        moves = [
            _Move(os.fsencode(path), _number(old), _number(new), *map(int, facts))
            for path, old, new, *facts in found["moves"]
        ]
        merges = [Merge.from_json(one) for one in found["merges"]]
        times = [(os.fsencode(path), int(mtime)) for path, mtime in found["times"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return _Log()
    return _Log(moves, merges, times)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _move_back(view: View, stage: int, name: bytes, move: _Move, moved_back: dict[bytes, Before]) -> bool:
    """Undo one move, if it was made; return whether it was."""
    there, staged = look(view.tree, move.path), look(stage, name)
    found = (None if there is None else there.st_ino, None if staged is None else staged.st_ino)
    before, after = move.before, move.after
    if found != (after, before) or before == after:
        return False
    with contextlib.suppress(OSError), parent(view.tree, move.path) as (folder, leaf):
        if before is not None and after is not None:
            renameat2(stage, name, folder, leaf, RENAME_EXCHANGE)
        elif before is not None:
            renameat2(stage, name, folder, leaf, RENAME_NOREPLACE)
        else:
            renameat2(folder, leaf, stage, name, RENAME_NOREPLACE)
        if before is not None and (now := look(view.tree, move.path)) is not None and move.is_of(now):
            moved_back[move.path] = Before.of(now)
        return True
    return False
