"""Reading the log of a job, in this process or in another one, while it is written or afterwards."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from nbcontainer.containers.jobs.log import FORM, INERT, LogRecord, LogStream
from nbcontainer.errors import StoreError
from nbcontainer.linux import inotify
from nbcontainer.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_CHUNK = 1 << 20
"""Bytes that are read at once. A record is much shorter: the supervisor reads 64 KiB at most."""

_RECORD = re.compile(rb"([0-9]{1,18}) ([0-9]{1,20}) ([oex]) ([0-9]{1,18})")
_HEAD = 100  # bytes that the first line has at most
_TURN = 0.1
"""Seconds between two looks at a log, if the kernel cannot report that it has grown, and at whether its job runs."""


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: its outcome, or the problem for which it has none."""

    outcome: Outcome | None
    problem: str = ""

    @classmethod
    def from_record(cls, record: LogRecord) -> JobEnd:
        """Return the end that a record of the stream END states."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            values: dict[str, Any] = json.loads(record.data)
            outcome = values["outcome"]
            return cls(None if outcome is None else Outcome.from_dict(outcome), str(values["problem"]))
        return cls(None, "its end cannot be read")

    def describe(self) -> str:
        """Return the end in one short phrase."""
        return self.outcome.describe() if self.outcome is not None else self.problem


class LogReader:
    """Reads the log at `path` (host), also across rotations. A context manager.

    Raises `OSError` if there is none, and `StoreError` for one that is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inert = False
        """Whether the output must not control a terminal."""
        self.end: JobEnd | None = None
        """How the job ended, once that record has been read."""
        self._number = 0
        self._fd = -1
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.close()
        self._fd = fd
        head, newline, _ = os.pread(fd, _HEAD, 0).partition(b"\n")
        if not newline or not head.startswith(FORM.encode()):
            raise OSError(errno.EINVAL, "not a log", str(self.path))
        self.inert = INERT.encode() in head.split()
        self._start, self._data, self._at = len(head) + 1, b"", 0

    def records(self) -> Iterator[LogRecord]:
        """Yield the records of output that were not read before; then `end` is set if the job has ended."""
        while self.end is None:
            record = self._next()
            if record is None:
                if self._is_current():
                    return
                self._open()
            elif record.number > self._number or record.number == 1:  # a rotation drops the first: it is another log
                self._number = record.number
                if record.stream is LogStream.END:
                    self.end = JobEnd.from_record(record)
                else:
                    yield record

    def _next(self) -> LogRecord | None:
        """Return the next whole record of the open file; None if there is none yet.

        A part of a record is not kept: on a full disk it is replaced by another one.
        """
        if (found := self._parsed()) is None:
            self._start, self._at = self._start + self._at, 0
            self._data = os.pread(self._fd, _CHUNK, self._start)
            found = self._parsed()
        return found

    def _parsed(self) -> LogRecord | None:
        """Return the next whole record of what has been read, and move behind it.

        Raises `StoreError` for a line that no record begins with, as a crash of the host can leave it.
        """
        begin = self._data.find(b"\n", self._at) + 1
        if not begin:
            return None
        if (head := _RECORD.fullmatch(self._data, self._at, begin - 1)) is None:
            hint = "the output before it is whole; the next job in the container begins a new log"
            raise StoreError(f"the log of a job at {self.path} is damaged after record {self._number}", hint=hint)
        number, time, stream, length = head.groups()
        end = begin + int(length)
        if end > len(self._data):
            return None
        self._at = end
        return LogRecord(int(number), int(time), LogStream(stream.decode()), self._data[begin:end])

    def _is_current(self) -> bool:
        """Return whether the path still names the file that is open; a removed log is not replaced any more."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def follow(self, runs: Callable[[], bool]) -> Iterator[LogRecord]:
        """Yield the records as they are written, until the end of the job; `runs` returns whether it still runs."""
        with _growth(self.path.parent) as grown:
            while self.end is None:
                running = runs()
                yield from self.records()
                if self.end is None:
                    if not running:
                        return
                    grown()

    def read_to_end(self) -> JobEnd | None:
        """Read all that is there; return how the job ended, None if that is not in the log."""
        for _ in self.records():
            pass
        return self.end


@contextlib.contextmanager
def _growth(folder: Path) -> Iterator[Callable[[], None]]:
    """Yield a function that waits until a file in a directory was changed, for a moment at most."""
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        watched = -1
        with contextlib.suppress(OSError):  # too many watches: look from time to time
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            watched = inotify.watch(directory, inotify.MODIFIED | inotify.MOVED_TO)
            stack.callback(os.close, watched)
            poll.register(watched, select.POLLIN)

        def wait() -> None:
            if poll.poll(_TURN * 1000) and watched >= 0:
                os.read(watched, _CHUNK)

        yield wait
