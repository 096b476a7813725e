"""The items of a map on their way to a worker and back, and the answers that wait to be read."""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from nbcontainer.errors import NbcontainerError
from nbcontainer.mapping import executor_errors
from nbcontainer.mapping.submitting import Submitter
from nbcontainer.runs.results import Result

BUFFERED = 1000
"""Answers that wait for an earlier one, beside those that are on their way; then no more items are sent."""

Answer = Result | NbcontainerError


class Item:
    """One item on its way. `left` is how often it may be run again after a failure, `taken` how often it was sent."""

    def __init__(self, index: int, task: Mapping[str, Any], left: int) -> None:
        self.index = index
        self.task = task
        self.left = left
        self.sent_blobs = False
        self.taken = 0
        self.future: Any = None


class Items:
    """All items of one map that are not read yet. Thread-safe.

    It does not hold the iterator, which can be lost while a thread reads inputs and executors end items.
    """

    def __init__(self, submitter: Submitter) -> None:
        self._submitter = submitter
        self._changed = threading.Condition()
        self._news = False
        self._closed = False
        self._ended: collections.deque[tuple[Item, Any]] = collections.deque()
        self._answers: dict[int, Answer] = {}
        self.on_way: dict[int, Item] = {}

    # Sending

    @property
    def has_room(self) -> bool:
        """Whether one more item may be sent."""
        return len(self.on_way) < self._submitter.window and len(self._answers) < BUFFERED

    def wait_for_room(self) -> bool:
        """Wait until there is room, and return True; False if the map was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.has_room)
            return not self._closed

    def send(self, item: Item, blobs: Mapping[str, bytes] | None = None) -> None:
        """Send an item, for the first time or again.

        No lock is held for `submit`: a pool of processes that breaks calls `_put` while it holds its own.
        """
        with self._changed:
            if self._closed:
                return
            self.on_way[item.index] = item
        try:
            future: Any = self._submitter.submit(item.task, blobs)
            if not hasattr(future, "add_done_callback"):
                raise TypeError(f"it returned a value of type '{type(future).__name__}', and not a future")
            item.future = future
            item.taken += 1
            future.add_done_callback(functools.partial(self._put, item))
        except Exception as error:  # what an executor raises that is closed, or whose workers are dead
            item.left = 0
            self._note(item, executor_errors.of_submit(error))
        else:
            if self._closed:  # meanwhile, by another thread
                future.cancel()

    def _put(self, item: Item, future: Any) -> None:
        """Note what an item ended with.

        The future is dropped at once: Dask runs an item again if a worker dies that holds an answer which is still
        asked for.
        """
        item.future = None
        try:
            answer: Any = future.result()
        except BaseException as error:
            answer = error
        self._note(item, answer)

    def _note(self, item: Item, answer: Any) -> None:
        with self._changed:
            if not self._closed:
                self._ended.append((item, answer))
                self._changed.notify_all()

    # Answers

    def wake(self) -> None:
        """End the wait of the thread that reads answers, though no item has ended."""
        with self._changed:
            self._news = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until an item has ended, or for `wake`, for some seconds at most; return False after them."""
        with self._changed:
            found = bool(self._changed.wait_for(lambda: self._ended or self._news, seconds))
            self._news = False
            return found

    def ended(self) -> Iterator[tuple[Item, Any]]:
        """Yield the items that have ended since the last call, with what their futures held or raised."""
        while self._ended:
            item, answer = self._ended.popleft()
            if self.on_way.get(item.index) is item:  # else it was answered when the connection was lost
                yield item, answer

    def answer(self, index: int, answer: Answer) -> None:
        """Take the answer of an item, which is on its way no more.

        It does not wake the thread that reads answers, which calls this for each item that has ended.
        """
        with self._changed:
            self.on_way.pop(index, None)
            if not self._closed:
                self._answers[index] = answer
            self._changed.notify_all()  # there may be room

    def is_due(self, index: int | None) -> bool:
        """Return whether the answer of an item is there; None means any."""
        return bool(self._answers) if index is None else index in self._answers

    def take(self, index: int | None) -> Answer | None:
        """Return the answer of an item and forget it, None if it is not there; without an index, the oldest one."""
        with self._changed:
            key = next(iter(self._answers), -1) if index is None else index
            answer = self._answers.pop(key, None)
            self._changed.notify_all()  # there may be room
            return answer

    def close(self) -> list[Any]:
        """Forget all items, take no more, and return the futures of those that run."""
        with self._changed:
            self._closed = True
            futures = [item.future for item in self.on_way.values()]
            self.on_way.clear()
            self._answers.clear()
            self._ended.clear()
            self.wake()
            return [future for future in futures if future is not None]
