"""The directories of an archive, as a tree of names: what is set on each when everything in them has been made.

Paths of all directories would take time and memory with the square of the depth.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nbcontainer.images.layers.metadata import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.images.layers.tar_reader import Member

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Directory:
    """One directory. `member` is its entry, None without one; `mode` is what it was made with.

    `recorded` says that its metadata is to be set, `opaque` that it hides what lower layers have in it, and `hides`
    that it has whiteouts.
    """

    __slots__ = ("below", "hides", "member", "mode", "opaque", "recorded")

    def __init__(self) -> None:
        self.below: dict[bytes, Directory] | None = None
        self.member: Member | None = None
        self.mode = UNKNOWN
        self.opaque = self.hides = self.recorded = False

    def record(self, member: Member | None, mode: int) -> None:
        """Note that the directory was made, or named again by another entry."""
        self.member, self.mode, self.recorded = member, mode, True


class Directories:
    """The directories that the entries of an archive have made or named, by their true paths below the root."""

    def __init__(self) -> None:
        self.root = Directory()
        self._parent = self._newest = (b"", self.root)

    def at(self, path: bytes) -> Directory:
        """Return the directory of that path. The next one below it, or beside it, is found without a walk."""
        if not path:
            return self.root
        head, _, name = path.rpartition(b"/")
        if head == self._newest[0]:
            self._parent = self._newest
        elif head != self._parent[0]:
            self._parent = (head, self._walk(head))
        found = _child(self._parent[1], name)
        self._newest = (path, found)
        return found

    def _walk(self, path: bytes) -> Directory:
        found = self.root
        for part in path.split(b"/") if path else ():
            found = _child(found, part)
        return found

    def finish(self, root_fd: int, set_one: Callable[[int, bytes, Directory], None]) -> None:
        """Call `set_one(parent, name, directory)` for each, after those inside it; `parent` is a descriptor.

        The name of the root is `.`. Two descriptors are open at most, at any depth. A directory that another entry has
        replaced is left out, with all below it. Raises `OSError`.
        """
        fd = os.dup(root_fd)
        ways: list[tuple[bytes, Directory]] = []
        waiting = [list((self.root.below or {}).items())]
        try:
            while waiting:
                if not waiting[-1]:
                    waiting.pop()
                    if ways:
                        fd = _move(fd, b"..")
                        set_one(fd, *ways.pop())
                    continue
                name, directory = waiting[-1].pop()
                if not directory.below:
                    set_one(fd, name, directory)
                    continue
                try:
                    fd = _move(fd, name)
                except OSError as error:
                    if error.errno not in _REPLACED:
                        raise
                    continue
                ways.append((name, directory))
                waiting.append(list(directory.below.items()))
            set_one(root_fd, b".", self.root)
        finally:
            os.close(fd)


def _child(parent: Directory, name: bytes) -> Directory:
    if parent.below is None:
        parent.below = {}
    found = parent.below.get(name)
    if found is None:
        found = parent.below[name] = Directory()
    return found


def _move(fd: int, name: bytes) -> int:
    """Return a descriptor of directory `name` in `fd`, which is closed. Raises `OSError`, with `fd` still open."""
    found = os.open(name, _STEP, dir_fd=fd)
    os.close(fd)
    return found
