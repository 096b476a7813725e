"""How far long work is: counted here from any thread, told to one listener on the thread that asked for the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_EVERY = 0.1  # seconds between two states


@dataclass(frozen=True)
class State:
    """How far a piece of work is: bytes, and layers; a total of 0 is not known, or there are none."""

    what: str
    done: int = 0
    total: int = 0
    layers_done: int = 0
    layers: int = 0
    seconds: float = 0.0
    finished: bool = False


Listener = Callable[[State], None]
"""Hears a state now and then, and at last one that is finished; always on the thread that began the work."""


class Stopped(Exception):
    """Raised in the threads of work that was given up. Nobody outside sees it."""


class Tracker:
    """Counts one piece of work. Thread-safe; states go out from the thread that made it.

    As a context manager it tells the last state at the end, and stops what other threads still do of the work.
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
        """One stream of bytes of the work."""
        made = Part(self)
        with self._lock:
            self._parts.append(made)
        return made

    @property
    def state(self) -> State:
        """How far it is now."""
        with self._lock:
            done = sum(part.done for part in self._parts)
            layers = sum(part.finished for part in self._parts)
        return State(self.what, done, self.total, layers, self.layers, time.monotonic() - self._began)

    def show(self) -> None:
        """Tells the state, if the last one is a while ago and this is the thread for it."""
        now = time.monotonic()
        if self._listener is not None and threading.get_ident() == self._owner and now >= self._next:
            self._next = now + _EVERY
            self._listener(self.state)

    def stop(self) -> None:
        """Gives the work up: threads find out at their next `check`."""
        self._stopped.set()

    def check(self) -> None:
        """Raises `Stopped` where the work was given up."""
        if self._stopped.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Waits so long. Raises `Stopped` at once where the work is given up."""
        if self._stopped.wait(seconds):
            raise Stopped

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.stop()
        if self._listener is not None:
            state = self.state
            done = state.total if kind is None and state.total else state.done
            self._listener(State(state.what, done, state.total, state.layers_done, state.layers, state.seconds, True))


class Part:
    """The count of one stream of bytes: called with how many are done so far. Raises `Stopped`."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.done = 0
        self.finished = False

    def __call__(self, done: int) -> None:
        """Says how many bytes are done. Raises `Stopped`."""
        self._tracker.check()
        self.done = done
        self._tracker.show()

    def add(self, more: int) -> None:
        """Says that so many bytes more are done. Raises `Stopped`."""
        self(self.done + more)

    def check(self, _: int = 0) -> None:
        """Counts nothing. Raises `Stopped`."""
        self._tracker.check()

    def finish(self) -> None:
        """Says that the layer is there."""
        self.finished = True
