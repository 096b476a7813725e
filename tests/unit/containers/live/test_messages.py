"""The messages of a live interpreter: which wake the thread that waits, and in which order it has them."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from nbcontainer.containers.live.messages import Messages
from tests.running import DEADLINE


def waiting(messages: Messages) -> tuple[threading.Thread, list[tuple[str, ...]]]:
    """A thread that waits for a message, and what it gets."""
    got: list[tuple[str, ...]] = []
    thread = threading.Thread(target=lambda: got.append(messages.get(DEADLINE)), daemon=True)
    thread.start()
    return thread, got


def test_a_quiet_message_comes_before_the_one_that_wakes() -> None:
    """The reader that waits has the quiet message when another one wakes it, and then that one."""
    messages = Messages()
    thread, got = waiting(messages)
    messages.put_quietly(("begun", "1"))
    time.sleep(0.05)
    assert thread.is_alive()
    messages.put(("interrupt", "1"))
    thread.join(DEADLINE)
    assert (got, messages.get(0)) == ([("begun", "1")], ("interrupt", "1"))


def test_a_hurried_reader_has_a_quiet_message_at_once() -> None:
    """A cell that was interrupted before it began is interrupted when it begins."""
    messages = Messages()
    messages.hurried = True
    thread, got = waiting(messages)
    messages.put_quietly(("begun", "1"))
    thread.join(DEADLINE)
    assert got == [("begun", "1")]
    with pytest.raises(queue.Empty):
        messages.get(0)


def test_a_quiet_message_is_there_when_the_time_is_over() -> None:
    """A reader whose time ends has a quiet message that came meanwhile, and no message is lost after it."""
    messages = Messages()
    thread, got = waiting(messages)
    with pytest.raises(queue.Empty):
        messages.get(0)
    messages.put_quietly(("begun", "1"))
    messages.put(("synced", "2"))
    thread.join(DEADLINE)
    assert [*got, messages.get(0)] == [("begun", "1"), ("synced", "2")]


def test_the_end_of_a_cell_replaces_its_beginning() -> None:
    """A reader that has not taken the quiet messages has the end of the cell alone."""
    messages = Messages()
    messages.put_quietly(("begun", "1"))
    messages.put_instead(("done", "1", "0"))
    assert messages.get(0) == ("done", "1", "0")
    with pytest.raises(queue.Empty):
        messages.get(0)


def test_a_forged_end_of_another_cell_replaces_nothing() -> None:
    """A container that writes the end of a cell that does not run hides no beginning: that cell can be interrupted."""
    messages = Messages()
    messages.put_quietly(("begun", "2", "both"))
    messages.put_instead(("done", "1", "0"))
    assert [messages.get(0), messages.get(0)] == [("begun", "2", "both"), ("done", "1", "0")]


def test_a_container_cannot_fill_the_memory_with_quiet_messages() -> None:
    """Of many quiet messages the newest are kept, and the end of the cell follows them."""
    messages = Messages()
    for number in range(10_000):
        messages.put_quietly(("begun", str(number)))
    messages.put(("over",))
    got = []
    while (message := messages.get(0)) != ("over",):
        got.append(message)
    assert len(got) < 100
    assert got[-1] == ("begun", "9999")
