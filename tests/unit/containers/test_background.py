"""The thread for tasks that no cell waits for."""

from __future__ import annotations

import os
import resource
import threading
from typing import TYPE_CHECKING

from nbcontainer.containers.background import BackgroundQueue
from tests.running import DEADLINE

if TYPE_CHECKING:
    import pytest


def test_a_mistake_in_a_task_is_shown_and_later_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread lives on, so that `wait` and `close` return."""
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: shown.append(told.exc_type))
    tasks, ran = BackgroundQueue(), threading.Event()

    def mistaken() -> None:
        raise TypeError

    with tasks.held():
        tasks.add(mistaken)
        tasks.add(ran.set)
    tasks.wait()
    tasks.close()
    assert (shown, ran.is_set()) == ([TypeError], True)


def test_without_threads_tasks_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a user's limit of processes the queue takes nothing, ends, and takes tasks again later."""
    tasks, ran = BackgroundQueue(), threading.Event()

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        assert not tasks.add(ran.set)
        tasks.wait()
    assert tasks.add(ran.set)
    tasks.close()
    assert ran.is_set()


def test_a_cell_waits_while_too_many_tasks_are_queued() -> None:
    """It begins when the thread has done so many that few are left, and at once if there are few."""
    tasks, begun, goes_on = BackgroundQueue(), threading.Event(), threading.Event()
    tasks.keep_pace()
    tasks.add(lambda: goes_on.wait(DEADLINE))
    limit = max(32, min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
    for _ in range(limit + 5):
        tasks.add(lambda: None)

    def cell() -> None:
        tasks.keep_pace()
        begun.set()

    threads = [threading.Thread(target=cell) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert not begun.wait(0.05)
    goes_on.set()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    tasks.close()


def test_a_task_that_is_held_up_holds_up_no_cell_for_long() -> None:
    """A process in a dead network file system, say, cannot be ended: cells are late, and go on."""
    tasks, goes_on = BackgroundQueue(), threading.Event()
    for _ in range(1000):
        tasks.add(lambda: goes_on.wait(DEADLINE))
    tasks.keep_pace(patience=0.05)
    goes_on.set()
    tasks.close()


def test_a_fork_does_not_wait_for_the_thread_of_its_parent() -> None:
    """In a fork(2), nothing does the tasks that were queued before it."""
    tasks, goes_on = BackgroundQueue(), threading.Event()
    for _ in range(1000):
        tasks.add(lambda: goes_on.wait(DEADLINE))
    child = os.fork()
    if child == 0:
        tasks.keep_pace()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    goes_on.set()
    tasks.close()
