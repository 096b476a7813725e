"""Inspecting untrusted archives and trees; `nbcontainer.images.sandboxed` does it inside a sandbox."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.errors import HostileArchive
from nbcontainer.images.layers.compression import Reader
from nbcontainer.images.layers.limits import Limits
from nbcontainer.images.layers.tar_format import DIRECTORY
from nbcontainer.images.layers.tar_reader import Stream, TarReader

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSPECTED = 1 << 20  # bytes of the archive as it is in the file
_NAMES = 16
_BLOCK = 512  # of st_blocks, stat(2)
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def first_names(fd: int) -> list[tuple[str, bool]]:
    """Return (name, whether a directory) of the first entries in the archive of `fd`, up to the first file.

    The file's offset stays as it is. The list is empty if the file is not an archive.
    """
    found: list[tuple[str, bool]] = []
    reader = TarReader(Stream(_beginning(fd)), Limits(), end_needed=False)
    # The archive is truncated here; other errors are raised when it is unpacked.
    with contextlib.suppress(HostileArchive):
        while len(found) < _NAMES and (member := reader.next()) is not None:
            found.append((os.fsdecode(member.name), member.type == DIRECTORY))
            if not found[-1][1]:
                break
    return found


def _beginning(fd: int) -> Iterator[bytes]:
    offset = 0

    def read(size: int) -> bytes:
        nonlocal offset
        data = os.pread(fd, min(size, _INSPECTED - offset), offset)
        offset += len(data)
        return data

    return Reader(read).chunks()


def usage(root_fd: int) -> dict[str, int]:
    """Return the bytes on disk of each entry of the root, with everything below it; hard links count once.

    What another process removes meanwhile does not count.
    """
    seen: set[tuple[int, int]] = set()
    return {name: _size(root_fd, name, seen) for name in _names(root_fd)}


def _size(root_fd: int, name: str, seen: set[tuple[int, int]]) -> int:
    """Return the size of one entry of any depth: at most two descriptors are open, and the way back is `..`."""
    total, waiting = _count(root_fd, [name], seen)
    fd = os.dup(root_fd)
    ways = [waiting]
    try:
        while ways:
            if ways[-1]:
                below = _below(fd, ways[-1].pop())
                if below is None:
                    continue
                os.close(fd)
                fd = below
                more, waiting = _count(fd, _names(fd), seen)
                total += more
                ways.append(waiting)
            else:
                ways.pop()
                if ways:
                    above = os.open("..", _LIST, dir_fd=fd)
                    os.close(fd)
                    fd = above
        return total
    except FileNotFoundError:  # the way back: a directory that was removed has no parent
        return total
    finally:
        os.close(fd)


def _names(fd: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(fd) as entries:
        return [entry.name for entry in entries]
    return []


def _below(fd: int, name: str) -> int | None:
    """Return a descriptor of a directory in a directory, None if it was removed or replaced."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.open(name, _LIST, dir_fd=fd)
    return None


def _count(fd: int, names: list[str], seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """Return the bytes on disk of these entries of a directory, and which of them are directories."""
    total, folders = 0, []
    for name in names:
        try:
            facts = os.lstat(name, dir_fd=fd)
        except FileNotFoundError:
            continue
        if stat.S_ISDIR(facts.st_mode):
            folders.append(name)
        elif facts.st_nlink > 1:
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
        total += facts.st_blocks * _BLOCK
    return total, folders
