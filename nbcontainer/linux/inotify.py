"""inotify(7): events of a directory."""

from __future__ import annotations

import os

from nbcontainer.linux.libc import check, encode, libc

# <sys/inotify.h>
MODIFIED = 0x00000002
CREATED = 0x00000100
MOVED_TO = 0x00000080

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


def watch(directory: int, events: int) -> int:
    """Return an inotify descriptor that is readable after events in the directory open at `directory`.

    The caller closes it. Raises `OSError`.
    """
    fd = check(libc.inotify_init1(_FLAGS), "inotify_init1")
    try:
        check(libc.inotify_add_watch(fd, encode(f"/proc/self/fd/{directory}"), events), "inotify_add_watch")
    except BaseException:
        os.close(fd)
        raise
    return fd
