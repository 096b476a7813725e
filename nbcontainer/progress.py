"""Progress of long work: counted in any thread, reported to one listener in the thread that started the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_INTERVAL = 0.1  # seconds between two reports


@dataclass(frozen=True)
class State:
    """Progress of one piece of work, in bytes and layers. A total of 0 is unknown, or there are none.

    Work that is `finished` may have `failed`: an error or an interrupt ended it.
    """

    what: str
    done: int = 0
    total: int = 0
    layers_done: int = 0
    layers: int = 0
    seconds: float = 0.0
    finished: bool = False
    failed: bool = False


Listener = Callable[[State], None]
"""Gets a state now and then, and a finished one at the end; always in the thread that started the work."""


class Stopped(Exception):
    """Raised in the threads of work that was stopped. It never leaves this package."""


class Tracker:
    """Counts one piece of work. Thread-safe; only the thread that made it reports states.

    As a context manager, it reports the last state at the end, and stops the other threads of the work.
    """

    def __init__(self, what: str, listener: Listener | None = None, *, total: int = 0, layers: int = 0) -> None:
        self.what = what
        self.total = total
        self.layers = layers
        self._listener = listener
        self._owner = threading.get_ident()
        self._stopped = threading.Event()
        self._parts: list[Part] = []
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._next = 0.0

    def part(self) -> Part:
        """Return a counter for one more stream of bytes."""
        part = Part(self)
        with self._lock:
            self._parts.append(part)
        return part

    @property
    def state(self) -> State:
        """The progress now."""
        with self._lock:
            done = sum(part.done for part in self._parts)
            layers = sum(part.finished for part in self._parts)
        return State(self.what, done, self.total, layers, self.layers, time.monotonic() - self._began)

    def show(self) -> None:
        """Report the state, if the last report is old enough and this is the thread that reports."""
        now = time.monotonic()
        if self._listener is not None and threading.get_ident() == self._owner and now >= self._next:
            self._next = now + _INTERVAL
            self._listener(self.state)

    def stop(self) -> None:
        """Stop the work: each thread raises `Stopped` at its next `check`."""
        self._stopped.set()

    def check(self) -> None:
        """Raise `Stopped` if the work was stopped."""
        if self._stopped.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait for a time. Raises `Stopped` at once when the work is stopped."""
        if self._stopped.wait(seconds):
            raise Stopped

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.stop()
        if self._listener is not None:
            state = self.state
            done = state.total if kind is None and state.total else state.done
            self._listener(replace(state, done=done, finished=True, failed=kind is not None))


class Part:
    """The counter of one stream of bytes. Call it with the number of bytes that are done so far."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.done = 0
        self.finished = False

    def __call__(self, done: int) -> None:
        """Set the number of bytes that are done. Raises `Stopped`."""
        self._tracker.check()
        self.done = done
        self._tracker.show()

    def add(self, more: int) -> None:
        """Add to the number of bytes that are done. Raises `Stopped`."""
        self(self.done + more)

    def check(self, _: int = 0) -> None:
        """Raise `Stopped` if the work was stopped; count nothing."""
        self._tracker.check()

    def finish(self) -> None:
        """Count the layer as complete."""
        self.finished = True
