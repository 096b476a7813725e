"""The C library through ctypes: calls, and their failures as `OSError`."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from ctypes import c_int, c_long, c_uint
from typing import TYPE_CHECKING

from nbcontainer.linux.syscalls import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True)

_syscall = libc.syscall
_syscall.restype = c_long


@functools.cache
def machine() -> str:
    """Return this machine's architecture, as uname(2) names it."""
    return os.uname().machine


def number(name: str) -> int:
    """Return the number of a system call on this machine. Raises `OSError` (ENOSYS) if it is not known."""
    try:
        return NUMBERS[machine()][name]
    except KeyError:
        raise OSError(errno.ENOSYS, f"{name}: no system call number known for {machine()}") from None


def check(result: int, call: str, path: str | os.PathLike[str] | None = None) -> int:
    """Return `result`; if it is -1, raise an `OSError` that names the call, with `path` as its `filename`."""
    if result != -1:
        return result
    code = ctypes.get_errno()
    error = OSError(code, f"{call}: {os.strerror(code)}")
    if path is not None:
        error.filename = os.fspath(path)
    raise error


def syscall(name: str, *arguments: object, path: str | None = None) -> int:
    """Make the system call `name` directly (syscall(2)). Raises `OSError`."""
    return check(_syscall(c_long(number(name)), *arguments), name, path)


def prepared(name: str, *arguments: object, path: str | None = None) -> Callable[[], int]:
    """Return a function that makes a system call with these arguments: a third of the time of `syscall`."""
    call = functools.partial(_syscall, c_long(number(name)), *arguments)
    return lambda: check(call(), name, path)


def encode(path: str | None) -> bytes | None:
    """Return the bytes of a path or string; None, which is passed as a null pointer, for None."""
    return None if path is None else os.fsencode(path)


int_ = c_int
unsigned = c_uint
