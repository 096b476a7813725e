"""The mount of a write layer as a root, which outlives its container, and the marks of a root that is unchanged."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbcontainer.sandbox.launcher.client import Launcher

_LOOKS = 8
"""How many changes in a row must have different times: without multigrain timestamps, these take less than one tick."""

_Mark = tuple[int, ...]


class RootMount:
    """A root that a launcher has mounted, by its upper directory as the plan has it (`Overlay.upper`).

    `home` is the directory of the write layer (host), which nothing has used yet. Raises `OSError` if this process may
    not look into it.
    """

    def __init__(self, launcher: Launcher, upper: str, home: str) -> None:
        self.upper = upper
        self._launcher = launcher
        self._marks = marks(home)
        self._accessed = os.stat(f"{home}/diff").st_atime_ns

    def is_as_mounted(self, home: str) -> bool:
        """Return whether nothing has changed since."""
        try:
            return marks(home) == self._marks
        except OSError:
            return False

    def renew(self, home: str) -> None:
        """Set the time of the last access to the root back. No container may use it now.

        Raises `OSError`, also if something has changed since the last container left it.
        """
        if marks(home) != self._marks:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), home)
        facts = os.stat(f"{home}/diff")
        if facts.st_atime_ns != self._accessed:
            os.utime(f"{home}/diff", ns=(self._accessed, facts.st_mtime_ns))
            self._marks = marks(home)

    def move(self, upper: str) -> bool:
        """The upper directory gets another path. Return False if the launcher that had mounted it has ended."""
        if not self._launcher.move_root(self.upper, upper):
            return False
        self.upper = upper
        return True

    def close(self) -> None:
        """Unmount it, for all but a container that uses it."""
        self._launcher.unmount_root(self.upper)


def marks(home: str) -> tuple[_Mark, ...]:
    """Return what changes with every change of a root that is mounted from `home` (host). Raises `OSError`.

    A change in the root directory changes its ctime, and so does one of its mode, owner or attributes (inode(7)). A
    change further down first copies a directory to the upper one, by way of the work directory (overlayfs.rst).
    """
    return _mark(f"{home}/diff"), _mark(f"{home}/work/work")


def _mark(path: str) -> _Mark:
    facts = os.stat(path, follow_symlinks=False)
    times = facts.st_ctime_ns, facts.st_mtime_ns
    return facts.st_dev, facts.st_ino, facts.st_mode, facts.st_nlink, facts.st_uid, facts.st_gid, facts.st_size, *times


def tells_changes(path: str) -> bool:
    """Return whether each change of a directory (host) gets a time of its own, by changing its ctime.

    File systems with multigrain timestamps give a time that was looked at to no later change (Linux 6.13,
    Documentation/filesystems/multigrain-ts.rst): ext4, XFS, Btrfs, tmpfs. Others have one time for a tick.
    """
    facts = os.stat(path)
    seen = {facts.st_ctime_ns}
    for _ in range(_LOOKS):
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        seen.add(os.stat(path).st_ctime_ns)
    return len(seen) == _LOOKS + 1
