"""The messages of a live interpreter: which wake the thread that waits, and how many are kept."""

from __future__ import annotations

import queue

import pytest

from nbcontainer.containers.live.messages import MOST, Messages


def test_messages_come_in_order() -> None:
    """The reader has each message once, in the order in which they came."""
    messages = Messages()
    messages.put_received(("begun", "1"))
    messages.put(("interrupt", "1"))
    assert [messages.get(0), messages.next(), messages.next()] == [("begun", "1"), ("interrupt", "1"), None]
    with pytest.raises(queue.Empty):
        messages.get(0)


def test_a_message_wakes_a_reader_that_waits_for_something_else() -> None:
    """The waker is called after each message that comes while it is set: the message is there then."""
    messages = Messages()
    found: list[bool] = []
    messages.put(("over",))
    messages.waker = lambda: found.append(messages.empty())
    messages.put(("interrupt", "1"))
    messages.put_received(("begun", "1"))
    messages.waker = None
    messages.put(("over",))
    assert found == [False, False]


def test_a_container_cannot_fill_the_memory_with_messages() -> None:
    """Of the interpreter's messages the newest are kept, and none of this package's is lost for them."""
    messages = Messages()
    messages.put(("interrupt", "1"))
    for number in range(10 * MOST):
        messages.put_received((f"word{number}", str(number)))
    messages.put(("over",))
    got = []
    while (message := messages.next()) is not None:
        got.append(message)
    assert len(got) == MOST + 1
    assert ("interrupt", "1") in got
    assert got[-2:] == [(f"word{10 * MOST - 1}", str(10 * MOST - 1)), ("over",)]
