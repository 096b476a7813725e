"""A background thread for tasks that no cell waits for."""

from __future__ import annotations

import contextlib
import queue
import resource
import sys
import threading
import time
from typing import TYPE_CHECKING

from nbcontainer.errors import NbcontainerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_QUIET = 0.004
"""Seconds the thread waits before its first task, so that it does not take the interpreter from the caller."""


_FEW, _MOST = 32, 512
"""Tasks that may wait when a cell begins: always, and where this process may open many files."""

_SHARE = 8
"""The part of the descriptors that waiting tasks may hold: 1/8. The removal of what a cell left holds two."""


class BackgroundQueue:
    """Runs tasks in order, in a daemon thread that the first task starts. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._held: list[Callable[[], object]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._shrunk = threading.Condition()
        self._delayed = 0
        """How many threads are in `keep_pace`."""

    def add(self, task: Callable[[], object]) -> bool:
        """Queue a task; return False, and drop it, if the queue is closed or this user may have no more threads.

        `OSError` and this package's errors in it are dropped: the next cell meets the same cause.
        """
        with self._lock:
            if self._closed:
                return False
            if self._held is not None:
                self._held.append(task)
                return True
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="nbcontainer-background", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # RLIMIT_NPROC, or a limit of the group
                    return False
                self._thread = thread
            self._tasks.put(task)
        return True

    def keep_pace(self, patience: float = 5.0) -> None:
        """Wait while too many tasks are queued, `patience` seconds at most: one of them may be blocked.

        Many threads that run cells leave this queue's thread too little of the interpreter. Call it before a cell, and
        without a lock that a task takes.
        """
        if self._tasks.qsize() < _FEW:
            return
        with self._shrunk:
            self._delayed += 1
            try:
                self._shrunk.wait_for(self._keeps_pace, patience)
            finally:
                self._delayed -= 1

    def _keeps_pace(self) -> bool:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST if limit == resource.RLIM_INFINITY else max(_FEW, min(_MOST, limit // _SHARE))
        thread = self._thread  # in a fork(2) of this process, it is not there
        return self._tasks.qsize() < most or thread is None or not thread.is_alive()

    def hold(self) -> None:
        """Hold new tasks until `release`: they would slow down a cell that is about to end."""
        with self._lock:
            self._held = [] if self._held is None else self._held

    def release(self) -> None:
        """Queue the tasks that `hold` has held."""
        with self._lock:
            held, self._held = self._held, None
        for task in held or ():
            self.add(task)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold new tasks inside the block, and queue them at its end."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def wait(self) -> None:
        """Wait until every task queued so far has ended."""
        self.release()
        done = threading.Event()
        if self.add(done.set):
            done.wait()

    def close(self) -> None:
        """Run the queued tasks, then end the thread. Later tasks are dropped. Idempotent."""
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
            try:
                task()
            except (OSError, NbcontainerError):
                pass
            except Exception:  # a mistake of this package: it is shown, and later tasks run
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            busy = not self._tasks.empty()
            if self._delayed:
                with self._shrunk:
                    self._shrunk.notify()
