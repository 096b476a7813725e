"""What an attacker has at hand in a cell: this file is put before every attack there, and needs nothing but Python.

Here it is imported for its names alone.
"""

from __future__ import annotations

import contextlib  # noqa: F401 - this and others are for the attacks
import ctypes
import errno
import fcntl  # noqa: F401
import json
import mmap  # noqa: F401
import os
import resource  # noqa: F401
import select  # noqa: F401
import signal  # noqa: F401
import socket  # noqa: F401
import stat  # noqa: F401
import struct  # noqa: F401
import sys
import threading  # noqa: F401
import time  # noqa: F401
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

NUMBERS: dict[str, int] = {}
"""By name, the numbers of system calls: filled when the attack is put together."""


def call(name: str | int, *arguments: int | bytes | ctypes.Array[Any] | None) -> int | str:
    """A system call, raw: what it returned, or the name of its errno."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    number = NUMBERS[name] if isinstance(name, str) else name
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    return result if result != -1 else errno.errorcode[ctypes.get_errno()]


def attempt(action: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a function returns, or the name of the errno that it raises."""
    try:
        return action(*arguments, **keywords)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def init_number() -> str:
    """Return the number of this program's init in its /proc, which need not be its own pid namespace's."""
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith("PPid:"))


def report(answer: object) -> None:
    """Says to the test what an attack returned."""
    sys.stdout.flush()
    os.write(1, b"\n" + json.dumps(answer).encode() + b"\n")  # after what a terminal may have echoed
