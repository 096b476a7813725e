"""The files of `/out` of a cached cell: read when the cell has ended, and made again when its result is replayed.

The container made the names and the files: they are opened below `/out` by descriptor, and no link is followed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from typing import TYPE_CHECKING

from nbcontainer.images.trash import remove_own
from nbcontainer.linux.files import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)
from nbcontainer.store.cache_entries import FILE, OUTPUT_LIMIT, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from nbcontainer.store.layout import Store

NAMES_LIMIT = 10_000
"""Files and directories of one cell that are kept."""

DEPTH_LIMIT = 100
"""Levels of directories that are kept."""

_RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotKept(Exception):
    """The files cannot be kept; the text says why."""


def kept_files(directory: int) -> tuple[Event, ...]:
    """Return what `/out` (a descriptor) has, directories before what is in them. Raises `NotKept`."""
    try:
        return tuple(_walked(directory))
    except OSError as error:
        raise NotKept(f"a file in /out cannot be read: {os.strerror(error.errno or 0)}") from error


def _walked(directory: int) -> Iterator[Event]:
    waiting = [""]
    count, left = 0, OUTPUT_LIMIT
    while waiting:
        path = waiting.pop()
        for name in _names(directory, path):
            count += 1
            if count > NAMES_LIMIT:
                raise NotKept(f"/out has more than {NAMES_LIMIT} names")
            below = f"{path}{name}"
            mode = _mode(directory, below)
            if stat.S_ISDIR(mode):
                if below.count("/") >= DEPTH_LIMIT:
                    raise NotKept(f"/out is nested deeper than {DEPTH_LIMIT} levels")
                waiting.append(f"{below}/")
                yield Event(FILE, mime=f"{below}/")
            elif stat.S_ISREG(mode):
                data = _content(directory, below, left)
                left -= len(data)
                yield Event(FILE, data, below)
            else:
                raise NotKept("/out has a link, a pipe or a device")


def _names(directory: int, path: str) -> list[str]:
    """Return the names in a directory, at most one more than are kept: all is closed when this returns."""
    fd = openat2(directory, path or ".", _LIST, resolve=_RESOLVE)
    try:
        with os.scandir(fd) as found:
            return [one.name for one in itertools.islice(found, NAMES_LIMIT + 1)]
    finally:
        os.close(fd)


def _mode(directory: int, path: str) -> int:
    above, _, name = path.rpartition("/")
    fd = openat2(directory, above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_RESOLVE)
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    finally:
        os.close(fd)


def _content(directory: int, path: str, most: int) -> bytes:
    """Return the bytes of a regular file. Raises `NotKept` if they are more than `most`, or if it is another file."""
    with os.fdopen(openat2(directory, path, _READ, resolve=_RESOLVE), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise NotKept("/out has a link, a pipe or a device")
        if facts.st_size > most or len(data := file.read(most + 1)) > most:
            raise NotKept(f"/out has more than {OUTPUT_LIMIT >> 20} MiB")
        return data


class ReplayedOutput:
    """The files of `/out` of a kept result, in a directory of the store's `tmp`.

    `directory` is a descriptor of it. The owner passes it on, or calls `close`; then it calls `remove`.
    """

    def __init__(self, store: Store, events: Iterable[Event]) -> None:
        """Make the directory. Raises `OSError`; then there is none."""
        self._place = store.path / "tmp" / store.unique()
        os.mkdir(self._place, 0o700)  # noqa: PTH102
        try:
            for event in events:
                if event.kind == FILE:
                    _make(self._place, event)
            self.directory = os.open(self._place, _LIST)
        except BaseException:
            self.remove()
            raise

    def close(self) -> None:
        """Close the descriptor, which was not passed on, and remove the directory."""
        os.close(self.directory)
        self.remove()

    def remove(self) -> None:
        """Remove the directory."""
        with contextlib.suppress(OSError):  # the next cleanup removes it
            remove_own(self._place)


def _make(top: Path, event: Event) -> None:
    """Make one file or directory. Its path was checked when the result was read, and nothing there is a link."""
    place = top / event.mime
    if event.mime.endswith("/"):
        place.mkdir(mode=0o700)
    else:
        with place.open("xb") as file:
            file.write(event.data)


@contextlib.contextmanager
def closed_on_error(output: ReplayedOutput | None) -> Iterator[None]:
    """Remove the directory if the block raises."""
    try:
        yield
    except BaseException:
        if output is not None:
            output.close()
        raise
