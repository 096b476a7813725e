"""The output of a run as an iterator of events, while it runs."""

from __future__ import annotations

import collections
import functools
import os
import sys
import threading
import time
from collections.abc import Callable

from nbcontainer.errors import CellFailed, ContainerError
from nbcontainer.linux.signals import TURN
from nbcontainer.runs.calls import Call, Cancelled
from nbcontainer.runs.output_events import EventDecoder, OutputEvent, Stream
from nbcontainer.runs.results import Result, failure

Sink = Callable[[bytes], None]

LIMIT = 16 << 20
"""Bytes of output that wait for the caller. Then the container waits, as at a full pipe."""

_TURN = 0.1  # seconds for which a full stream keeps the supervisor from its time limits and signals


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
        self._pid = os.getpid()
        self._decoder = EventDecoder()
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
            found = self._queue.take()
        except KeyboardInterrupt:
            self.close()
            raise
        if found is not None:
            return self._decoder.event(*found)
        if not self._queue.closed and (event := next(self._decoder.rest(), None)) is not None:
            return event
        if (error := self._queue.take_error()) is not None:
            raise error
        raise StopIteration

    @property
    def result(self) -> Result:
        """The result, after the last event, also of a run that failed; its `stdout` and `stderr` are empty.

        Raises `ContainerError` before, and if `close` ended the run; if the run could not start, what it raised.
        """
        return self._queue.result()

    def close(self) -> None:
        """End the container if it runs, and wait for its end; discard what it wrote. Idempotent.

        >>> events = stream("busybox", ["sleep", "1000"])
        >>> events.close()
        >>> list(events)
        []
        """
        self._queue.close()
        if self._thread.is_alive() and self._is_own:
            self._call.stop()
            while self._thread.is_alive():
                self._thread.join(TURN)

    @property
    def _is_own(self) -> bool:
        """Whether the run is this process's. That of a copy after fork(2) belongs to its parent."""
        return self._pid == os.getpid()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # When Python ends, no thread would begin, and the end of the engine ends the run.
        if hasattr(self, "_call") and self._is_own and not sys.is_finalizing():
            self._queue.close()
            self._call.stop(gently=False)


def _work(call: Call, queue: _Queue, check: bool) -> None:
    try:
        result = call.result(check=False)
    except BaseException as error:
        queue.finish(None, error)
    else:
        queue.finish(result, None if result.ok or not check else failure(result.outcome))


class _Queue:
    """Events between the thread that supervises and the one that iterates, and what the run ended with."""

    def __init__(self) -> None:
        self._events: collections.deque[tuple[Stream, bytes]] = collections.deque()
        self._size = 0
        self._changed = threading.Condition()
        self._ended = self._cut_short = False
        self.closed = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._raised = False

    def put(self, stream: Stream, data: bytes) -> None:
        """Add an event. At the limit this waits for a moment, so that a time limit and a signal are still applied."""
        end = time.monotonic() + _TURN
        with self._changed:
            while self._size >= LIMIT and not self.closed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            if not self.closed:
                self._events.append((stream, data))
                self._size += len(data)
                self._changed.notify_all()

    def take(self) -> tuple[Stream, bytes] | None:
        """Wait for the next event and return it; None at the end."""
        with self._changed:
            while not self._events and not self._ended and not self.closed:
                self._changed.wait(TURN)
            if not self._events:
                return None
            event = self._events.popleft()
            self._size -= len(event[1])
            self._changed.notify_all()
            return event

    def finish(self, result: Result | None, error: BaseException | None) -> None:
        """Note how the run ended."""
        with self._changed:
            self._result, self._error, self._ended = result, error, True
            self._changed.notify_all()

    def describe(self) -> str:
        """Return the state of the run as a phrase."""
        if self.closed:
            return "closed"
        if not self._ended:
            return "running"
        return "failed" if self._result is None else self._result.outcome.describe()

    def result(self) -> Result:
        """Return the result. Raises `ContainerError` if there is none, and what a run raised that could not start."""
        with self._changed:
            if self._cut_short:
                hint = "read its output to the end for a result"
                raise ContainerError("the stream was closed before its run ended", hint=hint)
            if self._result is not None:
                return self._result
            if self._error is not None:
                raise self._error
            raise ContainerError("the run has no result yet", hint="read its output to the end first")

    def take_error(self) -> BaseException | None:
        """Return the error that ended the run, once; None if there is none, or if the stream was closed."""
        with self._changed:
            error, self._raised = None if self._raised else self._error, True
            return None if self.closed and isinstance(error, CellFailed | Cancelled) else error

    def close(self) -> None:
        """Discard all events, those to come too."""
        with self._changed:
            self._cut_short = self._cut_short or not self._ended
            self.closed = True
            self._events.clear()
            self._size = 0
            self._changed.notify_all()
