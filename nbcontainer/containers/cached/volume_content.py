"""The content of read-only volumes, as one digest.

A container can have made the files of a volume: links are not followed, and only regular files are opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.spec import Volume

_GRAIN = 2_000_000_000
"""Nanoseconds. A change within this time before the hashing may leave all times as they are (FAT: 2 s)."""

_CHUNK = 1 << 20


class Unreadable(Exception):
    """A file of a volume cannot be read by this process, or it changes now."""


class Digests:
    """Digests of files by (device, inode, size, mtime, ctime): a file that did not change is read once. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], bytes] = {}

    def of(self, fd: int) -> bytes:
        """Return the digest of the regular file open at `fd`. Raises `Unreadable`, `OSError`."""
        begin = time.time_ns()
        facts = _facts(fd)
        if (known := self._known.get(facts)) is not None:
            return known
        digest = hashlib.sha256()
        at = 0
        while data := os.pread(fd, _CHUNK, at):
            digest.update(data)
            at += len(data)
        if _facts(fd) != facts or at != facts[2]:
            raise Unreadable("it changes now")
        found = digest.digest()
        if max(facts[3:]) < begin - _GRAIN:
            self._known[facts] = found
        return found


def _facts(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def content_of(volume: Volume, digests: Digests) -> str:
    """Return the digest of all names, types, modes, links and contents in a volume of the host.

    Owners and times are not in it. Raises `Unreadable` with the path of the file that cannot be read.
    """
    total = hashlib.sha256()
    try:
        fd = os.open(volume.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(f"cannot read {volume.source}: {error.strerror}") from error
    try:
        facts = os.fstat(fd)
        if (facts.st_dev, facts.st_ino) != (volume.device, volume.inode):
            raise Unreadable(f"cannot read {volume.source}: it was replaced")
        for line in _opened(fd, volume.source, digests):
            total.update(line)
    finally:
        os.close(fd)
    return total.hexdigest()


def _opened(fd: int, path: str, digests: Digests) -> Iterator[bytes]:
    """Yield what stands for an open file or directory, and all below it."""
    mode = os.fstat(fd).st_mode
    yield b"%o\0" % mode
    try:
        if stat.S_ISREG(mode):
            yield digests.of(fd)
        elif stat.S_ISDIR(mode):
            for name in sorted(os.listdir(fd)):
                yield os.fsencode(name) + b"\0"
                yield from _below(fd, name, f"{path}/{name}", digests)
            yield b"\0"
    except Unreadable as error:
        raise error if path in str(error) else Unreadable(f"cannot read {path}: {error}") from error
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def _below(folder: int, name: str, path: str, digests: Digests) -> Iterator[bytes]:
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        yield b"link\0" + os.fsencode(os.readlink(name, dir_fd=folder)) + b"\0"
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        yield b"%o\0" % mode
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        yield from _opened(fd, path, digests)
