"""The messages of an interpreter, from the thread that reads them to the thread that runs its cells."""

from __future__ import annotations

import queue
from collections import deque

Message = tuple[str, ...]
"""The fields of a line from the interpreter, or a message of this package."""


class Messages:
    """A queue with messages that its reader finds when it wakes, and that wake it only if it is `hurried`.

    Each waking takes the interpreter's lock from the thread that reads the next message. One thread reads.
    """

    def __init__(self) -> None:
        self.hurried = False
        """Whether the reader must have quiet messages at once. The reader sets it."""
        self._loud: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._quiet: deque[Message] = deque()
        self._later: deque[Message] = deque()

    def put(self, message: Message) -> None:
        """Add a message, and wake the reader."""
        self._loud.put(message)

    def put_quietly(self, message: Message) -> None:
        """Add a message. If the reader waits, it waits for another one, unless it is hurried."""
        self._quiet.append(message)
        if self.hurried:  # looked at after the message is there: the reader looks for messages after it has set this
            self._loud.put(None)

    def get(self, timeout: float | None = None) -> Message:
        """Return the next message, quiet ones first. Raises `queue.Empty` after `timeout` seconds."""
        message: Message | None = None
        while message is None:
            if self._quiet:
                return self._quiet.popleft()
            if self._later:
                return self._later.popleft()
            try:
                message = self._loud.get(timeout=timeout)
            except queue.Empty:
                if not self._quiet:
                    raise
        if self._quiet:  # they came first
            self._later.append(message)
            return self._quiet.popleft()
        return message
