"""The same in the notebook's own process: the calls that it makes through Python's modules."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from nbcontainer.linux import mounts
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher import connection
from tests.faults.points import Points
from tests.faults.tape import NOTEBOOK, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CALLS: tuple[tuple[object, str], ...] = (
    *(
        (os, name)
        for name in (
            "open pipe2 memfd_create mkdir rename replace unlink rmdir scandir listdir stat lstat chmod chown symlink "
            "readlink fchmod pwrite pread read write fsync dup pidfd_open ftruncate lseek fstat"
        ).split()
    ),
    (io, "open"),
    (fcntl, "flock"),
    (signal, "pidfd_send_signal"),
    (socket, "socketpair"),
    (subprocess, "Popen"),
    (mounts, "open_tree"),
    (mounts, "mount_setattr"),
    (protocol, "_send"),
    (protocol, "_take"),
)

_BOOT = "from nbcontainer.sandbox.launcher.entry import main"


class _Quiet(threading.local):
    quiet = False


_this_thread = _Quiet()


@contextlib.contextmanager
def unnoticed() -> Iterator[None]:
    """What this thread does in here passes no points: it is the test's own doing."""
    before, _this_thread.quiet = _this_thread.quiet, True
    try:
        yield
    finally:
        _this_thread.quiet = before


@contextlib.contextmanager
def points_everywhere(tape: Tape) -> Iterator[None]:
    """Points in this process, and in the launchers that it starts from now on."""
    points = Points(tape, NOTEBOOK)
    before = [(module, name, getattr(module, name)) for module, name in _CALLS]
    boot = connection._BOOT
    for module, name, function in before:
        setattr(module, name, _in_this_thread(name, function, points))
    connection._BOOT = boot.replace(_BOOT, f"from tests.faults.points import load; load({tape.path!r}); {_BOOT}")
    assert boot != connection._BOOT
    try:
        yield
    finally:
        connection._BOOT = boot
        for module, name, function in before:
            setattr(module, name, function)


def _in_this_thread(name: str, function: Callable[..., Any], points: Points) -> Callable[..., Any]:
    passing = points.before(name, function)
    return lambda *args, **keywords: (function if _this_thread.quiet else passing)(*args, **keywords)
