"""The processes that use a store. Each has a file with its state, locked (flock(2)) while the process lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
                self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # A cleanup can remove the file between the two calls.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(self._fd).st_ino:
                    return name
            os.close(self._fd)

    def close(self) -> None:
        """End this process's session. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()
            os.close(self._fd)
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
