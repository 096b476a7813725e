"""A run of a container that goes its way in a thread: its output so far, its result, and its end."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from nbcontainer.errors import ContainerError
from nbcontainer.runs.calls import Call
from nbcontainer.runs.results import Result

Sink = Callable[[bytes], None]

KEPT = 16 << 20
"""Bytes of output that are kept; older ones are dropped."""


class BackgroundRun:
    """One run that has begun. Thread-safe."""

    def __init__(self, make: Callable[[Sink, Sink], Call]) -> None:
        """Start the run, and return when its container runs. Raises what its start raises."""
        self._parts: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._changed = threading.Condition()
        self._ended = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._call = make(self._keep, self._keep)
        self._thread = threading.Thread(target=self._work, name="nbcontainer-run", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._call.started or self._ended)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        self._call.on_start = self._notify
        try:
            self._result = self._call.result(check=False)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _keep(self, data: bytes) -> None:
        with self._changed:
            self._parts.append(data)
            self._size += len(data)
            while self._size > KEPT and len(self._parts) > 1:
                self._size -= len(self._parts.popleft())

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def logs(self) -> bytes:
        """Return the output so far: standard output and standard error, in the order in which they came."""
        with self._changed:
            return b"".join(self._parts)

    def wait(self, timeout: float | None) -> Result:
        """Wait for the end, and return the result. Raises `ContainerError` after `timeout` seconds, and its errors."""
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        if self._result is None:
            hint = "wait longer, or end it with `stop`"
            raise ContainerError(f"the container still runs after {timeout:g} s", hint=hint)
        return self._result

    def stop(self) -> None:
        """End it, and wait for its end."""
        if self._thread.is_alive():
            self._call.stop()
            self._thread.join()
