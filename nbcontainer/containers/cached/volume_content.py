"""The content of read-only volumes, as one digest.

A container can have made the files of a volume: links are not followed, and only regular files are opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.linux.files import in_memory, write_back

if TYPE_CHECKING:
    from nbcontainer.sandbox.spec import Volume

_GRAIN = 2_000_000_000
"""Nanoseconds. A change within this time before the hashing may leave all times as they are (FAT: 2 s)."""

_CHUNK = 1 << 20

DEPTH_LIMIT = 200
"""Levels of directories of a volume that are read: each holds a file open."""


class Unreadable(Exception):
    """A file of a volume cannot be read by this process, or it changes now."""


class _TooDeep(Unreadable):
    """A volume has more than `DEPTH_LIMIT` levels."""


class Digests:
    """Digests of files by (device, inode, size, mtime, ctime): a file that did not change is read once. Thread-safe.

    A file on a file system in memory is read each time: a program that has mapped it changes it without its times.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], bytes] = {}

    def of(self, fd: int) -> bytes:
        """Return the digest of the regular file open at `fd`. Raises `Unreadable`, `OSError`."""
        begin = time.time_ns()
        facts = _facts(os.fstat(fd))
        if (known := self._known.get(facts)) is not None:
            return known
        with contextlib.suppress(OSError):  # a file system that does not have it
            write_back(fd)
        digest = hashlib.sha256()
        at = 0
        while data := os.pread(fd, _CHUNK, at):
            digest.update(data)
            at += len(data)
        if _facts(os.fstat(fd)) != facts or at != facts[2]:
            raise Unreadable("it changes now")
        found = digest.digest()
        if max(facts[3:]) < begin - _GRAIN and not in_memory(fd):
            self._known[facts] = found
        return found


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Content(NamedTuple):
    """The content of a volume, as a digest, and a digest of what shows each change of it, also one that was undone.

    Nothing can set ctime (inode(7)): a file whose change was undone has another one. `newest` is the newest one, in ns.
    """

    digest: str
    times: str
    newest: int


def content_of(volume: Volume, digests: Digests) -> Content:
    """Return the digest of all names, types, modes, links and contents in a volume of the host, and of all times.

    Owners and times are not in the first one. Raises `Unreadable` with the path of the file that cannot be read.
    """
    try:
        fd = os.open(volume.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"cannot read {volume.source}: {error.strerror}") from error
    reader = _Reader(digests)
    try:
        facts = os.fstat(fd)
        if (facts.st_dev, facts.st_ino) != (volume.device, volume.inode):
            raise Unreadable(f"cannot read {volume.source}: it was replaced")
        reader.read(fd, volume.source)
    finally:
        os.close(fd)
    return Content(reader.total.hexdigest(), reader.times.hexdigest(), reader.newest)


class _Reader:
    """Reads a file or directory, and all below it."""

    def __init__(self, digests: Digests) -> None:
        self._digests = digests
        self.total = hashlib.sha256()
        self.times = hashlib.sha256()
        self.newest = 0
        self._level = 0

    def _note(self, found: os.stat_result) -> None:
        self.times.update(repr(_facts(found)).encode())
        self.newest = max(self.newest, found.st_ctime_ns)

    def read(self, fd: int, path: str) -> None:
        """Read an open file or directory, which is `path` for messages. Raises `Unreadable`."""
        facts = os.fstat(fd)
        self._note(facts)
        self.total.update(b"%o\0" % facts.st_mode)
        try:
            if stat.S_ISREG(facts.st_mode):
                self.total.update(self._digests.of(fd))
            elif stat.S_ISDIR(facts.st_mode):
                self._level += 1
                if self._level > DEPTH_LIMIT:
                    raise _TooDeep(f"a read-only volume is nested deeper than {DEPTH_LIMIT} levels")
                for name in sorted(os.listdir(fd)):
                    self.total.update(os.fsencode(name) + b"\0")
                    self._below(fd, name, f"{path}/{name}")
                self.total.update(b"\0")
                self._level -= 1
        except _TooDeep:
            raise
        except Unreadable as error:
            raise error if path in str(error) else Unreadable(f"cannot read {path}: {error}") from error
        except OSError as error:
            raise Unreadable(f"cannot read {path}: {error.strerror}") from error

    def _below(self, folder: int, name: str, path: str) -> None:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            self._note(facts)
            self.total.update(b"link\0" + os.fsencode(os.readlink(name, dir_fd=folder)) + b"\0")
        elif not stat.S_ISREG(facts.st_mode) and not stat.S_ISDIR(facts.st_mode):
            self._note(facts)
            self.total.update(b"%o\0" % facts.st_mode)
        else:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                self.read(fd, path)
            finally:
                os.close(fd)
