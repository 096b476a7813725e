"""Blobs on their way into the store, in its `partial`: checked as they come, and kept for the next try.

Each is held by one process at a time, with flock(2) on the file; who waits for it finds it done. One that nobody
holds is what an interrupted transfer left: the next one goes on from there, and a sweep takes it after a day.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING

from nbcontainer.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.oci.documents import Descriptor
    from nbcontainer.progress import Tracker
    from nbcontainer.store.layout import Store

KEPT = 24 * 3600
"""Seconds that a part of a blob is kept for."""

_CHUNK = 1 << 20
_RETRY = 0.05  # seconds between two looks at a lock that another process has


class WrongBytes(ImageError):
    """A blob came whole and is not what its digest says."""


class Partial:
    """One blob of `blob.size` bytes; `have` of them are there. Writer and followers may be different threads.

    What is there when it is opened is hashed, so that `finish` checks all of it. `candidate` is a descriptor of a
    private file that may be taken over as the blob. Raises `Stopped`, `OSError`.
    """

    def __init__(self, store: Store, blob: Descriptor, tracker: Tracker, candidate: int | None = None) -> None:
        self.blob = blob
        self.path = store.path / "partial" / blob.digest.partition(":")[2]
        self._store = store
        self._tracker = tracker
        self._grown = threading.Condition()
        self._failed = False
        self._hash = hashlib.sha256()
        self.have = 0
        self.fd = self._open(candidate, fresh=False)
        try:
            self._read_again()
        except BaseException:
            os.close(self.fd)
            raise
        self.resumed = self.have > 0

    def _prepare(self, candidate: int | None) -> None:
        """Puts a whole file there, if the store has one or was given one, and nobody has begun."""
        here = self._store.blob_path(self.blob.digest)
        with contextlib.suppress(OSError):
            if here.stat().st_size == self.blob.size:
                os.link(here, self.path)
                return
        if candidate is not None:
            with contextlib.suppress(OSError):
                os.fchmod(candidate, 0o644)
                os.fchown(candidate, os.geteuid(), os.getegid())
                # With a directory's descriptor, os.link is linkat(2), which can follow the link in /proc.
                os.link(f"/proc/self/fd/{candidate}", self.path, src_dir_fd=candidate, follow_symlinks=True)

    def _open(self, candidate: int | None, *, fresh: bool) -> int:
        while True:
            if not fresh:
                self._prepare(candidate)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                while not _locked(fd):
                    self._tracker.pause(_RETRY)
                with contextlib.suppress(FileNotFoundError):
                    if self.path.stat().st_ino == os.fstat(fd).st_ino:
                        return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # whoever had it has moved it to the blobs, or thrown it away

    def _read_again(self) -> None:
        if os.fstat(self.fd).st_size > self.blob.size:
            self._restart()
        while data := os.pread(self.fd, _CHUNK, self.have):
            self._tracker.check()
            self._hash.update(data)
            self.have += len(data)
        if self.complete and not self._right:
            self._restart()

    def _restart(self) -> None:
        """Begins with a new file: the old one may be another name of a blob."""
        self.path.unlink()
        os.close(self.fd)
        self.fd = self._open(None, fresh=True)
        self._hash = hashlib.sha256()
        self.have = 0

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.have == self.blob.size

    @property
    def _right(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self.blob.digest

    def write(self, data: bytes | memoryview) -> None:
        """Appends. Raises `WrongBytes` for more than there may be, `OSError`."""
        if self.have + len(data) > self.blob.size:
            raise WrongBytes(f"there are more bytes of {self.blob.digest} than the {self.blob.size} promised")
        view = memoryview(data)
        written = 0
        while written < len(view):
            written += os.pwrite(self.fd, view[written:], self.have + written)
        self._hash.update(view)
        with self._grown:
            self.have += written
            self._grown.notify_all()

    def finish(self) -> None:
        """Checks that all is there and right, and syncs it to disk. Raises `WrongBytes`, `OSError`."""
        if not self.complete:
            raise WrongBytes(f"there are {self.have} bytes of {self.blob.digest}, not the {self.blob.size} promised")
        if not self._right:
            raise WrongBytes(f"the bytes that are said to be {self.blob.digest} are sha256:{self._hash.hexdigest()}")
        os.fsync(self.fd)

    def fail(self) -> None:
        """Says to those who follow that no more will come."""
        with self._grown:
            self._failed = True
            self._grown.notify_all()

    def beyond(self, offset: int) -> int:
        """Waits for more than `offset` bytes; how many there are, or `offset` where no more will come."""
        with self._grown:
            self._grown.wait_for(lambda: self.have > offset or self._failed)
            return offset if self._failed else self.have

    def adopt(self) -> None:
        """Moves the finished file to the blobs. Call with the store's exclusive lock held."""
        self._store.adopt_blob(self.path, self.blob.digest)
        self.path.unlink(missing_ok=True)  # rename(2) of two names of one file does nothing

    def close(self, *, keep: bool) -> None:
        """Lets go of it. What is not adopted stays for the next try only with `keep`. Idempotent."""
        if self.fd < 0:
            return
        self.fail()
        if not keep or self.have == 0:
            with contextlib.suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(self.fd).st_ino:
                    self.path.unlink()
        os.close(self.fd)
        self.fd = -1


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def left_over(store: Store, seconds: float = KEPT, remove: Callable[[Path], None] | None = None) -> list[Path]:
    """What interrupted transfers left and nobody holds, older than `seconds`; each goes through `remove`, held."""
    found = []
    for path in (store.path / "partial").iterdir():
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if time.time() - os.fstat(fd).st_mtime >= seconds and _locked(fd):
                    if remove is not None:
                        remove(path)
                    found.append(path)
            finally:
                os.close(fd)
    return found
