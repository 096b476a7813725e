"""The staging directory: what is to be written is made there first, on the host's file system, and moved in one step.

Files get no setuid and setgid bits. Of their attributes, only those of users and access control lists are kept: file
capabilities and security labels of a container never reach the host.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from typing import TYPE_CHECKING

from nbcontainer.images.cow import attributes
from nbcontainer.images.cow.below import DIRECTORY, join, open_below, opened, parent
from nbcontainer.images.cow.comparing import mode_of
from nbcontainer.images.cow.merged import Kind
from nbcontainer.images.layers.sparse import data_pieces
from nbcontainer.images.layers.tree import remove_below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.images.cow.comparing import Action, View
    from nbcontainer.images.cow.merged import Entry
    from nbcontainer.images.cow.rights import Merge

LOG = b"log"
"""The file in the staging directory that says what is moved."""

LOG_LIMIT = 256 << 20
"""The most bytes of the log."""

_MAKE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK = 1 << 20
_PATIENCE = 2.0  # seconds


class StagingArea:
    """The directory `name` in the directory `place` (relative) of the host's; `make` makes it, `remove` removes it."""

    def __init__(self, view: View, place: bytes, name: bytes) -> None:
        self.view = view
        self.fd = -1
        self.keep = False
        """Whether it has files of the host that could not be moved back."""
        self.lost = 0
        """How many attributes the file system of the host did not take."""
        self._place = place
        self.path = join(place, name)
        self._links: dict[tuple[int, int], bytes] = {}

    def make(self) -> None:
        """Make the directory, without what an interrupted run left in it. Raises `OSError`."""
        self.remove()
        with parent(self.view.tree, self.path) as (above, name):
            os.mkdir(name, 0o700, dir_fd=above)
        self.fd = open_below(self.view.tree, self.path, DIRECTORY)
        lock(self.fd)

    def close(self) -> None:
        """Close the descriptor of the directory, which stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """Remove the directory, and all that is in it; no link is followed. Raises `OSError`.

        The directory that it is in keeps its time.
        """
        self.close()
        try:
            with opened(self.view.tree, self.path, DIRECTORY) as fd:
                remove_below(fd)
            with parent(self.view.tree, self.path) as (above, name):
                facts = os.fstat(above)
                os.rmdir(name, dir_fd=above)
            with contextlib.suppress(OSError), opened(self.view.tree, self._place, DIRECTORY) as fd:
                os.utime(fd, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        except FileNotFoundError:
            pass

    def log(self, writes: Sequence[Action], merges: Sequence[Merge], stay: Sequence[Action]) -> None:
        """Write down what is about to be done, so that it can be undone if the process is killed.

        `stay` are the directories whose times are to be kept.
        """
        moves = []
        for number, action in enumerate(writes):
            deleted = action.entry.kind == Kind.DELETED
            after = None if deleted else os.lstat(b"%d" % number, dir_fd=self.fd).st_ino
            host = action.host
            before = None if host is None else host.st_ino
            facts = (0, 0) if host is None else (host.st_size, host.st_mtime_ns)
            moves.append([os.fsdecode(action.path), before, after, *facts])
        times = [(os.fsdecode(one.path), one.host.st_mtime_ns) for one in stay if one.host is not None]
        found = {"moves": moves, "merges": [one.to_json() for one in merges], "times": times}
        data = json.dumps(found).encode()
        if len(data) > LOG_LIMIT:
            raise OSError(errno.EFBIG, "there are too many changes to undo them after an interruption")
        target = os.open(LOG + b".new", _MAKE, 0o600, dir_fd=self.fd)
        try:
            write_all(target, data)
        finally:
            os.close(target)
        os.rename(LOG + b".new", LOG, src_dir_fd=self.fd, dst_dir_fd=self.fd)  # whole, or not there

    def fill(self, action: Action, name: bytes) -> None:
        """Make what an action writes, under `name` in the directory. Raises `OSError`."""
        view, entry = self.view, action.entry
        if not entry.is_directory:
            self._make_file(entry, action.path, name)
            return
        paths = [action.path, *view.inside(action.path)]
        folders = []
        for path in paths:
            below, target = view.entries[path], name + path[len(action.path) :]
            if below.is_directory:
                with parent(self.fd, target) as (above, leaf):
                    os.mkdir(leaf, 0o700, dir_fd=above)
                folders.append((path, below, target))
            elif below.kind == Kind.FILE:
                self._make_file(below, path, target)
        for path, below, target in reversed(folders):
            with opened(self.fd, target, DIRECTORY) as new, opened(view.layers[below.layer], path, DIRECTORY) as old:
                self._set(old, below, new)

    def _make_file(self, entry: Entry, path: bytes, target: bytes) -> None:
        key = (entry.layer, entry.facts.st_ino)
        with parent(self.fd, target) as (above, name), parent(self.view.layers[entry.layer], path) as (folder, leaf):
            if (first := self._links.get(key)) is not None:
                os.link(first, name, src_dir_fd=self.fd, dst_dir_fd=above, follow_symlinks=False)
                return
            if stat.S_ISREG(entry.facts.st_mode):
                self._copy(entry, folder, leaf, above, name)
            else:
                _make_special(entry, folder, leaf, above, name)
            if entry.facts.st_nlink > 1:
                self._links[key] = target

    def _copy(self, entry: Entry, folder: int, leaf: bytes, above: int, name: bytes) -> None:
        with opened(folder, leaf, _READ) as source:
            facts = os.fstat(source)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EINVAL, "it is not the file that was looked at", os.fsdecode(leaf))
            target = os.open(name, _MAKE, 0o600, dir_fd=above)
            try:
                for offset, length in data_pieces(source, facts.st_size):
                    _copy_range(source, target, offset, length)
                os.ftruncate(target, facts.st_size)
                self._set(source, entry, target)
            finally:
                os.close(target)

    def _set(self, source: int, entry: Entry, target: int) -> None:
        """Give the open file or directory `target` the owner, attributes, mode and times of the layer's."""
        own = os.fstat(target)
        if (own.st_uid, own.st_gid) != (entry.facts.st_uid, entry.facts.st_gid):
            os.fchown(target, entry.facts.st_uid, entry.facts.st_gid)
        self.lost += attributes.add(target, attributes.kept(source))
        os.fchmod(target, mode_of(entry))
        os.utime(target, ns=(entry.facts.st_atime_ns, entry.facts.st_mtime_ns))


