"""The output of a run as an iterator of events, while it runs."""

from __future__ import annotations

import collections
import enum
import functools
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from nbcontainer.errors import CellFailed, ContainerError
from nbcontainer.runs.calls import Call, Cancelled
from nbcontainer.runs.results import Result

Sink = Callable[[bytes], None]

LIMIT = 16 << 20
"""Bytes of output that wait for the caller. Then the container waits, as at a full pipe."""

_TURN = 0.1  # seconds for which a full stream keeps the supervisor from its time limits and signals


class Stream(enum.StrEnum):
    """The streams of a run."""

    STDOUT = "stdout"
    STDERR = "stderr"


class OutputEvent(NamedTuple):
    """Some bytes that a run wrote to one of its streams: `event.stream`, `event.data`; also a pair of these.

    >>> for event in stream("busybox", ["echo", "hello"]):
    ...     print(event.stream, event.data)
    stdout b'hello\\n'
    """

    stream: Stream
    data: bytes

    @property
    def text(self) -> str:
        """The bytes as text; bytes that are not UTF-8 are replaced."""
        return self.data.decode("utf-8", "replace")


class OutputStream:
    """An iterator of the events (`OutputEvent`) of one run, which has begun.

    After the last event it raises `CellFailed` if the run failed and `check` is true. `close` ends the container if it
    runs; so do Ctrl-C while an event is awaited, the end of a `with` block and the loss of the last reference. Use it
    in one thread.

    >>> with stream("busybox", script="echo one; echo two >&2; sleep 1000") as events:
    ...     for event in events:
    ...         if event.stream == "stderr":
    ...             print(event.text, end="")
    ...             break
    two
    """

    def __init__(self, make: Callable[[Sink, Sink], Call], *, check: bool) -> None:
        self._queue = _Queue()
        sinks = [functools.partial(self._queue.put, one) for one in Stream]
        self._call = make(*sinks)
        self._thread = threading.Thread(
            target=_work, args=(self._call, self._queue, check), name="nbcontainer-run", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<OutputStream of {self._call.describe()}: {self._queue.describe()}>"

    def __iter__(self) -> OutputStream:
        return self

    def __next__(self) -> OutputEvent:
        try:
            event = self._queue.take()
        except KeyboardInterrupt:
            self.close()
            raise
        if event is not None:
            return event
        if (error := self._queue.take_error()) is not None:
            raise error
        raise StopIteration

    @property
    def result(self) -> Result:
        """The result, after the last event; its `stdout` and `stderr` are empty. Raises `ContainerError` before."""
        if self._queue.result is None:
            raise ContainerError("the run has no result yet", hint="read its output to the end first")
        return self._queue.result

    def close(self) -> None:
        """End the container if it runs, and wait for its end; discard what it wrote. Idempotent.

        >>> events = stream("busybox", ["sleep", "1000"])
        >>> events.close()
        >>> list(events)
        []
        """
        self._queue.close()
        if self._thread.is_alive():
            self._call.stop()
            self._thread.join()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_call"):
            self._queue.close()
            self._call.stop(gently=False)


def _work(call: Call, queue: _Queue, check: bool) -> None:
    try:
        queue.finish(call.result(check=check), None)
    except BaseException as error:
        queue.finish(None, error)


class _Queue:
    """Events between the thread that supervises and the one that iterates, and what the run ended with."""

    def __init__(self) -> None:
        self._events: collections.deque[OutputEvent] = collections.deque()
        self._size = 0
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self.result: Result | None = None
        self._error: BaseException | None = None

    def put(self, stream: Stream, data: bytes) -> None:
        """Add an event. At the limit this waits for a moment, so that a time limit and a signal are still applied."""
        end = time.monotonic() + _TURN
        with self._changed:
            while self._size >= LIMIT and not self._closed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            if not self._closed:
                self._events.append(OutputEvent(stream, data))
                self._size += len(data)
                self._changed.notify_all()

    def take(self) -> OutputEvent | None:
        """Wait for the next event and return it; None at the end."""
        with self._changed:
            while not self._events and not self._ended and not self._closed:
                self._changed.wait()
            if not self._events:
                return None
            event = self._events.popleft()
            self._size -= len(event.data)
            self._changed.notify_all()
            return event

    def finish(self, result: Result | None, error: BaseException | None) -> None:
        """Note how the run ended."""
        with self._changed:
            self.result, self._error, self._ended = result, error, True
            self._changed.notify_all()

    def describe(self) -> str:
        """Return the state of the run as a phrase."""
        if self._closed:
            return "closed"
        if not self._ended:
            return "running"
        return "failed" if self.result is None else self.result.outcome.describe()

    def take_error(self) -> BaseException | None:
        """Return the error that ended the run, once; None if there is none, or if the stream was closed."""
        with self._changed:
            error, self._error = self._error, None
            return None if self._closed and isinstance(error, CellFailed | Cancelled) else error

    def close(self) -> None:
        """Discard all events, those to come too."""
        with self._changed:
            self._closed = True
            self._events.clear()
            self._size = 0
            self._changed.notify_all()
