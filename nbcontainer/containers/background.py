"""One background thread for work that nothing waits for."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING

from nbcontainer.errors import NbcontainerError

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET = 0.004
"""Seconds that the thread leaves to the one that queued something: both share one interpreter."""


class BackgroundQueue:
    """Runs tasks in order, in a daemon thread that the first one starts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._held: list[Callable[[], object]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, task: Callable[[], object]) -> None:
        """Queues a task. Its `OSError` and this package's errors are dropped: the next use meets the same cause."""
        with self._lock:
            if self._closed:
                return
            if self._held is not None:
                self._held.append(task)
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="nbcontainer-background", daemon=True)
                self._thread.start()
            self._tasks.put(task)

    def hold(self) -> None:
        """Keeps new tasks back until `release`: they would slow down a cell that is about to end."""
        with self._lock:
            self._held = [] if self._held is None else self._held

    def release(self) -> None:
        """Queues the tasks that `hold` kept back."""
        with self._lock:
            held, self._held = self._held, None
        for task in held or ():
            self.add(task)

    def wait(self) -> None:
        """Waits until every task that was queued before has ended."""
        self.release()
        done = threading.Event()
        self.add(done.set)
        if not self._closed:
            done.wait()

    def close(self) -> None:
        """Runs what is queued, then ends the thread. Later tasks are dropped. Idempotent."""
        self.release()
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._tasks.put(None)
            thread.join()

    def _run(self) -> None:
        busy = False
        while (task := self._tasks.get()) is not None:
            if not busy:
                time.sleep(_QUIET)
            with contextlib.suppress(OSError, NbcontainerError):
                task()
            busy = not self._tasks.empty()
