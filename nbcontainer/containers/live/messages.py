"""The messages of an interpreter, and those of this package, for the thread that runs its cells."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING

from nbcontainer.linux.signals import TURN

if TYPE_CHECKING:
    from collections.abc import Callable

Message = tuple[str, ...]
"""The fields of a line from the interpreter, or a message of this package."""

STARTED, OVER, INTERRUPT = OWN = "started", "over", "interrupt"
"""The messages of this package. They are never taken from the interpreter."""

MOST = 1000
"""Messages of the interpreter that are kept, the newest ones: a container can write any number of them."""


class Messages:
    """A queue of messages. One thread reads it.

    `waker` is called after each message while it is set: the reader waits for something else then.
    """

    def __init__(self) -> None:
        self.waker: Callable[[], None] | None = None
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def put(self, message: Message) -> None:
        """Add a message, and wake the reader. From any thread or signal handler."""
        self._queue.put(message)
        waker = self.waker
        if waker is not None:
            waker()

    def put_received(self, message: Message) -> None:
        """Add a message of the interpreter. If there are too many, the oldest one is lost."""
        while self._queue.qsize() >= MOST and not self._lose_oldest():
            pass
        self.put(message)

    def _lose_oldest(self) -> bool:
        """Remove the oldest message, or put it at the end if it is one of this package, which are few."""
        oldest = self.next()
        if oldest is not None and oldest[0] in OWN:
            self._queue.put(oldest)
            return False
        return True

    def get(self, timeout: float | None = None) -> Message:
        """Return the next message. Raises `queue.Empty` after `timeout` seconds."""
        while timeout is None:
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=TURN)
        return self._queue.get(timeout=timeout)

    def next(self) -> Message | None:
        """Return the next message; None if there is none now."""
        with contextlib.suppress(queue.Empty):  # another thread can take the message: that of `put_received`
            return None if self._queue.empty() else self._queue.get_nowait()
        return None

    def empty(self) -> bool:
        """Return whether it has no message."""
        return self._queue.empty()
