"""Pauses of what runs in a container, while it is copied: they end when the process ends that asked for them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerBusy, ContainerError
from nbcontainer.linux.process import library_path
from nbcontainer.sandbox.launcher.connection import import_path
from nbcontainer.sandbox.pause_file import resume_left
from nbcontainer.sandbox.standstill import BUSY, HELD, LET_GO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.store.layout import Store

_BOOT = """
import pathlib, sys
sys.path += sys.argv[6:]
from nbcontainer.sandbox.standstill import main
main(*map(int, sys.argv[1:4]), pathlib.Path(sys.argv[4]), float(sys.argv[5]))
"""

_OTHERS = 60.0
"""Seconds to wait for another pause of the same container."""

_END = 10.0
"""Seconds for a guard to end, which it does at once."""


def pause_path(store: Store, upper: str) -> Path:
    """The file (host) of pauses of the container that writes to this upper; see `nbcontainer.sandbox.pause_file`."""
    return store.path / "tmp" / f"{upper}.pause"


def wake(store: Store, init: int, upper: str) -> None:
    """Resume a running container that a killed copy left stopped: its init's host pid, and its upper's id."""
    with contextlib.suppress(OSError):  # the command itself meets what is wrong with the store
        resume_left(init, pause_path(store, upper))


@contextlib.contextmanager
def paused(init: int, path: Path) -> Iterator[None]:
    """Hold the processes below a container's init still; see `nbcontainer.sandbox.standstill`.

    What was stopped already stays so. `path` is for `pause_path`: another pause of the same container is waited for.
    Raises `ContainerBusy` where that lasts, `ContainerError`, `OSError`.
    """
    ours, theirs = socket.socketpair()
    with ours:
        guard = _start(theirs, init, path)
        try:
            _check_held(ours.recv(1))
            yield
            ours.shutdown(socket.SHUT_WR)
            if ours.recv(1) != LET_GO:
                raise ContainerError("the container continued while it was copied", hint="copy it again")
        finally:
            ours.close()
            _end(guard)


def _start(channel: socket.socket, init: int, path: Path) -> subprocess.Popen[bytes]:
    """Start the guard, at the other end of `channel`, which is closed here."""
    this = os.pidfd_open(os.getpid())
    words = [str(channel.fileno()), str(this), str(init), str(path), str(_OTHERS), *import_path()]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[channel.fileno(), this],
            env=library_path(),
            cwd="/",
            start_new_session=True,
        )
    finally:
        channel.close()
        os.close(this)


def _check_held(answer: bytes) -> None:
    if answer == BUSY:
        hint = "try again when that has ended"
        raise ContainerBusy("another process has been copying the container for a minute", hint=hint)
    if answer != HELD:
        raise ContainerError("the container cannot be paused", hint="try again")


def _end(guard: subprocess.Popen[bytes]) -> None:
    """Wait until the guard has ended, and what it held continues."""
    try:
        guard.wait(_END)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
