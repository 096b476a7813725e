"""Writing changes to the host's directory: each path in one step, all of them or none.

The order is: compare all paths, make all that is new in a staging directory, move each into its place by renameat2(2),
and compare what was there once more. What the host had is in the staging directory until the end, so that everything
can be moved back. If the process is killed in between, `recovering` moves everything back, and a run without that finds
what is done already.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.images.cow.before import Before
from nbcontainer.images.cow.below import (
    DIRECTORY,
    exchange,
    look,
    opened,
    parent,
    rename_new,
    walk,
)
from nbcontainer.images.cow.comparing import MEANWHILE, STAGING, compare, is_new_on_both
from nbcontainer.images.cow.merged import Kind
from nbcontainer.images.cow.rights import ChangedMeanwhile, planned
from nbcontainer.images.cow.staging_area import StagingArea
from nbcontainer.linux.files import syncfs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.cow.comparing import Action, Comparison, View
    from nbcontainer.images.cow.rights import Merge

_CHANGED = frozenset({errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV})
"""What a rename fails with if another program has changed the directory or the name."""


@dataclass
class Applied:
    """How many paths were written, the conflicts that prevented all of it, and how many attributes were not kept."""

    written: int = 0
    conflicts: list[tuple[bytes, str]] = field(default_factory=list)
    lost: int = 0


@dataclass(frozen=True)
class _Moved:
    """One path that was written: its name in the staging directory, and if something was there before and after."""

    path: bytes
    name: bytes
    before: bool
    after: bool


def apply(
    view: View,
    token: bytes,
    *,
    force: bool = False,
    stay: bool = False,
    moved_back: dict[bytes, Before] | None = None,
) -> Applied:
    """Write the changes to the host's directory. `token` makes the name of the staging directory.

    With `stay`, that directory stays if all is written, with what the host had: `recovering.recover` removes it.

    If there are conflicts, or if anything fails, the host's directory is as before, but for the ctime of what was moved
    and moved back: `moved_back` gets the facts of these paths. Raises `OSError`.
    """
    area = staging_area(view, token)
    area.remove()
    found = compare(view, force=force)
    if found.conflicts:
        return Applied(conflicts=found.conflicts)
    written = Applied(conflicts=[(b"", MEANWHILE)])
    try:
        area.make()
        written = _write(view, found, area, {} if moved_back is None else moved_back, force=force)
        return written
    finally:
        if area.keep or (stay and not written.conflicts):
            area.close()
        else:
            area.remove()
        _set_times(view, found, undone=bool(written.conflicts))


def staging_area(view: View, token: bytes) -> StagingArea:
    """Return the staging directory for these changes. It is the same one in each run with the same token."""
    return StagingArea(view, _place(view), STAGING + token)


def left_area(view: View, token: bytes) -> StagingArea:
    """Return the staging directory that an interrupted run has made, or the one for these changes.

    What that run wrote, or what the host did since, can have changed which directory is the deepest one.
    """
    place = _deepest(view)
    while True:
        area = StagingArea(view, place, STAGING + token)
        if not place:
            return area
        with contextlib.suppress(OSError):
            if look(view.tree, area.path) is not None:
                return area
        place = place.rpartition(b"/")[0]


def _write(
    view: View, found: Comparison, area: StagingArea, moved_back: dict[bytes, Before], *, force: bool
) -> Applied:
    try:
        merges = [one for action in found.merges if (one := planned(view, action, force=force)) is not None]
    except ChangedMeanwhile as error:
        return Applied(conflicts=[(error.path, MEANWHILE)])
    for number, action in enumerate(found.writes):
        if action.entry.kind != Kind.DELETED:
            area.fill(action, b"%d" % number)
    area.log(found.writes, merges, found.merges)
    syncfs(area.fd)  # new files are on disk before they get a name
    moved: list[_Moved] = []
    merged: list[Merge] = []
    try:
        for number, action in enumerate(found.writes):
            moved.append(_move(view, area, action, b"%d" % number, force=force))
        for merge in merges:
            merged.append(merge)
            area.lost += merge.do(view.tree)
    except BaseException as error:
        _restore(view, area, moved, merged)
        if not force:
            moved_back |= _facts(view, [one.path for one in moved if one.before])
        if isinstance(error, ChangedMeanwhile):
            return Applied(conflicts=[(error.path, MEANWHILE)])
        raise
    syncfs(area.fd)
    return Applied(len(moved) + len(merged), lost=area.lost)


def _facts(view: View, paths: Sequence[bytes]) -> dict[bytes, Before]:
    """Return the facts of what is at each path, without those that cannot be looked at."""
    found: dict[bytes, Before] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            if (facts := look(view.tree, path)) is not None:
                found[path] = Before.of(facts)
    return found


def _place(view: View) -> bytes:
    """Return the host's deepest directory that all changes are in: the user may not be able to write above it."""
    found = _deepest(view)
    while found and ((host := look(view.tree, found)) is None or not stat.S_ISDIR(host.st_mode)):
        found = found.rpartition(b"/")[0]
    return found


