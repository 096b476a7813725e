"""The items that other processes of this machine run: those of a pool of processes, or of several workers.

Each item that runs holds a read lock on one file of the store (F_OFD_SETLK, fcntl(2), Linux 3.15), which the kernel
releases if its process dies. An item that gets the write lock is alone; the kernel turns that into a read lock without
a moment in which another one could get it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

FILE = "oci-layout"
"""The file in a store. It is never replaced, and nothing else locks it."""


class Neighbours:
    """One item among those that use the store at `store` (host). Without a store it is always alone.

    Use it in one thread, and as a context manager: its end is `release`.
    """

    def __init__(self, store: Path | None) -> None:
        self._path = "" if store is None else f"{store}/{FILE}"  # made for each item
        self._held: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def hold_alone(self) -> bool:
        """Run if no other item runs, in this process or in another one; return whether that is so."""
        self.release()
        self._held = self._opened()
        if self._held is None:
            return True
        if not _locked(self._held, fcntl.F_OFD_SETLK, fcntl.F_WRLCK):
            self.release()
            return False
        return _locked(self._held, fcntl.F_OFD_SETLK, fcntl.F_RDLCK)

    def hold(self) -> None:
        """Run beside others. Idempotent. If no descriptor is left, others do not see this item."""
        if self._held is None:
            self._held = self._opened()
            if self._held is not None:
                _locked(self._held, fcntl.F_OFD_SETLKW, fcntl.F_RDLCK)  # a write lock lasts for a moment

    def release(self) -> None:
        """Run no more. Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _opened(self) -> int | None:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC) if self._path else None
        except OSError:
            return None


def _locked(fd: int, command: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, command, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return True
