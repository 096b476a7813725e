"""The decoder: a child process that hashes, decompresses, stores and reads an archive while its parent extracts it."""

from __future__ import annotations

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
from nbcontainer.images.layers.compression import Compression, Reader, write_all
from nbcontainer.images.layers.entry_pipe import IN_PIPE, Receiver, Sender
from nbcontainer.images.layers.tar_reader import Stream, TarReader
from nbcontainer.linux.pipes import enlarge_pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.images.layers.limits import Limits

_REPORT = 64 << 10
_COUNTER = struct.Struct("Q")
_KEPT = frozenset({Compression.NONE, Compression.GZIP, Compression.ZSTD})


@dataclass(frozen=True)
class StreamDigests:
    """The digest of the uncompressed stream, of the algorithm asked for; digest, size (bytes), compression of the blob.

    `unmarked` says that the archive has no end mark.
    """

    diff_id: str
    blob_digest: str
    blob_size: int
    compression: str
    unmarked: bool = False


class Decoder:
    """A running decoder. `entries` receives the archive's entries, `report` returns the digests, `close` ends it.

    The caller must be single-threaded (fork(2)), and closes `source_fd` and `blob_fd`, which is read too. If the parent
    ends, writing to the pipe fails, and the decoder exits. For `end_needed` see `TarReader`.
    """

    def __init__(
        self, source_fd: int, blob_fd: int | None, limits: Limits, algorithm: str = "sha256", *, end_needed: bool
    ) -> None:
        self._counter = mmap.mmap(-1, mmap.PAGESIZE)
        self._result: StreamDigests | None = None
        self._fd, data = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        enlarge_pipe(data)
        try:
            pid = os.fork()
        except OSError:
            for fd in (self._fd, data, self._report, report):
                os.close(fd)
            raise
        if pid == 0:
            os.close(self._fd)
            os.close(self._report)
            blob = None if blob_fd is None else Blob(blob_fd)
            _child(_Feed(source_fd, blob, data, limits, self._counter, algorithm, end_needed), report)
        self._pid = pid
        self.entries = Receiver(self._fd, blob_fd, self.report)
        os.close(data)
        os.close(report)

    @property
    def source_bytes(self) -> int:
        """Bytes read from the source so far."""
        return int(_COUNTER.unpack_from(self._counter)[0])

    def report(self) -> StreamDigests:
        """Wait for the decoder's end and return the digests. Raises its error: `HostileArchive` or `OSError`."""
        if self._result is None:
            self._result = self._read_report()
        return self._result

    def close(self) -> None:
        """Kill and reap the decoder, and close the pipes. Call it once."""
        os.close(self._fd)
        os.close(self._report)
        os.kill(self._pid, signal.SIGKILL)  # not reaped yet, so the pid is not reused
        os.waitpid(self._pid, 0)
        self._counter.close()

    def _read_report(self) -> StreamDigests:
        text = b""
        while part := os.read(self._report, _REPORT):
            text += part
        if not text:
            raise HostileArchive("the process that reads the archive was killed")
        result = json.loads(text)
        if "hostile" in result:
            raise HostileArchive(result["hostile"], hint=result["hint"])
        if "errno" in result:
            raise OSError(result["errno"], result["strerror"])
        return StreamDigests(**result)


def _child(feed: _Feed, report_fd: int) -> NoReturn:
    """Run the feed and report its result; never returns."""
    status = 1
    try:
        result: dict[str, object]
        try:
            result = asdict(feed.run())
        except HostileArchive as error:
            result = {"hostile": error.message, "hint": error.hint}
        except OSError as error:
            result = {"errno": error.errno or 0, "strerror": error.strerror or str(error)}
        except MemoryError:
            result = {"hostile": "not enough memory to decompress the archive", "hint": ""}
        write_all(report_fd, json.dumps(result).encode())
        status = 0
    finally:
        os._exit(status)


