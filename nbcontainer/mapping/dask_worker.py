"""The part of a worker that is for dask.distributed: notes of each start, and the end of an item that was cancelled.

Dask runs an item again if its worker dies, and reports that to no one. So each start is noted on the scheduler before
anything of it runs (`Client.log_event`), and the notebook counts the notes. Elsewhere all of this does nothing.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nbcontainer.mapping.lifeline import Stoppable

_NOTE_TIMEOUT = 10  # seconds; a scheduler that does not answer gets no result either
_TURN = 0.25  # seconds between two looks at the state of a running item


def topic(lifeline: str) -> str:
    """Return the topic of a map's notes on the scheduler."""
    return lifeline


def _worker() -> Any:
    """Return the Dask worker that runs this task; None elsewhere."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


@contextlib.contextmanager
def started(task: Mapping[str, Any]) -> Iterator[str]:
    """Note on the scheduler that an item starts, and yield its key there; empty on other workers."""
    worker = _worker()
    if worker is None:
        yield ""
        return
    from distributed.utils import sync

    note = {"topic": topic(task["lifeline"]), "msg": {"index": task["index"], "worker": worker.address}}
    sync(worker.loop, worker.scheduler.log_event, callback_timeout=_NOTE_TIMEOUT, **note)
    yield str(worker.get_current_task())


@contextlib.contextmanager
def watching(key: str, call: Stoppable) -> Iterator[None]:
    """End a run when its item is cancelled on the scheduler, or when the worker closes."""
    worker = _worker() if key else None
    if worker is None:
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(worker, key, call, ended), name="nbcontainer-dask", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()


def _watch(worker: Any, key: str, call: Stoppable, ended: threading.Event) -> None:
    while not ended.wait(_TURN):
        task = worker.state.tasks.get(key)
        gone = task is None or task.state in ("cancelled", "released", "forgotten")
        if gone or worker.status.name not in ("running", "paused", "init"):
            call.stop(gently=False)
            return
