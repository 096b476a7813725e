"""Copying a layer that another container can still change: what is removed or replaced meanwhile is left out."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.images.layers.flat.flattening import is_whiteout, make_opaque, opened
from nbcontainer.images.layers.flat.links import Entry, Replaced, set_metadata
from nbcontainer.images.layers.flat.links import copy as copy_file
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.whiteouts import is_opaque

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV})
"""Errors of a path to a directory that has gone, that something else has now, or that was moved out of its tree."""


def copy(source: int, target: int, most: int = Limits.entries) -> None:
    """Fill the empty directory `target` with copies of all that the directory `source` has, and of its metadata.

    Both are descriptors. No link is followed. What is removed or replaced meanwhile is left out, and a device that
    cannot be made here; a directory that is removed stays, empty. Raises `OSError`, also if there are more than `most`
    entries: who can change the source could make ever more of them.
    """
    _Copy(source, target, most).run()


class _Copy:
    def __init__(self, source: int, target: int, most: int) -> None:
        self._source = source
        self._target = target
        self._left = most
        self._names: dict[tuple[int, int], bytes] = {}  # of each file with several names, the path of the first one

    def run(self) -> None:
        waiting = [b""]
        while waiting:
            path = waiting.pop()
            with contextlib.ExitStack() as stack:
                try:
                    old = opened(stack, self._source, path)
                except OSError as error:
                    if error.errno not in _NOT_THERE:
                        raise
                    continue
                waiting += self._copy_directory(stack, old, path)

    def _copy_directory(self, stack: contextlib.ExitStack, old: int, path: bytes) -> list[bytes]:
        """Copy the files of a directory and its metadata, and return the paths of the directories in it."""
        new = opened(stack, self._target, path)
        found = []
        for name, facts in self._listed(old):
            below = path + b"/" + name if path else name
            with contextlib.suppress(Replaced, FileExistsError):  # a name that is made again can be listed twice
                if stat.S_ISDIR(facts.st_mode):
                    os.mkdir(name, 0o700, dir_fd=new)
                    found.append(below)
                else:
                    self._add(Entry(old, name), facts, Entry(new, name), below)
        if is_opaque(old):
            make_opaque(new, b".")
        set_metadata(old, os.fstat(old), new)
        return found

    def _listed(self, folder: int) -> Iterator[tuple[bytes, os.stat_result]]:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._left -= 1
                if self._left < 0:
                    raise OSError(errno.E2BIG, "it has too many entries")
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield os.fsencode(entry.name), facts

    def _add(self, source: Entry, facts: os.stat_result, target: Entry, path: bytes) -> None:
        key = (facts.st_dev, facts.st_ino)
        if (first := self._names.get(key)) is not None and self._is_linked(first, target):
            return
        try:
            copy_file(source, facts, target)
        except PermissionError:
            if is_whiteout(facts) or not (stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode)):
                raise
            return  # a device, which a process in a user namespace cannot make
        if facts.st_nlink > 1:
            self._names[key] = path

    def _is_linked(self, first: bytes, target: Entry) -> bool:
        """Make `target` a name of the copy at the path `first`; return False if that can have no more names."""
        directory, _, name = first.rpartition(b"/")
        with contextlib.ExitStack() as stack:
            folder = opened(stack, self._target, directory)
            try:
                os.link(name, target.name, src_dir_fd=folder, dst_dir_fd=target.directory, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                return False
        return True