class _Feed:
    """The work of the child process."""

    def __init__(
        self,
        source_fd: int,
        blob: Blob | None,
        data_fd: int,
        limits: Limits,
        counter: mmap.mmap,
        algorithm: str,
        end_needed: bool,
    ) -> None:
        self._source = source_fd
        self._blob = blob
        self._data = data_fd
        self._limits = limits
        self._counter = counter
        self._end_needed = end_needed
        self._sender = Sender(data_fd)
        self._read_bytes = 0
        self._given = 0
        self._raw: list[bytes] = []
        self._raw_hash = hashlib.sha256()
        self._stream_hash = hashlib.sha256()
        self._other_hash = hashlib.new(algorithm) if algorithm != "sha256" else None
        self._poll = select.poll()
        self._poll.register(source_fd, select.POLLIN)
        self._poll.register(data_fd, 0)  # POLLERR when the reading end is closed

    def run(self) -> StreamDigests:
        source = Reader(self._read)
        keep = source.compression in _KEPT and source.compression is not Compression.NONE
        stream = Stream(self._stored_chunks(source, keep=keep))
        unmarked = self._send(stream, stored=self._blob is not None and not keep)
        stream.drain(self._limits.bytes)
        self._sender.flush()
        os.close(self._data)
        size = self._blob.size if self._blob else self._read_bytes if keep else self._given
        plain = f"sha256:{self._stream_hash.hexdigest()}"
        other = self._other_hash
        return StreamDigests(
            f"{other.name}:{other.hexdigest()}" if other is not None else plain,
            f"sha256:{self._raw_hash.hexdigest()}" if keep else plain,
            size,
            str(source.compression if keep else Compression.NONE),
            unmarked,
        )

    def _send(self, stream: Stream, *, stored: bool) -> bool:
        """Send all entries. Return whether the archive has no end mark."""
        reader = TarReader(stream, self._limits, end_needed=self._end_needed)
        sender = self._sender
        start = self._blob.start if self._blob else 0
        while (member := reader.next()) is not None:
            sender.entry(member, start + stream.offset if stored else IN_PIPE)
            if member.size:
                for piece in reader.data(member):
                    if not stored:
                        sender.data(piece)
        return reader.unmarked

    def _stored_chunks(self, source: Reader, *, keep: bool) -> Iterator[bytes]:
        """Yield the uncompressed stream, hashed and stored: with its own bytes if `keep`, else uncompressed."""
        for chunk in source.chunks():
            self._stream_hash.update(chunk)
            if self._other_hash is not None:
                self._other_hash.update(chunk)
            if keep:
                self._keep_raw()
            elif self._blob is not None:
                self._sender.stored(self._blob.write(chunk))
            self._raw.clear()
            self._given += len(chunk)
            self._check_ratio()
            yield chunk
        if keep:
            self._keep_raw()

    def _keep_raw(self) -> None:
        for data in self._raw:
            self._raw_hash.update(data)
            if self._blob is not None:
                self._blob.write(data)
        self._raw.clear()

    def _read(self, size: int) -> bytes:
        for fd, event in self._poll.poll():
            if fd == self._data and event & (select.POLLERR | select.POLLNVAL):
                os._exit(1)  # the parent is gone
        data = os.read(self._source, size)
        self._read_bytes += len(data)
        _COUNTER.pack_into(self._counter, 0, self._read_bytes)
        self._raw.append(data)
        return data

    def _check_ratio(self) -> None:
        limits = self._limits
        if self._given > limits.ratio_from and self._given > limits.ratio * self._read_bytes:
            raise HostileArchive(f"the archive decompresses to more than the limit of {limits.ratio} times its size")


class Blob:
    """A file that is written from the offset of descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self.start = self._end = os.lseek(fd, 0, os.SEEK_CUR)
        self._fd = fd

    def write(self, data: bytes) -> int:
        """Write `data` and return the offset of its end. Raises `OSError`."""
        write_all(self._fd, data)
        self._end += len(data)
        return self._end

    @property
    def size(self) -> int:
        """The number of bytes written."""
        return self._end - self.start
