"""Pipes for the streams of a cell (pipe(7))."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import termios

PIPE_SIZE = 1 << 20
"""Bytes of an enlarged pipe: fewer switches between its writer and its reader. It is the default limit (pipe(7))."""


def enlarge_pipe(fd: int) -> None:
    """Make a pipe's buffer PIPE_SIZE large (F_SETPIPE_SZ, fcntl(2)).

    It stays as it is if the user's pipes use as much memory as they may (pipe(7)): slower, but correct.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)


def output_pipe() -> tuple[int, int]:
    """Return a pipe for one stream: (read end, write end), close-on-exec. The caller closes both.

    Its mode lets every user of the container open /dev/stdout, which is /proc/self/fd/1. The pipe's owner is the
    notebook's user, which may be missing in the container.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.fchmod(writer, 0o666)
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    enlarge_pipe(writer)
    return reader, writer


def read_now(fd: int, size: int) -> bytes:
    """Read what a descriptor has, as read(2) does, but do not wait if another process has taken it since poll(2).

    Raises `BlockingIOError` then. A terminal or a socket may wait nonetheless (RWF_NOWAIT in preadv2(2)).
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # a file may be on a disk, for which this waits
        buffer = bytearray(size)
        try:
            return bytes(buffer[: os.preadv(fd, [buffer], -1, os.RWF_NOWAIT)])
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE):
                raise
    return os.read(fd, size)


def waiting_in(fd: int) -> int:
    """Return how many bytes a pipe holds (FIONREAD, pipe(7)); 0 if it is closed."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"), sys.byteorder)
    except OSError:
        return 0
