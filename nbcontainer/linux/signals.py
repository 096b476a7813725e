"""Signals and the main thread: signal(2) without the enums of the module `signal`, and how long to wait at a time.

`signal.signal` takes 13 µs, since it looks each handler up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

try:
    from _signal import signal as _signal  # type: ignore[import-not-found]
except ImportError:  # an interpreter that is not CPython
    from signal import signal as _signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object] | int | None


TURN = 1.0
"""Seconds that the main thread waits at most before it looks again.

A signal that comes just before a system call, or that another thread takes, does not end the wait (signal(7)), and
Python runs its handler only afterwards.
"""


class Terminated(BaseException):
    """A signal, of this number, asks this process to end: its handler raises this, as that of SIGINT does its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def set_handler(number: int, handler: Handler) -> Handler:
    """Set what handles a signal, and return what handled it. The main thread only. See `signal.signal`."""
    return cast("Handler", _signal(number, handler))
