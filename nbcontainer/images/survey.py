"""Looking at archives and trees that nobody trusts; `nbcontainer.images.work` does it inside a sandbox."""

from __future__ import annotations

import os
import stat

from nbcontainer.errors import HostileArchive
from nbcontainer.images.compression import Reader, write_all
from nbcontainer.images.limits import Limits
from nbcontainer.images.tar_format import DIRECTORY
from nbcontainer.images.tar_reader import Stream, TarReader

_LOOKED_AT = 60 << 10  # bytes of the uncompressed archive; they must fit into a pipe
_COMPRESSED = 1 << 20
_NAMES = 16
_BLOCK = 512  # of st_blocks, stat(2)


def first_names(fd: int) -> list[tuple[str, bool]]:
    """The first entries of the archive in the file `fd`, up to the first that is no directory: name, directory?

    The file's offset stays as it is. Nothing for what is no archive.
    """
    found: list[tuple[str, bool]] = []
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            write_all(writing, _beginning(fd))
        finally:
            os.close(writing)
        reader = TarReader(Stream(reading, lambda: None), Limits(), end_needed=False)
        while len(found) < _NAMES and (member := reader.next()) is not None:
            found.append((os.fsdecode(member.name), member.type == DIRECTORY))
            if not found[-1][1]:
                break
    except HostileArchive:
        pass  # it is cut off here; what is wrong in truth shows when it is unpacked
    finally:
        os.close(reading)
    return found


def _beginning(fd: int) -> bytes:
    offset = 0

    def read(size: int) -> bytes:
        nonlocal offset
        data = os.pread(fd, min(size, _COMPRESSED - offset), offset)
        offset += len(data)
        return data

    data = b""
    try:
        for chunk in Reader(read).chunks():
            data += chunk
            if len(data) >= _LOOKED_AT:
                break
    except HostileArchive:
        pass
    return data[:_LOOKED_AT]


def usage(root_fd: int) -> dict[str, int]:
    """Bytes on disk of each directory in the root, all below it counted; hard links count once."""
    found: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for name in os.listdir(root_fd):
        found[name] = 0
        for _, folders, files, fd in os.fwalk(name, dir_fd=root_fd):
            for one in (*folders, *files):
                facts = os.lstat(one, dir_fd=fd)
                key = (facts.st_dev, facts.st_ino)
                if facts.st_nlink == 1 or stat.S_ISDIR(facts.st_mode) or key not in seen:
                    found[name] += facts.st_blocks * _BLOCK
                    seen.add(key)
    return found
