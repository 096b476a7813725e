"""Events of output: bytes of one stream, and their text, which is right also if a character comes in pieces."""

from __future__ import annotations

import codecs
import enum
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream(enum.StrEnum):
    """The streams of a run."""

    STDOUT = "stdout"
    STDERR = "stderr"


class _Pair(NamedTuple):
    stream: Stream
    data: bytes


class OutputEvent(_Pair):
    """Some bytes that a run wrote to one of its streams: `event.stream`, `event.data`; also a pair of these.

    >>> for event in stream("busybox", ["echo", "hello"]):
    ...     print(event.stream, event.data)
    stdout b'hello\\n'
    """

    _text: str | None = None

    def __new__(cls, stream: Stream, data: bytes, text: str | None = None) -> Self:
        """Make an event; `text` is its text if characters began in an event before, or end in one after it."""
        event = super().__new__(cls, stream, data)
        if text is not None:
            event._text = text
        return event

    @property
    def text(self) -> str:
        """The bytes as text; bytes that are not UTF-8 are replaced.

        A character whose bytes come in several events is in the text of the last one of them. If a stream ends within a
        character, one more event comes, without bytes: its text stands for the incomplete character.

        >>> events = stream("busybox", script="printf '\\\\303'; sleep 0.1; printf '\\\\251\\\\n'")
        >>> "".join(event.text for event in events)
        'é\\n'
        """
        return self.data.decode("utf-8", "replace") if self._text is None else self._text


class EventDecoder:
    """Makes the events of one run's output, in their order."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in Stream}

    def event(self, stream: Stream, data: bytes) -> OutputEvent:
        """Return the event of the next bytes of a stream."""
        return OutputEvent(stream, data, self._decoders[stream].decode(data))

    def rest(self) -> Iterator[OutputEvent]:
        """Yield an event for each stream that has ended within a character. Call it once, at the end."""
        for stream, decoder in self._decoders.items():
            if text := decoder.decode(b"", final=True):
                decoder.reset()
                yield OutputEvent(stream, b"", text)
