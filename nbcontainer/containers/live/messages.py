"""The messages of an interpreter, from the thread that reads them to the thread that runs its cells."""

from __future__ import annotations

import contextlib
import queue
from collections import deque

Message = tuple[str, ...]
"""The fields of a line from the interpreter, or a message of this package."""


_MOST_QUIET = 64
"""Quiet messages that are kept, the newest ones: a container can write any number of them."""


class Messages:
    """A queue with messages that its reader finds when it wakes, and that wake it only if it is `hurried`.

    Each waking takes the interpreter's lock from the thread that reads the next message. One thread reads.
    """

    def __init__(self) -> None:
        self.hurried = False
        """Whether the reader must have quiet messages at once. The reader sets it."""
        self._loud: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._quiet: deque[Message] = deque(maxlen=_MOST_QUIET)
        self._later: deque[Message] = deque()

    def put(self, message: Message) -> None:
        """Add a message, and wake the reader."""
        self._loud.put(message)

    def put_quietly(self, message: Message) -> None:
        """Add a message. If the reader waits, it waits for another one, unless it is hurried."""
        self._quiet.append(message)
        if self.hurried:  # looked at after the message is there: the reader looks for messages after it has set this
            self._loud.put(None)

    def put_instead(self, message: Message) -> None:
        """Add a message, and wake the reader. It replaces the quiet ones if the newest is about the same cell."""
        with contextlib.suppress(IndexError):
            if self._quiet[-1][1:2] == message[1:2]:
                self._quiet.clear()
        self._loud.put(message)

    def get(self, timeout: float | None = None) -> Message:
        """Return the next message, quiet ones first. Raises `queue.Empty` after `timeout` seconds."""
        while True:
            if found := self._next_here():
                return found
            try:
                message = self._loud.get(timeout=timeout)
            except queue.Empty:
                if found := self._next_here():
                    return found
                raise
            if message is not None:
                self._later.append(message)  # quiet ones came first

    def _next_here(self) -> Message | None:
        for messages in (self._quiet, self._later):
            with contextlib.suppress(IndexError):  # the other thread may empty the quiet ones at any moment
                return messages.popleft()
        return None
