"""What is typed into a cell's terminal: no more at a time than it takes, since a cell need not read its input."""

from __future__ import annotations

import contextlib
import os
import select

_CHUNK = 1 << 16
_END = b"\x04"  # what a terminal takes for the end of the input (termios(3), VEOF)


class Keyboard:
    """The keyboard of one cell. The thread that polls `poll` calls everything.

    `source` is the descriptor that is read for keys, None if there is none or it has ended; its owner closes it.
    """

    def __init__(self, poll: select.poll, source: int | None) -> None:
        self.source = source
        self._poll = poll
        self._terminal: int | None = None
        self._typed = bytearray()

    @property
    def busy(self) -> bool:
        """Whether there is, or may come, something that the terminal has not taken."""
        return self.source is not None or bool(self._typed)

    def connect(self, terminal: int) -> None:
        """Type into `terminal`, which is polled already: its controlling end, which does not block."""
        self._terminal = terminal
        if self.source is not None:
            self._poll.register(self.source, select.POLLIN)

    def type(self, data: bytes) -> None:
        """Type `data` as the terminal takes it. Nothing happens without a terminal."""
        if self._terminal is not None and data:
            self._typed += data
            self._poll.modify(self._terminal, select.POLLIN | select.POLLOUT)

    def read(self) -> None:
        """Read what the source has now, and not again until the terminal has taken that."""
        assert self.source is not None
        self._poll.unregister(self.source)
        typed = os.read(self.source, _CHUNK)
        if not typed:
            self.source = None
        self.type(typed or _END)

    def write(self) -> None:
        """Hand over what the terminal takes now."""
        assert self._terminal is not None
        with contextlib.suppress(BlockingIOError):
            del self._typed[: os.write(self._terminal, self._typed)]
        if not self._typed:
            self._poll.modify(self._terminal, select.POLLIN)
            if self.source is not None:
                self._poll.register(self.source, select.POLLIN)

    def close(self) -> None:
        """Read no more keys: nothing reads the terminal any more."""
        if self.source is not None:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self.source)
            self.source = None
