"""The errors of executors have one line, and a hint that can be followed."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from nbcontainer.errors import SetupFailed, WorkerError, WorkerLost
from nbcontainer.mapping import executor_errors
from nbcontainer.mapping.health import doctor

NEW = executor_errors.NEW_EXECUTOR


def test_what_a_future_raises_is_one_line() -> None:
    """A broken executor is a lost worker, and stays broken; anything else names its class, in one line."""
    lost = executor_errors.of_future(BrokenProcessPool("a\nb"))
    assert type(lost) is WorkerLost
    assert str(lost).endswith(f"(BrokenProcessPool: a); {NEW}")
    other = executor_errors.of_future(ModuleNotFoundError("No module named 'nbcontainer'\nmore"))
    assert type(other) is WorkerError
    assert str(other).startswith("a worker cannot run the item: ModuleNotFoundError: No module named 'nbcontainer'; ")
    assert executor_errors.of_future(concurrent.futures.CancelledError()).hint == "run the item again, or use `retries`"
    own = SetupFailed("it failed", step="Run", hint="do that")
    assert executor_errors.of_future(own) is own


@pytest.mark.parametrize(
    ("error", "problem", "hint"),
    [
        (
            RuntimeError("cannot schedule new futures after shutdown"),
            "the executor is closed (RuntimeError: cannot",
            NEW,
        ),
        (
            BrokenProcessPool("it broke"),
            "the executor is broken (BrokenProcessPool: it broke)",
            NEW,
        ),
        (
            RuntimeError("can't start new thread"),
            "the executor does not take the item: RuntimeError: can't",
            "check that",
        ),
    ],
)
def test_what_submit_raises_has_its_hint(error: Exception, problem: str, hint: str) -> None:
    """Nothing of the item ran: a closed or a broken executor is replaced."""
    found = executor_errors.of_submit(error)
    assert found.message.startswith(problem)
    assert found.hint.startswith(hint)


class Executor(concurrent.futures.Executor):
    """Its `submit` returns or raises one thing."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def submit(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(self.made)
        return future


@pytest.mark.parametrize(
    ("made", "found", "advice"),
    [
        (RuntimeError("cannot schedule new futures after shutdown"), "the executor is closed", NEW),
        (BrokenProcessPool("it broke"), "BrokenProcessPool: it broke", NEW),
        (5, "a value of type 'int' in place of", "use an executor whose futures"),
    ],
)
def test_doctor_reports_an_executor_that_takes_nothing(made: Any, found: str, advice: str) -> None:
    """It returns a table that is not ok, with what to do, and raises nothing."""
    table = doctor(Executor(made))
    assert not table.ok
    (check,) = list(table)
    assert found in check.found
    assert check.advice.startswith(advice)
