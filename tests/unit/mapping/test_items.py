"""What wakes the thread that reads the answers of a map: no container runs here."""

from __future__ import annotations

from nbcontainer.errors import WorkerError
from nbcontainer.mapping.items import Item, Items
from tests.running import DEADLINE
from tests.unit.mapping.test_mapped import Echo


def test_an_item_that_ended_wakes_the_reader_once() -> None:
    """Each wake takes the interpreter from the threads that run items, so an answer causes no other wake."""
    items = Items(Echo())
    items.send(Item(0, {"index": 0, "input": "text"}, 0))
    assert items.wait(DEADLINE)
    [(item, _)] = items.ended()
    items.answer(item.index, WorkerError("ended"))
    assert not items.wait(0)
    assert items.take(0) is not None


def test_an_item_that_ended_before_the_wait_is_seen() -> None:
    """The reader does not wait while an item that has ended is unread."""
    items = Items(Echo())
    for index in (0, 1):
        items.send(Item(index, {"index": index, "input": "text"}, 0))
    next(items.ended())
    assert items.wait(DEADLINE)


def test_the_end_of_the_inputs_wakes_the_reader() -> None:
    """With no item on its way, there is nothing else to wait for."""
    items = Items(Echo())
    items.wake()
    assert items.wait(DEADLINE)
    assert not items.wait(0)
