"""The log of a job: a file with all that the job wrote to its streams, and with its end.

The first line has the form of the file. Then come records: a line `NUMBER TIME STREAM LENGTH`, and as many bytes of
output. Times are in nanoseconds since 1970. The length is counted here, so output cannot imitate a record.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.outcome import Outcome

KEPT = 16 << 20
"""Bytes of a log that are kept at least; a log has at most twice as many."""

FORM, INERT = "nbcontainer-log 1", "inert"
"""How the file begins, and the mark of a job whose output must not control a terminal (`--untrusted`)."""

_STEP = 64 << 10
"""Bytes between two places where a log can begin after a rotation."""


class LogStream(enum.StrEnum):
    """What a record has: output, errors, or the end of the job."""

    OUT = "o"
    ERR = "e"
    END = "x"


@dataclass(frozen=True)
class LogRecord:
    """One piece of output. `number` counts the records of a log, `time` is in nanoseconds since 1970."""

    number: int
    time: int
    stream: LogStream
    data: bytes

    def encoded(self) -> bytes:
        """Return the record as it is in the file."""
        return f"{self.number} {self.time} {self.stream} {len(self.data)}\n".encode() + self.data


class Log:
    """Writes a log at `path` (host), which must not exist. Thread-safe. `close` writes the end. Raises `OSError`.

    On a full disk the job continues: the log says later how many bytes it lacks.
    """

    def __init__(self, path: Path, *, inert: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._number = 0
        self._lost = 0
        self._inert = inert
        self._marks: deque[int] = deque()
        self._fd = self._opened(path)
        self._size = os.write(self._fd, self._head())

    def _opened(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _head(self) -> bytes:
        return f"{FORM} {INERT}\n".encode() if self._inert else f"{FORM}\n".encode()

    def stdout(self, data: bytes) -> None:
        """Add standard output."""
        self._add(LogStream.OUT, data)

    def stderr(self, data: bytes) -> None:
        """Add standard error."""
        self._add(LogStream.ERR, data)

    def _add(self, stream: LogStream, data: bytes) -> None:
        with self._lock:
            if self._fd < 0:
                return
            if self._lost and stream is not LogStream.END:
                note = f"\nnbcontainer: {self._lost} bytes of output are not in the log: the disk was full\n"
                if self._written(LogStream.ERR, note.encode()):
                    self._lost = 0
            if not self._written(stream, data):
                self._lost += len(data)

    def _written(self, stream: LogStream, data: bytes) -> bool:
        """Write one whole record or no byte; return whether it is written."""
        try:
            if self._size + len(data) > 2 * KEPT:
                self._rotate()
            record = LogRecord(self._number + 1, time.time_ns(), stream, data).encoded()
            if os.pwrite(self._fd, record, self._size) < len(record):
                raise OSError("a part is written")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            return False
        if not self._marks or self._size - self._marks[-1] >= _STEP:
            self._marks.append(self._size)
        self._number += 1
        self._size += len(record)
        return True

    def _rotate(self) -> None:
        """Replace the file by one with the newest records. A reader finds them by their numbers. Raises `OSError`."""
        first = next((mark for mark in self._marks if mark >= self._size - KEPT), self._size)
        place = self.path.with_name(f"{self.path.name}.new")
        place.unlink(missing_ok=True)
        fd = self._opened(place)
        try:
            size = os.write(fd, self._head())
            shift, offset = first - size, first
            while offset < self._size:
                offset += os.sendfile(fd, self._fd, offset, self._size - offset)
            place.rename(self.path)
        except BaseException:
            os.close(fd)
            place.unlink(missing_ok=True)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, self._size - shift
        self._marks = deque(mark - shift for mark in self._marks if mark >= first)

    def close(self, outcome: Outcome | None, problem: str = "") -> None:
        """Write how the job ended: the outcome, or the error for which it has none. Idempotent."""
        values: dict[str, Any] = {"outcome": None if outcome is None else outcome.as_dict(), "problem": problem}
        self._add(LogStream.END, json.dumps(values).encode())
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
