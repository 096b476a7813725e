"""Blobs that are being transferred, in the store's `partial`: hashed as they come, and kept for the next attempt.

One process at a time holds each of them, with flock(2) on the file; a process that waited for the lock finds the blob
done. A transfer locks all its blobs first, in the order of `lock_order`, so that no two wait for each other. A file
without a lock is left from an interrupted transfer: the next transfer resumes it, and a cleanup removes it after a day.
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
from nbcontainer.oci.descriptors import algorithm_of
from nbcontainer.store.locks import keep, release, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.oci.descriptors import Descriptor
    from nbcontainer.progress import Tracker
    from nbcontainer.store.layout import Store

KEPT = 24 * 3600
"""Seconds for which an incomplete blob is kept."""

_CHUNK = 1 << 20
_RETRY = 0.05  # seconds between two attempts to lock a file


def lock_order(blob: Descriptor) -> str:
    """Return the key by which a transfer sorts blobs before it makes a `Partial` of each: the name of its file."""
    return blob.digest.partition(":")[2]


class WrongBytes(ImageError):
    """The bytes of a blob differ from its descriptor: another digest or size."""


class Partial:
    """One blob of `blob.size` bytes, of which the file has `have`. Writer and followers may be different threads.

    It is locked until `close`, and empty until `resume`. `candidate` is a descriptor of a private file that can become
    the blob; the caller closes it. `fd` reads and writes the file until `close`. Raises `Stopped`, `OSError`.
    """

    def __init__(self, store: Store, blob: Descriptor, tracker: Tracker, candidate: int | None = None) -> None:
        self.blob = blob
        self.path = store.path / "partial" / lock_order(blob)
        self._store = store
        self._tracker = tracker
        self._grown = threading.Condition()
        self._failed = False
        self._hash = hashlib.new(algorithm_of(self.blob.digest))
        self.have = 0
        self.resumed = False
        """Whether there were bytes at first."""
        self.fd = self._open(candidate)

    def _prepare(self, candidate: int | None) -> None:
        """Link a whole file to the path: the store's blob or the candidate. Does nothing if the path exists."""
        stored = self._store.blobs.path(self.blob.digest)
        with contextlib.suppress(OSError):
            if stored.stat().st_size == self.blob.size:
                os.link(stored, self.path)
                return
        if candidate is not None:
            with contextlib.suppress(OSError):
                os.fchmod(candidate, 0o644)
                os.fchown(candidate, os.geteuid(), os.getegid())
                # With a directory's descriptor, os.link is linkat(2), which can follow the link in /proc.
                os.link(f"/proc/self/fd/{candidate}", self.path, src_dir_fd=candidate, follow_symlinks=True)

    def _is_new_beside_stored(self, fd: int) -> bool:
        """Return whether an empty file was made here after the process before had stored the whole blob."""
        return os.fstat(fd).st_size == 0 and self.blob.size > 0 and self._store.blobs.path(self.blob.digest).exists()

    def _open(self, candidate: int | None) -> int:
        looked_again = False
        while True:
            self._prepare(candidate)
            fd = keep(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
            try:
                while not try_lock(fd):
                    self._tracker.show()
                    self._tracker.pause(_RETRY)
                with contextlib.suppress(FileNotFoundError):
                    if self.path.stat().st_ino == os.fstat(fd).st_ino:
                        if looked_again or not self._is_new_beside_stored(fd):
                            return fd
                        looked_again = True  # once: a blob with too many names cannot be linked
                        self.path.unlink()
            except BaseException:
                release(fd)
                raise
            release(fd)  # the process that had it locked has moved it to the blobs, or removed it

    def resume(self) -> None:
        """Hash the bytes that the file has at first, so that `finish` checks all; wrong ones are dropped.

        Raises `Stopped`, `OSError`.
        """
        if os.fstat(self.fd).st_size > self.blob.size:
            self.restart()
        while data := os.pread(self.fd, _CHUNK, self.have):
            self._tracker.check()
            self._hash.update(data)
            self.have += len(data)
        if self.complete and not self._matches:
            self.restart()
        self.resumed = self.have > 0

    def restart(self) -> None:
        """Begin with an empty file: the old one may be another name of a blob. The blob stays locked.

        Nothing may follow the blob meanwhile. Raises `OSError`.
        """
        with self._store.incoming() as (path, made):
            try_lock(made)  # nothing else has this file
            fresh = keep(fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC))  # the lock is that of both (flock(2))
            try:
                path.rename(self.path)
            except BaseException:
                release(fresh)
                raise
        release(self.fd)
        self.fd, self.have, self.resumed, self._failed = fresh, 0, False, False
        self._hash = hashlib.new(algorithm_of(self.blob.digest))

    @property
    def complete(self) -> bool:
        """Whether the file has all bytes."""
        return self.have == self.blob.size

    @property
    def _digest(self) -> str:
        return f"{algorithm_of(self.blob.digest)}:{self._hash.hexdigest()}"

    @property
    def _matches(self) -> bool:
        return self._digest == self.blob.digest

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`. Raises `WrongBytes` if the blob gets longer than its size, and `OSError`."""
        if self.have + len(data) > self.blob.size:
            raise WrongBytes(f"blob {self.blob.digest} has more than the expected {self.blob.size} bytes")
        view = memoryview(data)
        written = 0
        while written < len(view):
            written += os.pwrite(self.fd, view[written:], self.have + written)
        self._hash.update(view)
        with self._grown:
            self.have += written
            self._grown.notify_all()

    def finish(self) -> None:
        """Check size and digest, and sync the file to disk. Raises `WrongBytes`, `OSError`."""
        if not self.complete:
            raise WrongBytes(f"blob {self.blob.digest} has {self.have} bytes instead of the expected {self.blob.size}")
        if not self._matches:
            raise WrongBytes(f"blob {self.blob.digest} has the digest {self._digest}")
        os.fsync(self.fd)

    def fail(self) -> None:
        """Signal to followers that no more bytes will come."""
        with self._grown:
            self._failed = True
            self._grown.notify_all()

    def beyond(self, offset: int) -> int:
        """Wait for more than `offset` bytes. Return how many the file has, or `offset` if no more will come."""
        with self._grown:
            self._grown.wait_for(lambda: self.have > offset or self._failed)
            return offset if self._failed else self.have

    def adopt(self) -> None:
        """Move the finished file to the blobs. Call with the store's exclusive lock held. Raises `OSError`."""
        self._store.blobs.adopt(self.path, self.blob.digest)
        self.path.unlink(missing_ok=True)  # rename(2) of two names of one file does nothing

    def close(self, *, keep: bool) -> None:
        """Release the file. If it was not adopted, it stays for the next attempt only with `keep`. Idempotent."""
        if self.fd < 0:
            return
        self.fail()
        if not keep or os.fstat(self.fd).st_size == 0:  # `have` is 0 until `resume`
            with contextlib.suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(self.fd).st_ino:
                    self.path.unlink()
        release(self.fd)
        self.fd = -1


def left_over(store: Store, seconds: float = KEPT, remove: Callable[[Path], None] | None = None) -> list[Path]:
    """Return the files of interrupted transfers that are older than `seconds` and not locked.

    `remove` is called with each of them while it is locked.
    """
    found = []
    for path in (store.path / "partial").iterdir():
        with contextlib.suppress(OSError):
            fd = keep(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
            try:
                if time.time() - os.fstat(fd).st_mtime >= seconds and try_lock(fd):
                    if remove is not None:
                        remove(path)
                    found.append(path)
            finally:
                release(fd)
    return found
