"""A cell's output for display: decoded as it comes, and limited in size."""

from __future__ import annotations

import codecs
import contextlib
import json
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Writable(Protocol):
    """What text is written to: a file, or a notebook's stream."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Show what was taken."""


_Decoder = codecs.getincrementaldecoder("utf-8")


class TextSink:
    """Takes bytes as they come and writes them as UTF-8 text to `stream`, none broken and none lost.

    A character whose bytes come in parts is written when it is whole; bytes that are not UTF-8 become U+FFFD.
    """

    def __init__(self, stream: Writable, *, flush: bool = True) -> None:
        self._stream = stream
        self._flush = flush
        self._decoder = _Decoder("replace")

    def __call__(self, data: bytes) -> None:
        """Write what is whole of `data`."""
        self._write(self._decoder.decode(data))

    def finish(self) -> None:
        """Write what is left of a character that never became whole."""
        self._write(self._decoder.decode(b"", final=True))

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            if self._flush:
                self._stream.flush()


OUTPUT_LIMIT = 1_200_000
"""Bytes of a cell's output that are shown by default."""

MESSAGE_LIMIT = 2_500_000
"""Bytes of messages with a cell's output. Jupyter Server drops output, and everything after it, above 3 MB in 3 seconds
(ZMQChannelsWebsocketConnection.iopub_data_rate_limit)."""

_WORST = 6
"""The most bytes that one byte of output can be in a message: a control character, as `\\u0000`."""


def _bytes_in_messages(data: bytes) -> int:
    """Return how many bytes of JSON some output is."""
    return len(json.dumps(data.decode("utf-8", "replace"), ensure_ascii=False).encode())


class FloodGate:
    """Lets `limit` bytes of an output through, both streams together; all of it goes to a file from there on.

    Output that is much larger as a message, such as control characters, passes up to `MESSAGE_LIMIT` bytes of JSON, or
    up to `limit` if that is more. Past the limit nothing is shown but, at the end, the last bytes and the place of the
    whole output. `place` makes the path of the file (host) when it is needed. If the file cannot be written, the cell
    continues. Without `place`, no file is written, and the text `where` names the place.
    """

    TAIL = 8 << 10
    """Bytes shown of the end."""

    def __init__(self, limit: int, place: Callable[[], Path] | None, where: str = "") -> None:
        self.limit = limit
        self.path: Path | None = None
        self.total = 0
        self._shown = 0
        self._closed = False
        self._in_messages: int | None = None
        self._problem = ""
        self._place = place
        self._where = where
        self._kept: list[bytes] = []
        self._file: BinaryIO | None = None
        self._tail = bytearray()

    def through(self, sink: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A sink in front of `sink`."""

        def take(data: bytes) -> None:
            room = self._room(data)
            self.total += len(data)
            if room >= len(data):
                self._kept.append(data)
                self._shown += len(data)
                sink(data)
                return
            self._closed = True
            self._spill(data)
            if room > 0:
                while room and data[room] & 0xC0 == 0x80:  # not in the middle of a character
                    room -= 1
                sink(data[:room])
                self._shown += room
                data = data[room:]
            self._tail += data[-self.TAIL :]
            del self._tail[: -self.TAIL]

        return take

    def _room(self, data: bytes) -> int:
        """Return how many bytes of `data` may pass. What is far below the limits is not measured."""
        if self._closed:
            return 0
        room, most = self.limit - self.total, max(self.limit, MESSAGE_LIMIT)
        if room <= 0 or (self.total + len(data)) * _WORST <= most:
            return room
        if self._in_messages is None:
            self._in_messages = sum(map(_bytes_in_messages, self._kept))
        left, needed = most - self._in_messages, _bytes_in_messages(data)
        self._in_messages += needed
        return room if needed <= left else min(room, len(data) * max(left, 0) // needed)

    def _spill(self, data: bytes) -> None:
        if self._problem or self._place is None:
            self._kept.clear()
            return
        try:
            if self._file is None:
                self.path = self._place()
                self._file = self.path.open("xb")  # where a link has taken its name, it fails
                self._file.writelines(self._kept)
                self._kept.clear()
            self._file.write(data)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._problem = error.strerror or str(error)
        self._kept.clear()
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def finish(self, sink: Callable[[bytes], None]) -> None:
        """Close the file, and show the end of a flood."""
        if self._file is not None and not self._problem:
            try:
                self._file.close()
            except OSError as error:
                self._give_up(error)
        if self._shown == self.total:
            return
        tail = bytes(self._tail)
        if self.total > self._shown + len(tail):
            tail = _from_a_beginning(tail)
            sink(f"\n… {self.total - self._shown - len(tail)} bytes of output are not shown …\n".encode())
        sink(tail)
        where = self._where or f"are in {self.path} until the notebook ends"
        if self._problem:
            where = f"could not be kept: {self._problem}"
        sink(f"\n… all {self.total} bytes of output {where}\n".encode())


def _from_a_beginning(data: bytes) -> bytes:
    """`data` from its first new line on, or, without one, from its first whole character."""
    line = data.find(b"\n") + 1
    return data[line:] if line else data.lstrip(bytes(range(0x80, 0xC0)))
