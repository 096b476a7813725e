"""The C library through ctypes: how it is called, and how its failures become `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import c_int, c_long, c_uint

from nbcontainer.linux.syscalls import NUMBERS

libc = ctypes.CDLL(None, use_errno=True)

_syscall = libc.syscall
_syscall.restype = c_long


def number(name: str) -> int:
    """The number of a system call on this machine. Raises `OSError` (ENOSYS) where it is not known."""
    try:
        return NUMBERS[os.uname().machine][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: no system call number known for {os.uname().machine}") from None


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
