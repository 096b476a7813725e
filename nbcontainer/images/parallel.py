"""Jobs of one transfer that run in several threads, and that end together if one of them fails."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.progress import Tracker

    Result = TypeVar("Result")

_SHOW_EVERY = 0.1  # seconds between two states for the listener


def run_jobs(
    jobs: Sequence[Callable[[], Result]],
    tracker: Tracker,
    *,
    threads: int,
    name: str,
    abort: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Run `jobs` in `threads` threads and return their results in order; the listener gets states meanwhile.

    If a job fails, or this thread is interrupted, the tracker is stopped, `abort` ends what the other jobs wait for,
    jobs that have not begun are dropped, and the error is raised once all threads have ended. `name` is the threads'.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix=f"nbcontainer-{name}") as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            _follow(futures, tracker)
        except BaseException:
            tracker.stop()
            abort()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _follow(futures: Sequence[Future[Any]], tracker: Tracker) -> None:
    """Wait for all; raise the error of the first that fails."""
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=_SHOW_EVERY, return_when=FIRST_COMPLETED)
        tracker.show()
        for future in done:
            future.result()
