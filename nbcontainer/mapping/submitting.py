"""How tasks reach their workers: threads of this process, any executor, or dask.distributed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

from nbcontainer.errors import WorkerLost
from nbcontainer.mapping.dask_worker import topic
from nbcontainer.mapping.executor_errors import CONNECT, DASK_LOST
from nbcontainer.mapping.lifeline import Lifeline, Runs
from nbcontainer.mapping.pressure import Machine
from nbcontainer.mapping.worker import perform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Future = concurrent.futures.Future[dict[str, Any]]

_UNKNOWN = 64
"""Tasks at once for an executor that does not say how many workers it has."""

_PATIENCE = 10.0
"""Seconds for which `close` waits for items that run elsewhere: their containers are killed at its beginning."""


class Submitter(Protocol):
    """Sends tasks. `lifeline` is for them, `window` how many are sent at once. `close` ends those that run."""

    lifeline: str
    window: int

    def submit(self, task: Mapping[str, Any], blobs: Mapping[str, bytes] | None) -> Future:
        """Send a task, with the blobs that its worker lacked."""
        ...

    def starts(self, index: int) -> int:
        """Return how often an item was started, as far as that is known here."""
        ...

    @property
    def waits_for(self) -> str:
        """What a start waits for now, on this machine; empty if none waits."""
        ...

    @property
    def lost(self) -> str:
        """Why no answer will come any more; empty while that is not so."""
        ...

    def close(self, futures: list[Future]) -> None:
        """End the items of these futures, and release what the submitter has. Idempotent."""
        ...


class ThreadSubmitter:
    """Threads of this process: of a pool that `close` shuts down, or of the caller's executor."""

    lifeline = lost = ""

    def __init__(self, executor: concurrent.futures.Executor | None, workers: int | None) -> None:
        self._own = None
        if executor is None:
            count = workers or len(os.sched_getaffinity(0))
            self._own = executor = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="nbcontainer-map")
            workers = None  # the threads are the limit
        self._executor = executor
        self.window = workers or _workers_of(executor)
        self._runs = Runs()
        self._started: Counter[int] = Counter()
        self._waiting: dict[int, str] = {}

    def submit(self, task: Mapping[str, Any], blobs: Mapping[str, bytes] | None) -> Future:
        """See `Submitter`."""
        on_wait = functools.partial(self._note, task["index"])
        with _counted(self._started, task["index"]):
            return self._executor.submit(perform, task, blobs, runs=self._runs, on_wait=on_wait)

    def _note(self, index: int, text: str) -> None:
        if text:
            self._waiting[index] = text
        else:
            self._waiting.pop(index, None)

    def starts(self, index: int) -> int:
        """See `Submitter`."""
        return self._started[index]

    @property
    def waits_for(self) -> str:
        """See `Submitter`."""
        return next(iter(list(self._waiting.values())), "")

    def close(self, futures: list[Future]) -> None:
        """See `Submitter`."""
        _cancel(futures)
        self._runs.stop()
        if self._own is not None:
            self._own.shutdown(wait=True, cancel_futures=True)
        else:
            # One that was cancelled ends when a thread of the pool comes to it, which others may keep busy.
            concurrent.futures.wait([one for one in futures if not one.cancelled()])


class ProcessSubmitter:
    """Any executor that pickles what it gets."""

    @property
    def waits_for(self) -> str:
        """See `Submitter`: what this machine lacks, if the workers are its processes."""
        if not isinstance(self._executor, concurrent.futures.ProcessPoolExecutor):
            return ""
        room = Machine().room()
        return room.least if room.containers <= 0 else ""

    @property
    def lost(self) -> str:
        """See `Submitter`: such an executor ends its futures itself."""
        return ""

    def __init__(self, executor: concurrent.futures.Executor, workers: int | None) -> None:
        self._executor = executor
        self._socket = Lifeline()
        self.lifeline = self._socket.name
        self.window = workers or _workers_of(executor)
        self._started: Counter[int] = Counter()

    def submit(self, task: Mapping[str, Any], blobs: Mapping[str, bytes] | None) -> Future:
        """See `Submitter`."""
        with _counted(self._started, task["index"]):
            return self._executor.submit(perform, task, blobs)

    def starts(self, index: int) -> int:
        """See `Submitter`."""
        return self._started[index]

    def close(self, futures: list[Future]) -> None:
        """See `Submitter`."""
        self._socket.close()
        _cancel(futures)
        concurrent.futures.wait([one for one in futures if not one.cancelled()], _PATIENCE)


