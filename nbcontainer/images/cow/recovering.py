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
from nbcontainer.images.cow.below import ASIDE, DIRECTORY, exchange, join, look, names, opened, parent, rename_new
from nbcontainer.images.cow.rights import Merge
from nbcontainer.images.cow.staging_area import LOG, LOG_LIMIT, lock

if TYPE_CHECKING:
    from nbcontainer.images.cow.comparing import View
    from nbcontainer.images.cow.staging_area import StagingArea


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
    """How many paths were moved back, and the facts of those that the host had and that are the same as before.

    `left` are files of the host that could not be moved back, each with its place in the staging directory, which stays
    then. If its log cannot be read, that is one pair with an empty path.
    """

    count: int = 0
    moved_back: dict[bytes, Before] = field(default_factory=dict)
    left: list[tuple[bytes, bytes]] = field(default_factory=list)


def recover(view: View, area: StagingArea, *, done: bool = False) -> Recovered:
    """Move back what the log says, the last move first, and remove the staging directory. Raises `OSError`.

    A staging directory with files of the host stays. If `apply` is `done`, nothing is moved back, and it is removed.
    """
    found = Recovered()
    try:
        with opened(view.tree, area.path, DIRECTORY) as stage:
            lock(stage)
            log = _Log() if done else _read(stage)
            if log is None:  # not ours, or damaged: what else is there can be the host's
                found.left += [(b"", area.path)] if set(names(stage, b"")) - {LOG} else []
                log = _Log()
            for number, move in reversed([*enumerate(log.moves)]):
                name = b"%d" % number
                found.count += _move_back(view, stage, name, move, found.moved_back)
                if (place := _left(stage, name, move)) is not None:
                    found.left.append((move.path, join(area.path, place)))
            for merge in log.merges:
                with contextlib.suppress(OSError):
                    found.count += merge.undo(view.tree)
    except FileNotFoundError:
        return found
    if not found.left:
        area.remove()
    for path, mtime in log.times if found.count else ():
        _set_time(view, path, mtime)
    return found


def _set_time(view: View, path: bytes, mtime: int) -> None:
    with contextlib.suppress(OSError, OverflowError), opened(view.tree, path, DIRECTORY) as folder:
        os.utime(folder, ns=(os.fstat(folder).st_atime_ns, mtime))


def _read(stage: int) -> _Log | None:
    """Return the log, an empty one if there is none: nothing was moved. None if it cannot be read."""
    if look(stage, LOG) is None:
        return _Log()
    try:
        with opened(stage, LOG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
            found = json.loads(_content(fd))
        moves = [
            _Move(os.fsencode(path), _number(old), _number(new), *map(int, facts))
            for path, old, new, *facts in found["moves"]
        ]
        merges = [Merge.from_json(one) for one in found["merges"]]
        times = [(os.fsencode(path), int(mtime)) for path, mtime in found["times"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    return _Log(moves, merges, times)


def _content(fd: int) -> bytes:
    """Return what is in a file. Raises `OSError`, and `ValueError` if that is more than `apply` writes."""
    if (size := os.fstat(fd).st_size) > LOG_LIMIT:
        raise ValueError("it is too long")
    parts, place = [], 0
    while place < size and (part := os.pread(fd, size - place, place)):
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _move_back(view: View, stage: int, name: bytes, move: _Move, moved_back: dict[bytes, Before]) -> bool:
    """Undo one move, if it was made; return whether it was."""
    try:
        there, staged, aside = look(view.tree, move.path), look(stage, name), look(stage, name + ASIDE)
        found = (_inode(there), _inode(staged))
        before, after = move.before, move.after
        if before == after:
            return False
        with parent(view.tree, move.path) as (folder, leaf):
            if before is not None and _inode(aside) == before and _inode(there) in (None, after):  # part of an exchange
                put = rename_new if there is None else exchange
                put(stage, name + ASIDE, folder, leaf)
            elif found != (after, before):
                return False
            elif before is not None and after is not None:
                exchange(stage, name, folder, leaf)
            elif before is not None:
                rename_new(stage, name, folder, leaf)
            else:
                rename_new(folder, leaf, stage, name)
        if before is not None and (now := look(view.tree, move.path)) is not None and move.is_of(now):
            moved_back[move.path] = Before.of(now)
    except OSError:
        return False
    return True


def _left(stage: int, name: bytes, move: _Move) -> bytes | None:
    """Return the name in the staging directory of what the host had at the path of a move; None if it is not there."""
    if move.before is None or move.before == move.after:
        return None
    return next((one for one in (name, name + ASIDE) if _inode(look(stage, one)) == move.before), None)


def _inode(facts: os.stat_result | None) -> int | None:
    return None if facts is None else facts.st_ino
