"""The processes that use a store. Each has a file with its state, locked (flock(2)) while the process lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any

from nbcontainer.store.atomic_files import replace_file
from nbcontainer.store.locks import keep, release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CLEAN = "clean"
_SEEN_BY_CLEANUPS = (
    "layers",
    "layers/sha256",
    "containers",
    "journals",
    "flats",
    "cache",
    "blobs",
    "blobs/sha256",
    "blobs/sha512",
    "index.json",
)
_SETTLED = 2.0
"""Seconds: a change within the resolution of a file system's times would not be seen (as in git's racy-git)."""


class CleanMark:
    """The mark of a store that a cleanup found nothing to remove, and that everything in it belongs to names.

    It holds while the names in the store's directories (their times) are the same, and no session has died: then the
    next cleanup would find nothing either, and need not read the record of each container.
    """

    def __init__(self, store: Path) -> None:
        """Of the store at `store` (host)."""
        self._store = store

    def holds(self) -> bool:
        """Return whether the mark is set and nothing has changed since."""
        try:
            return (self._store / _CLEAN).read_bytes() == json.dumps(self._times()).encode()
        except OSError:
            return False

    def set(self, temporary: Path) -> None:
        """Set the mark, unless something has changed in the last seconds. `temporary` is an unused path."""
        with contextlib.suppress(OSError):
            times = self._times()
            if max(changed for _, changed in times) < (time.time() - _SETTLED) * 1e9:
                replace_file(self._store / _CLEAN, temporary, json.dumps(times).encode(), sync=False)

    def remove(self) -> None:
        """Remove the mark. Raises `OSError`."""
        (self._store / _CLEAN).unlink(missing_ok=True)

    def _times(self) -> list[tuple[int, int]]:
        """Return the inode number and the time of the last change of each place; zeros for one that is not there."""
        return [_time_of(self._store / name) for name in _SEEN_BY_CLEANUPS]


def _time_of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


class Sessions:
    """This process's session among those in `folder` (host), and its `name`. `close` ends it."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Begin a session with a new name; on a read-only store it has no file. Raises `OSError`."""
        self._folder = folder
        self._written = 0
        self._fd = -1
        self.name = secrets.token_hex(3) if read_only else self._begin()

    def _begin(self) -> str:
        while True:
            name = secrets.token_hex(3)
            path = self._folder / name
            try:
                self._fd = keep(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # A cleanup can remove the file between the two calls.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(self._fd).st_ino:
                    return name
            release(self._fd)

    def close(self) -> None:
        """End this process's session. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()
            release(self._fd)
            self._fd = -1

    def dead(self, see: Callable[[Any], None] | None = None) -> set[str]:
        """Remove the files of the sessions whose processes have ended, and return the names of these sessions.

        `see` gets the last state of each, JSON values, before its file is removed.
        """
        dead = set()
        for path in self._folder.iterdir():
            if path.name == self.name:
                continue
            with contextlib.suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if see is not None:
                    with contextlib.suppress(ValueError, RecursionError):
                        see(json.load(file))
                CleanMark(self._folder.parent).remove()  # first: it may have left something
                path.unlink()
                dead.add(path.name)
        return dead

    def alive(self) -> set[str]:
        """Return the names of the sessions that have a file. After `dead`, their processes are alive."""
        return {path.name for path in self._folder.iterdir()}

    def publish(self, what: dict[str, Any]) -> None:
        """Write this process's state to its file; other processes read it with `states`. Raises `OSError`."""
        # One write over the old content, padded to its length: a reader sees the old state or the new one.
        data = json.dumps(what).encode().ljust(self._written)
        self._written = len(data)
        os.pwrite(self._fd, data, 0)

    def states(self) -> list[dict[str, Any]]:
        """Return the state of each process that uses the store, without files that are read during a write."""
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError, ValueError, RecursionError):
                found.append(json.loads(path.read_text()))
        return found
