"""The C library through ctypes: how it is called, and how its failures become `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from ctypes import c_int, c_long, c_uint

libc = ctypes.CDLL(None, use_errno=True)

# System calls that Debian 12's glibc (2.36) has no wrapper for, or that CPython 3.11 does not show.
# The numbers above 423 are the same on every architecture (asm-generic/unistd.h and since Linux 5.1 all others).
_NUMBERS_BY_MACHINE = {
    "x86_64": {"clone": 56, "pivot_root": 155, "capset": 126},
    "aarch64": {"clone": 220, "pivot_root": 41, "capset": 91},
    "riscv64": {"clone": 220, "pivot_root": 41, "capset": 91},
    "ppc64le": {"clone": 120, "pivot_root": 203, "capset": 184},
}
_NUMBERS_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}

_syscall = libc.syscall
_syscall.restype = c_long


def number(name: str) -> int:
    """The number of a system call on this machine. Raises `OSError` (ENOSYS) where it is not known."""
    if (common := _NUMBERS_COMMON.get(name)) is not None:
        return common
    try:
        return _NUMBERS_BY_MACHINE[platform.machine()][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: no system call number known for {platform.machine()}") from None


def check(result: int, call: str, path: str | os.PathLike[str] | None = None) -> int:
    """`result`, or an `OSError` whose text names the call and whose `filename` is the path it was about."""
    if result != -1:
        return result
    code = ctypes.get_errno()
    error = OSError(code, f"{call}: {os.strerror(code)}")
    if path is not None:
        error.filename = os.fspath(path)
    raise error


def syscall(name: str, *arguments: object, path: str | None = None) -> int:
    """Calls system call `name` directly (syscall(2)). Raises `OSError`."""
    return check(_syscall(c_long(number(name)), *arguments), name, path)


def encode(path: str | None) -> bytes | None:
    """A path or string as the kernel takes it; None is a null pointer."""
    return None if path is None else os.fsencode(path)


int_ = c_int
unsigned = c_uint