class DaskSubmitter(ProcessSubmitter):
    """`Client.get_executor()` of dask.distributed: blobs travel as scattered futures, once to each worker.

    Dask runs an item again if its worker dies. Each start is noted on the scheduler, and counted here.
    """

    def __init__(self, executor: Any, workers: int | None) -> None:
        self._client = executor._client
        threads = 0 if self.lost else sum(self._client.nthreads().values())
        super().__init__(executor, workers or 4 * threads or _UNKNOWN)
        self._scattered: dict[str, Any] = {}
        self._notes: Counter[int] = Counter()
        self._lock = threading.Lock()
        if not self.lost:
            self._client.subscribe_topic(topic(self.lifeline), self._note)

    @property
    def lost(self) -> str:
        """See `Submitter`: Dask leaves the futures of a client waiting that has given up the connection."""
        return DASK_LOST if is_closed(self._client) else ""

    def _note(self, event: tuple[float, Mapping[str, Any]]) -> None:
        with self._lock:
            self._notes[event[1]["index"]] += 1

    def submit(self, task: Mapping[str, Any], blobs: Mapping[str, bytes] | None) -> Future:
        """See `Submitter`."""
        if self.lost:
            raise WorkerLost(self.lost, hint=CONNECT)
        return super().submit(task, None if blobs is None else self._scatter(blobs))

    def _scatter(self, blobs: Mapping[str, bytes]) -> dict[str, Any]:
        new = {digest: data for digest, data in blobs.items() if digest not in self._scattered}
        if new:
            self._scattered |= self._client.scatter(new)
        return {digest: self._scattered[digest] for digest in blobs}

    def starts(self, index: int) -> int:
        """See `Submitter`."""
        with self._lock:
            return max(self._notes[index], 1)

    def close(self, futures: list[Future]) -> None:
        """See `Submitter`."""
        super().close(futures)
        self._scattered.clear()
        if self._client.status == "running":
            self._client.unsubscribe_topic(topic(self.lifeline))


def check_executor(executor: object) -> None:
    """Raise `TypeError` if this is not an executor; None, which is a pool of threads, is one."""
    if executor is None or isinstance(executor, concurrent.futures.Executor):
        return
    name = f"the class {executor.__name__}" if isinstance(executor, type) else type(executor).__name__
    advice = ": write executor=client.get_executor()" if hasattr(executor, "get_executor") else ""
    raise TypeError(f"executor must be a concurrent.futures.Executor, not {name}{advice}")


def submitter(executor: concurrent.futures.Executor | None, workers: int | None) -> Submitter:
    """Return the submitter for an executor; None is a pool of threads of this process."""
    if executor is None or isinstance(executor, concurrent.futures.ThreadPoolExecutor):
        return ThreadSubmitter(executor, workers)
    if is_dask(executor):
        return DaskSubmitter(executor, workers)
    return ProcessSubmitter(executor, workers)


def is_dask(executor: object) -> bool:
    """Return whether this is an executor of dask.distributed, which is not imported for that."""
    return type(executor).__module__.partition(".")[0] == "distributed" and hasattr(executor, "_client")


def is_closed(client: Any) -> bool:
    """Return whether a client of dask.distributed is closed: by its user, or since it gave up the connection."""
    return client.status in ("closing", "closed")


def _workers_of(executor: object) -> int:
    """Return two tasks for each worker, so that none waits for the notebook."""
    count = getattr(executor, "_max_workers", None)
    return 2 * count if isinstance(count, int) else _UNKNOWN


@contextlib.contextmanager
def _counted(starts: Counter[int], index: int) -> Iterator[None]:
    """Count a start before it, since its answer may come at once; not if the executor refuses it."""
    starts[index] += 1
    try:
        yield
    except BaseException:
        starts[index] -= 1
        raise


def _cancel(futures: list[Future]) -> None:
    for future in futures:
        future.cancel()
