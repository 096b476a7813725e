"""A cell's output on its way to people: decoded as it comes, and kept from drowning the page."""

from __future__ import annotations

import codecs
import contextlib
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Writable(Protocol):
    """What text is written to: a file, or a notebook's stream."""

    def write(self, text: str, /) -> object:
        """Takes some text."""

    def flush(self) -> object:
        """Shows what was taken."""


class TextSink:
    """Takes bytes as they come and writes them as UTF-8 text to `stream`, none broken and none lost.

    A character whose bytes come in parts is written when it is whole; what is no UTF-8 becomes U+FFFD.
    """

    def __init__(self, stream: Writable, *, flush: bool = True) -> None:
        self._stream = stream
        self._flush = flush
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __call__(self, data: bytes) -> None:
        """Writes what is whole of `data`."""
        self._write(self._decoder.decode(data))

    def finish(self) -> None:
        """Writes what is left of a character that never became whole."""
        self._write(self._decoder.decode(b"", final=True))

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            if self._flush:
                self._stream.flush()


class FloodGate:
    """Lets `limit` bytes of a cell's output through, both streams together; all of it goes to a file from there on.

    Past the limit nothing is shown but, at the end, the last bytes and where the whole is. `place` makes the path of
    the file (host) when it is needed. A file that cannot be written is given up, and the cell goes on.
    """

    TAIL = 8 << 10
    """Bytes shown of the end."""

    def __init__(self, limit: int, place: Callable[[], Path]) -> None:
        self.limit = limit
        self.path: Path | None = None
        self.total = 0
        self._shown = 0
        self._problem = ""
        self._place = place
        self._kept: list[bytes] = []
        self._file: BinaryIO | None = None
        self._tail = bytearray()

    def through(self, sink: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """A sink in front of `sink`."""

        def take(data: bytes) -> None:
            room = self.limit - self.total
            self.total += len(data)
            if room >= len(data):
                self._kept.append(data)
                self._shown += len(data)
                sink(data)
                return
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

    def _spill(self, data: bytes) -> None:
        if self._problem:
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
        """Closes the file, and shows the end of a flood."""
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
        where = (
            f"could not be kept: {self._problem}" if self._problem else f"are in {self.path} until the notebook ends"
        )
        sink(f"\n… all {self.total} bytes of output {where}\n".encode())


def _from_a_beginning(data: bytes) -> bytes:
    """`data` from its first new line on, or, without one, from its first whole character."""
    line = data.find(b"\n") + 1
    return data[line:] if line else data.lstrip(bytes(range(0x80, 0xC0)))
