"""openat2(2): opening inside a root without being led out of it; statx(2) and syncfs(2)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from ctypes import c_uint64

from nbcontainer.linux.libc import check, encode, int_, libc, syscall, unsigned

# <linux/openat2.h>
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# <linux/stat.h>, <linux/fcntl.h>
_STATX_BTIME = 0x800
_AT_EMPTY_PATH = 0x1000
_STATX = struct.Struct("=I76xqI164x")
"""struct statx: stx_mask, and stx_btime's seconds and nanoseconds."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64))


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), Linux 5.6. With RESOLVE_IN_ROOT, `dirfd` is the root for absolute links and for `..`.

    The caller closes the descriptor. Raises `OSError`.
    """
    how = _OpenHow(flags=flags, mode=mode, resolve=resolve)
    raw = path if isinstance(path, bytes) else encode(path)
    name = path if isinstance(path, str) else path.decode("utf-8", "replace")
    size = ctypes.c_size_t(ctypes.sizeof(how))
    return syscall("openat2", int_(dirfd), raw, ctypes.byref(how), size, path=name)


def birth_time(fd: int) -> int:
    """When a file or directory was made, in nanoseconds; 0 where its file system does not keep it (statx(2)).

    An inode's number is given again when a file is removed, and this tells the next one from it. Raises `OSError`.
    """
    found = ctypes.create_string_buffer(_STATX.size)
    syscall("statx", int_(fd), b"", int_(_AT_EMPTY_PATH), unsigned(_STATX_BTIME), found)
    mask, seconds, nanoseconds = _STATX.unpack(found.raw)
    return int(seconds * 10**9 + nanoseconds) if mask & _STATX_BTIME else 0


def syncfs(fd: int) -> None:
    """syncfs(2): brings the file system of `fd` to disk. Raises `OSError`, for failed writes since Linux 5.8."""
    check(libc.syncfs(fd), "syncfs")


def keeps_attributes(path: str) -> bool:
    """Whether the file system of a directory keeps attributes of users (xattr(7)); a tmpfs does since Linux 6.6.

    It is tried on the directory, which must be writable. Raises `OSError` where something else is wrong.
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
