"""What the processes of one notebook share with the faults: who is to fail or stop where, and how far each has come.

It is a file that every one of them has mapped. A mapping outlives the descriptors that init closes, the root that it
switches and the filter that it installs.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LAUNCHER, INIT, CHILD, NOTEBOOK, HELPER = range(5)
"""Whose a point is. CHILD is init's child that is a function of the package, HELPER the launcher's that writes maps."""

ROLES = ("launcher", "init", "child", "notebook", "helper")

OFF, ARMED, WAITING, FIRED, RECORDING = range(5)

WAIT = -1
"""In place of an errno: to stop there, until somebody has killed somebody."""

_FORMAT = struct.Struct("=iiiiiI5I")  # state, role, position, action, times, init's pid, points passed by each role
_NAME = _FORMAT.size
_NAME_SIZE = 64
_LOG = 1024
_LOG_SIZE = 1 << 16
"""Of each role: the processes write at the same time, without a lock."""
_SIZE = _LOG + len(ROLES) * _LOG_SIZE


class Tape:
    """The file at `path`, mapped; made if it is not there."""

    def __init__(self, path: Path | str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self.path = str(path)

    def _get(self, index: int) -> int:
        return int(struct.unpack_from("=i", self._map, 4 * index)[0])

    def _set(self, index: int, value: int) -> None:
        struct.pack_into("=i", self._map, 4 * index, value)

    # The notebook's side

    def arm(self, role: int, position: int, action: int, times: int = 1) -> None:
        """Has the process in that role fail with errno `action`, or WAIT, at its point number `position` from now on.

        `times` are the points from there on that fail.
        """
        _FORMAT.pack_into(self._map, 0, OFF, role, position, action, times, 0, *[0] * 5)
        self._map[_NAME : _NAME + _NAME_SIZE] = bytes(_NAME_SIZE)
        self._set(0, ARMED)

    def record(self) -> None:
        """Writes down every point that is passed from now on."""
        _FORMAT.pack_into(self._map, 0, OFF, 0, 0, 0, 0, 0, *[0] * 5)
        for role in range(len(ROLES)):
            struct.pack_into("=I", self._map, _log(role), 0)
        self._set(0, RECORDING)

    def off(self) -> None:
        """Lets everybody go on, and disturbs nobody."""
        self._set(0, OFF)

    @property
    def state(self) -> int:
        return self._get(0)

    @property
    def at(self) -> str:
        """The name of the point where it fired; empty where it did not."""
        return self._map[_NAME : _NAME + _NAME_SIZE].rstrip(b"\0").decode()

    @property
    def init(self) -> int:
        """Host pid of the last init."""
        return self._get(5)

    def points(self, role: int) -> list[str]:
        """The names of the points that a role passed while it was recorded."""
        (length,) = struct.unpack_from("=I", self._map, _log(role))
        start = _log(role) + 4
        return self._map[start : start + length].decode().splitlines()

    # The side of whoever comes to a point

    def note_init(self, pid: int) -> None:
        self._set(5, pid)

    def passing(self, role: int, name: str) -> int:
        """The errno that the point is to fail with, 0 for none. Waits here where that is asked."""
        state = self._get(0)
        if state in (OFF, WAITING):
            return 0
        if state == RECORDING:
            self._write_down(role, f"{name}\n".encode())
            return 0
        number = self._get(6 + role)
        self._set(6 + role, number + 1)
        wanted, position, action, times = (self._get(index) for index in (1, 2, 3, 4))
        if role != wanted or not position <= number < position + times:
            return 0
        self.name(name)
        if action != WAIT:
            if number == position + times - 1:
                self._set(0, FIRED)
            return action
        self._set(0, WAITING)
        while self._get(0) == WAITING:
            time.sleep(0.0005)
        return 0

    def name(self, name: str) -> None:
        """Says where it fired."""
        self._map[_NAME : _NAME + _NAME_SIZE] = name.encode()[:_NAME_SIZE].ljust(_NAME_SIZE, b"\0")

    def _write_down(self, role: int, line: bytes) -> None:
        log = _log(role)
        (length,) = struct.unpack_from("=I", self._map, log)
        start = log + 4 + length
        if start + len(line) < log + _LOG_SIZE:
            self._map[start : start + len(line)] = line
            struct.pack_into("=I", self._map, log, length + len(line))


def _log(role: int) -> int:
    """Return where the log of a role is: its length, and a line for each point."""
    return _LOG + role * _LOG_SIZE
