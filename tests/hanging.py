"""A pytest plugin: a test that hangs says where, and ends its process.

pytest-timeout and pytest's own watch stop at the first failure of a test: what hangs in the teardown after it, or when
the test is tried again, would hang for ever. This plugin watches each phase of each try, and the end of the process.
"""

from __future__ import annotations

import faulthandler
import os
from typing import TYPE_CHECKING

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # where pytest does not capture

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = 90
"""Seconds that a process has to end after its last test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `hanging_after`, the seconds that a phase may take beyond the time limit of its test."""
    parser.addini("hanging_after", "seconds beyond a test's time limit after which its process ends", default="60")


def _watch(terminal: int, seconds: float) -> None:
    """Writes the stack of every thread to the terminal and ends the process in `seconds`, unless called again."""
    # A thread without the interpreter's lock does this: it works where no signal reaches Python.
    faulthandler.dump_traceback_later(seconds, file=terminal, exit=True)


def _limit(item: pytest.Item) -> float:
    """Returns the time limit of a test in seconds."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.getini("timeout"))


def _watched(item: pytest.Item) -> Iterator[None]:
    _watch(item.config.stash[fault_handler_stderr_fd_key], _limit(item) + float(item.config.getini("hanging_after")))
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Watches the fixtures of a try."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watches the test itself."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Watches the ends of fixtures."""
    return (yield from _watched(item))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Watches the end of pytest itself: threads that it waits for, and functions of atexit.

    A worker of pytest-xdist waits at its end for other workers, and pytest-xdist ends it.
    """
    config = session.config
    if not hasattr(config, "workerinput"):
        _watch(os.dup(config.stash[fault_handler_stderr_fd_key]), ENDING)  # pytest closes its own before the end
