"""The processes that use a store: each has a file, locked (flock(2)) while it lives, that says what it is doing."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Sessions:
    """This process's session among those in `folder` (host), and its `name`. `close` ends it."""

    def __init__(self, folder: Path) -> None:
        """Begins a session of a new name. Raises `OSError`."""
        self._folder = folder
        self._told = 0
        self._fd = -1
        self.name = self._begin()

    def _begin(self) -> str:
        while True:
            name = secrets.token_hex(3)
            path = self._folder / name
            try:
                self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # A sweep may have taken the file away between the two calls.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(self._fd).st_ino:
                    return name
            os.close(self._fd)

    def close(self) -> None:
        """Ends this process's session. Idempotent."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                (self._folder / self.name).unlink()
            os.close(self._fd)
            self._fd = -1

    def dead(self) -> set[str]:
        """Forgets the sessions whose processes have ended, and returns them."""
        dead = set()
        for path in self._folder.iterdir():
            if path.name == self.name:
                continue
            with contextlib.suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                dead.add(path.name)
        return dead

    def alive(self) -> set[str]:
        """The sessions that have a file: after `dead`, those whose processes are alive."""
        return {path.name for path in self._folder.iterdir()}

    def tell(self, what: dict[str, Any]) -> None:
        """Writes what this process is doing into its file, for `said` of other processes."""
        # One write, over all that was there: whoever reads meanwhile finds the old or the new.
        data = json.dumps(what).encode().ljust(self._told)
        self._told = len(data)
        os.pwrite(self._fd, data, 0)

    def said(self) -> list[dict[str, Any]]:
        """What every process that uses the store says of itself; a file read in the middle of a write is left out."""
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError, ValueError):
                found.append(json.loads(path.read_text()))
        return found
