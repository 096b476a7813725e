"""The items that other processes of this machine run: those of a pool of processes, or of several workers.

Each item that runs holds a read lock on one file of the store (F_OFD_SETLK, fcntl(2), Linux 3.15), which the kernel
releases if its process dies. An item that gets the write lock is alone; the kernel turns that into a read lock without
a moment in which another one could get it.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "oci-layout"
"""The file in a store. It is never replaced, and nothing else locks it."""


class Neighbours:
    """One item among those that use the store at `store` (host). Without a store it is always alone.

    Use it in one thread. The caller calls `release`.
    """

    def __init__(self, store: Path | None) -> None:
        self._path = None if store is None else store / FILE
        self._held: int | None = None

    def hold_alone(self) -> bool:
        """Run if no other item runs, in this process or in another one; return whether that is so."""
        self.release()
        fd = self._opened()
        if fd is None:
            return True
        if not _locked(fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK):
            os.close(fd)
            return False
        self._held = fd
        return _locked(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK)

    def hold(self) -> None:
        """Run beside others. Idempotent. If no descriptor is left, others do not see this item."""
        if self._held is None and (fd := self._opened()) is not None:
            _locked(fd, fcntl.F_OFD_SETLKW, fcntl.F_RDLCK)  # a write lock lasts for a moment
            self._held = fd

    def release(self) -> None:
        """Run no more. Idempotent."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _opened(self) -> int | None:
        try:
            return None if self._path is None else os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None


def _locked(fd: int, command: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, command, struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return True
