"""The feeder: a child process that reads, hashes, decompresses and stores a layer while its parent extracts it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import select
import signal
import struct
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn

from nbcontainer.errors import HostileArchive
from nbcontainer.images.compression import Compression, Reader, write_all

if TYPE_CHECKING:
    from nbcontainer.images.limits import Limits

_PIPE = 1 << 20
_WRITEBACK = 8 << 20
_REPORT = 64 << 10
_COUNTER = struct.Struct("Q")
_KEPT = frozenset({Compression.NONE, Compression.GZIP, Compression.ZSTD})


@dataclass(frozen=True)
class Fed:
    """What the feeder found out: digest of the uncompressed stream; digest, size and compression of the blob."""

    diff_id: str
    blob_digest: str
    blob_size: int
    compression: str


class Feeder:
    """A running feeder. `fd` gives the uncompressed stream, `report` says how it ended, `close` ends it in any case.

    The caller must be single-threaded (fork(2)) and keeps `source_fd` and `blob_fd`. The feeder ends by itself when
    its parent is gone: nobody reads the pipe then.
    """

    def __init__(self, source_fd: int, blob_fd: int | None, limits: Limits) -> None:
        self._counter = mmap.mmap(-1, mmap.PAGESIZE)
        self._result: Fed | None = None
        self.fd, data = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # past the user's share of pipe memory: slower, not wrong
            fcntl.fcntl(data, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            pid = os.fork()
        except OSError:
            for fd in (self.fd, data, self._report, report):
                os.close(fd)
            raise
        if pid == 0:
            os.close(self.fd)
            os.close(self._report)
            _child(_Feed(source_fd, blob_fd, data, limits, self._counter), report)
        self._pid = pid
        os.close(data)
        os.close(report)

    @property
    def source_bytes(self) -> int:
        """Bytes read from the source so far."""
        return int(_COUNTER.unpack_from(self._counter)[0])

    def report(self) -> Fed:
        """Waits for the feeder's end. Raises what it failed with: `HostileArchive` or `OSError`."""
        if self._result is None:
            self._result = self._read_report()
        return self._result

    def close(self) -> None:
        """Ends and reaps the feeder, closes the pipes. To be called once."""
        os.close(self.fd)
        os.close(self._report)
        os.kill(self._pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        os.waitpid(self._pid, 0)
        self._counter.close()

    def _read_report(self) -> Fed:
        text = b""
        while part := os.read(self._report, _REPORT):
            text += part
        if not text:
            raise HostileArchive("the process that reads the archive was killed")
        words = json.loads(text)
        if "hostile" in words:
            raise HostileArchive(words["hostile"])
        if "errno" in words:
            raise OSError(words["errno"], words["strerror"])
        return Fed(**words)


def _child(feed: _Feed, report_fd: int) -> NoReturn:
    """Runs the feed and reports; never comes back into the parent's code."""
    status = 1
    try:
        words: dict[str, object]
        try:
            words = asdict(feed.run())
        except HostileArchive as error:
            words = {"hostile": str(error)}
        except OSError as error:
            words = {"errno": error.errno or 0, "strerror": error.strerror or str(error)}
        except MemoryError:
            words = {"hostile": "the archive needs more memory than there is to decompress it"}
        write_all(report_fd, json.dumps(words).encode())
        status = 0
    finally:
        os._exit(status)


class _Feed:
    """The child's work."""

    def __init__(self, source_fd: int, blob_fd: int | None, data_fd: int, limits: Limits, counter: mmap.mmap) -> None:
        self._source = source_fd
        self._blob_fd = blob_fd
        self._data = data_fd
        self._limits = limits
        self._counter = counter
        self._read_bytes = 0
        self._given = 0
        self._raw: list[bytes] = []
        self._blob_hash = hashlib.sha256()
        self._blob_size = 0
        self._synced = 0
        self._poll = select.poll()
        self._poll.register(source_fd, select.POLLIN)
        self._poll.register(data_fd, 0)  # POLLERR when the reading end is closed

    def run(self) -> Fed:
        reader = Reader(self._read)
        plain = reader.compression is Compression.NONE
        keep = reader.compression in _KEPT and not plain
        stream_hash = hashlib.sha256()
        for chunk in reader.chunks():
            stream_hash.update(chunk)
            self._take_raw(keep=keep)
            if not keep:
                self._store(chunk, hashed=not plain)
            self._given += len(chunk)
            self._check_ratio()
            write_all(self._data, chunk)
        self._take_raw(keep=keep)
        os.close(self._data)
        if self._blob_fd is not None:
            os.fsync(self._blob_fd)
        diff_id = f"sha256:{stream_hash.hexdigest()}"
        return Fed(
            diff_id,
            f"sha256:{self._blob_hash.hexdigest()}" if keep else diff_id,
            self._blob_size,
            str(reader.compression if keep else Compression.NONE),
        )

    def _read(self, size: int) -> bytes:
        for fd, event in self._poll.poll():
            if fd == self._data and event & (select.POLLERR | select.POLLNVAL):
                os._exit(1)  # the parent is gone
        data = os.read(self._source, size)
        self._read_bytes += len(data)
        _COUNTER.pack_into(self._counter, 0, self._read_bytes)
        self._raw.append(data)
        return data

    def _take_raw(self, *, keep: bool) -> None:
        if keep:
            for data in self._raw:
                self._store(data, hashed=True)
        self._raw.clear()

    def _store(self, data: bytes, *, hashed: bool) -> None:
        self._blob_size += len(data)
        if hashed:
            self._blob_hash.update(data)
        if self._blob_fd is None:
            return
        write_all(self._blob_fd, data)
        if self._blob_size - self._synced >= _WRITEBACK:
            # Starts the write-back early, so that the fsync at the end finds little to do.
            os.posix_fadvise(self._blob_fd, self._synced, _WRITEBACK, os.POSIX_FADV_DONTNEED)
            self._synced += _WRITEBACK

    def _check_ratio(self) -> None:
        limits = self._limits
        if self._given > limits.ratio_from and self._given > limits.ratio * self._read_bytes:
            raise HostileArchive(
                f"the archive decompresses to more than {limits.ratio} times its size, which is the limit"
            )
