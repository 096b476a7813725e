"""The store's directories: a mode that does not depend on the notebook's umask, and their place on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPEN = 0o755


def make_open(path: str | Path, more: int = 0) -> None:
    """Make a directory of the mode 0755, with the bits `more`: a umask takes none (mkdir(2)). Raises `OSError`.

    Nothing is left if that fails.
    """
    os.mkdir(path, OPEN)  # noqa: PTH102 - each cell makes three, as strings
    try:
        os.chmod(path, OPEN | more)  # noqa: PTH101
    except OSError:
        os.rmdir(path)  # noqa: PTH106
        raise


def keep_open(path: Path) -> None:
    """Make a directory and its parents, or open one that was made under another umask. Raises `OSError`."""
    path.mkdir(parents=True, exist_ok=True)
    if stat.S_IMODE(path.stat().st_mode) & OPEN != OPEN:
        path.chmod(OPEN)


_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # <linux/fs.h>: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
_TOPDIR = 0x00020000  # FS_TOPDIR_FL


def spread(path: str | Path) -> None:
    """Have ext4 place the subdirectories of a directory (host) in many block groups (ioctl_iflags(2), `chattr +T`).

    Each cell makes and removes seven directories and files there. A new one is not given the inode of one that was
    removed in the last five minutes: within a block group, ext4 looks at each of those first (recently_deleted() in
    fs/ext4/ialloc.c), so that a cell would take longer the more there were before. Other file systems refuse the flag,
    which is ignored.
    """
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = struct.unpack("=I", fcntl.ioctl(fd, _GET_FLAGS, bytes(4)))[0]
            if not flags & _TOPDIR:
                fcntl.ioctl(fd, _SET_FLAGS, struct.pack("=I", flags | _TOPDIR))
        finally:
            os.close(fd)
