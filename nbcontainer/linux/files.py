"""Files: openat2(2), which opens paths inside a root without escaping; statx(2), syncfs(2), attributes, holes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import sys
from ctypes import c_uint64
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.libc import check, encode, int_, libc, prepared, syscall, unsigned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# <linux/openat2.h>
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_TRIES = 128
"""How often a lookup is tried that renames disturb: who renames without end gets an error."""

# <asm-generic/ioctls.h>
TIOCGPTN = 0x80045430
TIOCSPTLCK = 0x40045431
TIOCSWINSZ = 0x5414
TIOCGPTPEER = 0x5441

# <linux/fs.h>
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000

# <linux/stat.h>, <linux/fcntl.h>
_STATX_BTIME = 0x800
_AT_EMPTY_PATH = 0x1000
_STATX = struct.Struct("=I76xqI164x")
"""struct statx: stx_mask, and stx_btime's seconds and nanoseconds."""

# <linux/magic.h>: tmpfs, ramfs, hugetlbfs and overlayfs
_IN_MEMORY = frozenset({0x01021994, 0x858458F6, 0x958458F6, 0x794C7630})
_STATFS = 256
"""Bytes, more than struct statfs has; its first field is the type (fstatfs(2))."""

# <linux/fs.h>
_WAIT_AND_WRITE = 3


GRAIN = 64 << 10
"""Bytes: zeros are looked for in pieces of this size."""

_ZEROS = bytes(GRAIN)
_BUFFER = 1 << 20


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6; return the descriptor. With RESOLVE_IN_ROOT, absolute links and `..` stop at `dirfd`.

    A lookup of `..` that a rename disturbs, anywhere on the machine, is EAGAIN: it is tried again. The caller closes
    the descriptor. Raises `OSError`.
    """
    return opener(dirfd, path, flags, mode, resolve)()


def opener(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> Callable[[], int]:
    """Return a function that calls `openat2` with these arguments, for a path that is opened often."""
    how = _OpenHow(flags=flags, mode=mode, resolve=resolve)
    raw = path if isinstance(path, bytes) else encode(path)
    name = path if isinstance(path, str) else path.decode("utf-8", "replace")
    size = ctypes.c_size_t(ctypes.sizeof(how))
    call = prepared("openat2", int_(dirfd), raw, ctypes.byref(how), size, path=name)
    if not resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT):
        return call

    def opened() -> int:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(BlockingIOError):
                return call()
        return call()

    return opened


def birth_time(fd: int) -> int:
    """When a file or directory was made, in nanoseconds; 0 where its file system does not keep it (statx(2)).

    An inode's number is given again when a file is removed, and this differs between the two. Raises `OSError`.
    """
    found = ctypes.create_string_buffer(_STATX.size)
    syscall("statx", int_(fd), b"", int_(_AT_EMPTY_PATH), unsigned(_STATX_BTIME), found)
    mask, seconds, nanoseconds = _STATX.unpack(found.raw)
    return int(seconds * 10**9 + nanoseconds) if mask & _STATX_BTIME else 0


def syncfs(fd: int) -> None:
    """syncfs(2): write the file system of `fd` to disk. Raises `OSError`, also for failed writes since Linux 5.8."""
    check(libc.syncfs(fd), "syncfs")


def write_back(fd: int) -> None:
    """Begin to write the changed pages of a file to its device (sync_file_range(2)).

    Until then, a program that has mapped such a page can change it without a change of the file's times. Only pages
    that are being written already are waited for: they could have been changed again. Raises `OSError`.
    """
    check(libc.sync_file_range(int_(fd), c_uint64(0), c_uint64(0), unsigned(_WAIT_AND_WRITE)), "sync_file_range")


def in_memory(fd: int) -> bool:
    """Return whether a file is on a file system in memory, or on an overlay, whose upper layer may be on one.

    There, a program that has mapped a file can change it without a change of its times (fstatfs(2)). Raises `OSError`.
    """
    found = ctypes.create_string_buffer(_STATFS)
    check(libc.fstatfs(int_(fd), found), "fstatfs")
    return ctypes.c_long.from_buffer(found).value in _IN_MEMORY


def data_grains(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the bytes of each grain of a file of `size` bytes that has more than zeros, in order.

    The same content gives the same grains, however it is stored. The file system's holes are not read (SEEK_DATA,
    lseek(2)): a file of terabytes without data takes no time. A file that shrinks meanwhile ends early. Raises
    `OSError`.
    """
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                return
            raise
        if start >= size:  # it grows
            return
        offset = max(offset, start - start % GRAIN)
        data = os.pread(fd, min(_BUFFER, size - offset), offset)
        for at in range(0, len(data), GRAIN):
            if not data.startswith(_ZEROS[: len(data) - at], at):
                yield offset + at, data[at : at + GRAIN]
        if not data:
            return
        offset += len(data)


def keeps_attributes(path: str) -> bool:
    """Return whether the file system of a directory keeps user attributes (xattr(7)); a tmpfs does since Linux 6.6.

    Tries it on the directory, which must be writable. Raises `OSError` if anything else is wrong.
    """
    name = "user.nbcontainer"
    try:
        os.setxattr(path, name, b"")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    with contextlib.suppress(OSError):
        os.removexattr(path, name)
    return True


def write_once(path: str, text: str) -> None:
    """Write to an existing file with one write(2), as the kernel requires for ids and control groups.

    Raises `OSError` with the path as its `filename`.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = path
        raise


def ioctl(fd: int, request: int, argument: int | bytes = 0) -> Any:
    """ioctl(2): return its result for a number, the changed bytes for bytes."""
    return fcntl.ioctl(fd, request, argument)


_TEXT_LIMIT = 1 << 20
_CHUNK = 1 << 14  # bytes; a buffer of a megabyte is mapped and taken down for every file


def spread(path: str, call: Callable[[int, int, bytes], Any] = ioctl) -> None:
    """Have ext4 place the subdirectories of `path` (host) in many block groups: `chattr +T` (ioctl_iflags(2)).

    Raises `OSError`, for another file system and a directory of another user, too.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = int.from_bytes(call(fd, _FS_IOC_GETFLAGS, bytes(4)), sys.byteorder)
        if not flags & _FS_TOPDIR_FL:
            call(fd, _FS_IOC_SETFLAGS, (flags | _FS_TOPDIR_FL).to_bytes(4, sys.byteorder))
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    """Return the text of a small file, at most 1 MiB of it; empty if it cannot be read."""
    try:
        # The open of a pipe would wait for a writer (fifo(7)).
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = b""
        while len(text) < _TEXT_LIMIT and (more := os.read(fd, _CHUNK)):
            text += more
        return text.decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
