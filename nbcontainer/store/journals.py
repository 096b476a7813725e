"""Journals: files of the store that grow by one line for each record, until lines are dropped.

A line is a JSON object that begins with its number. Numbers grow from line to line, with gaps where lines were
dropped. One write(2) adds a line, so a reader finds all of it or nothing. What follows the last newline was not
finished: readers leave it out, and the next writer removes it. A journal without some of its lines is a new file that
replaces the old one (`Journals.replace`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

JOURNALS = "journals"

_SHARED = stat.S_ISVTX
"""In the mode of a journal: other journals or containers may refer to its lines."""

_BLOCK = 1 << 13  # bytes that are read first to find a line
_NUMBER = re.compile(rb'\{"number": (\d+)[,}]')


class Journals:
    """The journals in `folder` (host), by name. One process at a time adds to a journal; all may read it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def path(self, name: str) -> str:
        """Return a journal's file (host)."""
        return f"{self._folder}/{name}"

    def names(self) -> list[str]:
        """Return the names of all files in the folder."""
        return os.listdir(self._folder)  # noqa: PTH208 - strings: cells use this class

    def append(self, name: str, lines: bytes) -> None:
        """Add whole lines to a journal, which is made if it does not exist: all of them or none. Raises `OSError`."""
        fd = os.open(self.path(name), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = _whole(fd)
            try:
                if os.write(fd, lines) != len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path(name))
            except BaseException:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)

    def sync(self, name: str) -> None:
        """Bring a journal to disk (fsync(2)). Raises `OSError`."""
        fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def last(self, name: str) -> bytes | None:
        """Return the last line of a journal; None if it is empty or does not exist. Raises `OSError`."""
        with self._open(name) as fd:
            if fd is None:
                return None
            end = os.fstat(fd).st_size
            block = _BLOCK
            while True:
                start = max(0, end - block)
                lines = os.pread(fd, end - start, start).split(b"\n")[:-1]
                if len(lines) > 1 or start == 0:
                    return lines[-1] if lines else None
                block *= 4

    def line(self, name: str, number: int) -> bytes | None:
        """Return the line with that number, None if there is none: a binary search. Raises `OSError`, `ValueError`."""
        with self._open(name) as fd:
            if fd is None:
                return None
            low, high = 0, os.fstat(fd).st_size
            while low < high:
                middle = (low + high) // 2
                start, found = _line_at(fd, middle, low, high)
                if found is None:
                    high = middle
                elif (at := number_of(found)) == number:
                    return found
                elif at < number:
                    low = start + len(found) + 1
                else:
                    high = start
            return None

    def lines(self, name: str) -> list[bytes]:
        """Return all lines of a journal. Raises `OSError`."""
        with self._open(name) as fd:
            if fd is None:
                return []
            data = os.pread(fd, size := os.fstat(fd).st_size, 0)
            while len(data) < size and (more := os.pread(fd, size - len(data), len(data))):
                data += more
            return data.split(b"\n")[:-1]

    def size(self, name: str) -> int:
        """Return the bytes of a journal; 0 if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self.path(name)).st_size  # noqa: PTH116
        return 0

    def replace(self, name: str, lines: Iterable[bytes], temporary: Path) -> None:
        """Replace a journal's lines: readers find the old or the new ones. The file `temporary` does not exist yet.

        Raises `OSError`.
        """
        mode = stat.S_IMODE(os.stat(self.path(name)).st_mode)  # noqa: PTH116
        try:
            with temporary.open("xb") as file:
                file.writelines(line + b"\n" for line in lines)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(self.path(name))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Remove a journal; it need not exist. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))  # noqa: PTH108

    def share(self, name: str) -> None:
        """Record that something besides the journal's container may refer to it. Needs no space. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.path(name), 0o600 | _SHARED)  # noqa: PTH101

    def is_shared(self, name: str) -> bool:
        """Return whether anything besides its container has ever referred to a journal."""
        with contextlib.suppress(FileNotFoundError):
            return bool(os.stat(self.path(name)).st_mode & _SHARED)  # noqa: PTH116
        return False

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[int | None]:
        """Yield a descriptor of a journal, None if it does not exist."""
        try:
            fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)


def number_of(line: bytes) -> int:
    """Return the number of a line. Raises `ValueError` for anything else."""
    found = _NUMBER.match(line)
    if found is None:
        raise ValueError("a line of the journal has no number")
    return int(found[1])


def _whole(fd: int) -> int:
    """Cut what follows the last newline of a file, and return its size."""
    size = os.fstat(fd).st_size
    if size == 0 or os.pread(fd, 1, size - 1) == b"\n":
        return size
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        if (at := os.pread(fd, end - start, start).rfind(b"\n")) >= 0:
            end = start + at + 1
            break
        end = start
    os.ftruncate(fd, end)
    return end


def _line_at(fd: int, offset: int, low: int, high: int) -> tuple[int, bytes | None]:
    """Return the line of which `offset` is a part, and where it starts; None if it is not finished.

    Lines start at `low`; the range ends at `high`.
    """
    start = offset
    while start > low:
        begin = max(low, start - _BLOCK)
        if (at := os.pread(fd, start - begin, begin).rfind(b"\n")) >= 0:
            start = begin + at + 1
            break
        start = begin
    data = b""
    while b"\n" not in data:
        more = os.pread(fd, _BLOCK, start + len(data))
        if not more or start + len(data) >= high:
            return start, None
        data += more
    return start, data.partition(b"\n")[0]