def _deepest(view: View) -> bytes:
    """Return the deepest directory that all changes are in, by their paths."""
    found: bytes | None = None
    for path, entry in view.entries.items():
        if entry.kind != Kind.DIRECTORY:
            above = path.rpartition(b"/")[0]
            found = above if found is None else _common(found, above)
    return found or b""


def _common(one: bytes, other: bytes) -> bytes:
    parts = []
    for left, right in zip(one.split(b"/"), other.split(b"/"), strict=False):
        if left != right:
            break
        parts.append(left)
    return b"/".join(parts)


def _move(view: View, area: StagingArea, action: Action, name: bytes, *, force: bool) -> _Moved:
    """Put one path in its place. The old file is `name` in the staging directory then. Raises `OSError`."""
    after = action.entry.kind != Kind.DELETED
    try:
        with parent(view.tree, action.path) as (folder, leaf):
            if action.host is None:
                rename_new(area.fd, name, folder, leaf)
                return _Moved(action.path, name, before=False, after=True)
            if after:
                exchange(area.fd, name, folder, leaf)
            else:
                rename_new(folder, leaf, area.fd, name)
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        raise ChangedMeanwhile(action.path) from None
    moved = _Moved(action.path, name, before=True, after=after)
    if not force and not _is_what_was_compared(view, area, action, name):
        _restore(view, area, [moved], [])
        raise ChangedMeanwhile(action.path)
    return moved


def _is_what_was_compared(view: View, area: StagingArea, action: Action, name: bytes) -> bool:
    """Return whether what the host had is what was compared: a rename changes the ctime, and nothing else."""
    found, host = os.lstat(name, dir_fd=area.fd), action.host
    assert host is not None
    if (found.st_ino, found.st_mode) != (host.st_ino, host.st_mode):
        return False
    if stat.S_ISDIR(found.st_mode):
        return all(facts.st_ctime_ns <= view.began for _, facts in walk(area.fd, name))
    return (found.st_size, found.st_mtime_ns) == (host.st_size, host.st_mtime_ns)


def _restore(view: View, area: StagingArea, moved: list[_Moved], merged: list[Merge]) -> None:
    """Move everything back, the last one first. Raises `OSError` if one path cannot be; then the directory stays."""
    failed: OSError | None = None
    for merge in merged:
        with contextlib.suppress(OSError):
            merge.undo(view.tree)
    for one in reversed(moved):
        try:
            _move_back(view, area, one)
        except OSError as error:
            failed = failed or error
    if failed is not None:
        area.keep = True
        raise failed


def _move_back(view: View, area: StagingArea, one: _Moved) -> None:
    with parent(view.tree, one.path) as (folder, leaf):
        if one.before and one.after:
            exchange(area.fd, one.name, folder, leaf)
        elif one.before:
            rename_new(area.fd, one.name, folder, leaf)
        else:
            rename_new(folder, leaf, area.fd, one.name)


def _set_times(view: View, found: Comparison, *, undone: bool) -> None:
    """Give the directories that stay the times that the container gave them, or if `undone` those that they had.

    A directory that the host has changed meanwhile keeps the new time.
    """
    touched = {action.path.rpartition(b"/")[0] for action in found.writes}
    for action in reversed(found.merges):
        noted, facts, host = view.noted.get(action.path), action.entry.facts, action.host
        assert host is not None
        changed = action.path in touched or (noted is not None and action.path and facts.st_mtime_ns != noted.mtime)
        if is_new_on_both(view, action.path):
            continue
        time = facts.st_mtime_ns if changed and not undone else host.st_mtime_ns
        if noted is None or host.st_mtime_ns == noted.mtime or not changed or undone:
            with contextlib.suppress(OSError), opened(view.tree, action.path, DIRECTORY) as folder:
                os.utime(folder, ns=(host.st_atime_ns, time))