def _make_special(entry: Entry, folder: int, leaf: bytes, above: int, name: bytes) -> None:
    """Make a link, a pipe or a socket."""
    facts = entry.facts
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(leaf, dir_fd=folder), name, dir_fd=above)
    elif stat.S_ISFIFO(facts.st_mode) or stat.S_ISSOCK(facts.st_mode):
        os.mknod(name, stat.S_IFMT(facts.st_mode) | 0o600, dir_fd=above)
    else:
        raise OSError(errno.EPERM, "devices are not written", os.fsdecode(leaf))
    own = os.lstat(name, dir_fd=above)
    if (own.st_uid, own.st_gid) != (facts.st_uid, facts.st_gid):
        os.chown(name, facts.st_uid, facts.st_gid, dir_fd=above, follow_symlinks=False)
    if not stat.S_ISLNK(facts.st_mode):
        os.chmod(name, mode_of(entry), dir_fd=above)
    os.utime(name, ns=(facts.st_atime_ns, facts.st_mtime_ns), dir_fd=above, follow_symlinks=False)


def lock(fd: int) -> None:
    """Hold an open directory (flock(2)) until it is closed: the process that moves files, or one that moves them back.

    Wait some seconds for the other one; not longer, and not at all on a file system without locks.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                return
            time.sleep(0.01)
        else:
            return


def write_all(target: int, data: bytes) -> None:
    """Write all of `data` to a file. Raises `OSError`."""
    while data:
        data = data[os.write(target, data) :]


def _copy_range(source: int, target: int, offset: int, length: int) -> None:
    while length:
        data = os.pread(source, min(length, _CHUNK), offset)
        if not data:
            return
        written = os.pwrite(target, data, offset)
        offset += written
        length -= written
