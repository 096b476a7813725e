"""The thread for tasks that no cell waits for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nbcontainer.containers.background import BackgroundQueue

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
