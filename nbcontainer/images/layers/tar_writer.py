"""Canonical tar entries: ustar headers, with pax records for values that do not fit (POSIX.1-2017 pax)."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.images.layers import tar_format as tar
from nbcontainer.images.layers.compression import Compression, Writer, detect

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 1 << 20
_WAITING = 4  # chunks
_OCTAL_7, _OCTAL_11 = 8**7 - 1, 8**11 - 1
_TRAILER = bytes(2 * tar.BLOCK)


class TarDigests(NamedTuple):
    """Digests of the uncompressed tar and of the written bytes, empty if not hashed; number of bytes written."""

    diff_id: str
    digest: str
    size: int


class TarWriter:
    """Writes a tar to descriptor `fd`, which the caller closes: a context manager.

    A thread hashes, compresses and writes, while the caller reads the next files. The next call raises its `OSError`.
    """

    def __init__(self, fd: int, compression: Compression, *, hashed: bool = True) -> None:
        self._writer = Writer(fd, compression, hashed=hashed)
        self._plain_hash = hashlib.sha256() if hashed and compression is not Compression.NONE else None
        self._parts: list[bytes] = []
        self._waiting = 0
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(_WAITING)
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="nbcontainer-tar-writer")
        self.written = 0
        """Bytes of the uncompressed tar given to the thread so far."""
        self.entries = 0

    def __enter__(self) -> TarWriter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def finish(self) -> TarDigests:
        """End the archive and return its digests. Raises `OSError`."""
        self.data(_TRAILER)
        self._hand_over()
        self._queue.put(None)
        self._thread.join()
        self._raise()
        self._writer.finish()
        blob = self._writer.digest
        plain = blob if self._plain_hash is None else f"sha256:{self._plain_hash.hexdigest()}"
        return TarDigests(plain, blob, self._writer.size)

    def data(self, data: bytes) -> None:
        """Add to the current entry's data. Raises `OSError`."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _CHUNK:
            self._hand_over()

    def pad(self, size: int) -> None:
        """End an entry's data of `size` bytes with zeros up to a whole block."""
        if rest := -size % tar.BLOCK:
            self.data(tar.ZEROS[:rest])

    def entry(
        self,
        path: bytes,
        kind: bytes,
        mode: int,
        uid: int,
        gid: int,
        size: int,
        mtime: int,
        link: bytes = b"",
        device: int = 0,
        records: dict[bytes, bytes] | None = None,
    ) -> None:
        """Add an entry's header, after an extended one for `records` and for values that do not fit its fields.

        `mtime` is in whole seconds. The caller adds `size` bytes of data, and pads them.
        """
        if not self.entries and detect(path) is not Compression.NONE:
            path = b"./" + path  # else the stream would look compressed
        self.entries += 1
        more = dict(records) if records else {}
        name, prefix = tar.split_name(path)
        if name is None:
            more.setdefault(b"path", path)
            name = path[:100]
        if len(link) > 100:
            more[b"linkpath"] = link
            link = link[:100]
        if not 0 <= mtime <= _OCTAL_11:
            more[b"mtime"] = b"%d" % mtime
            mtime = 0
        fields = {b"size": size, b"uid": uid, b"gid": gid} if size > _OCTAL_11 or max(uid, gid) > _OCTAL_7 else {}
        for key, value in fields.items():
            more[key] = b"%d" % value
        if more:
            self._extended_header(path, more)
        self.data(
            tar.header(
                name,
                prefix,
                mode,
                0 if uid > _OCTAL_7 else uid,
                0 if gid > _OCTAL_7 else gid,
                0 if size > _OCTAL_11 else size,
                mtime,
                kind,
                link,
                device,
            )
        )

    def _extended_header(self, path: bytes, records: dict[bytes, bytes]) -> None:
        data = b"".join(tar.pax_record(key, value) for key, value in sorted(records.items()))
        name = b"PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2]
        self.data(tar.header(name[:100], b"", 0o644, 0, 0, len(data), 0, tar.PAX, b""))
        self.data(data)
        self.pad(len(data))

    def _hand_over(self) -> None:
        self._raise()
        self._queue.put(self._parts)
        self.written += self._waiting
        self._parts = []
        self._waiting = 0

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (parts := self._queue.get()) is not None:
            if self._error is not None:
                continue  # the caller can be waiting for room in the queue
            data = b"".join(parts)
            try:
                if self._plain_hash is not None:
                    self._plain_hash.update(data)
                self._writer.write(data)
            except OSError as error:
                self._error = error
