"""The iterator of a map: it sends items, sends them again when that is needed, and yields one answer for each."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nbcontainer.errors import NbcontainerError, WorkerLost
from nbcontainer.mapping import answers
from nbcontainer.mapping.progress_report import Report
from nbcontainer.mapping.submitting import Submitter
from nbcontainer.runs.results import Result

BUFFERED = 1000
"""Answers that wait for an earlier one, beside those that are on their way; then no more items are sent."""

_TURN = 0.5  # seconds between two reports of progress

Answer = Result | NbcontainerError


class _Item:
    """One item on its way. `left` is how often it may be run again after a failure."""

    def __init__(self, index: int, task: Mapping[str, Any], left: int) -> None:
        self.index = index
        self.task = task
        self.left = left
        self.sent_blobs = False
        self.future: Any = None


class _Inbox:
    """What items ended with, from the threads of their executor. It does not hold the iterator, which can be lost."""

    def __init__(self) -> None:
        self._ended: collections.deque[tuple[_Item, Any]] = collections.deque()
        self._changed = threading.Condition()

    def put(self, item: _Item, future: Any) -> None:
        """Note what an item ended with.

        The future is dropped at once: Dask runs an item again if a worker dies that holds an answer which is still
        asked for.
        """
        item.future = None
        try:
            answer: Any = future.result()
        except BaseException as error:
            answer = error
        with self._changed:
            self._ended.append((item, answer))
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until something is there, for some seconds at most."""
        with self._changed:
            if not self._ended:
                self._changed.wait(seconds)

    def take(self) -> Iterator[tuple[_Item, Any]]:
        """Yield what is there."""
        while self._ended:
            yield self._ended.popleft()


class Mapped(Iterator[Answer]):
    """An iterator of the results and errors of a map: one for each input.

    The first items are sent when it is made; others, and the image to workers that lack it, while it is read. `close`
    ends the containers of all items that run, and drops the others; so do the end of a `with` block, an interrupt, and
    the loss of the last reference. Use it in one thread.

    >>> with map("busybox", ["sha256sum"], (f"line {number}" for number in range(10**9))) as results:
    ...     next(results).text[:8]
    '7ab2851d'
    """

    def __init__(
        self,
        inputs: Iterable[Any],
        task: Callable[[int, Any], Mapping[str, Any]],
        submitter: Submitter,
        *,
        blob: Callable[[str], bytes],
        retries: int,
        ordered: bool,
        report: Report,
    ) -> None:
        self._inputs = enumerate(inputs)
        self._task = task
        self._submitter = submitter
        self._blob = blob
        self._retries = retries
        self._ordered = ordered
        self._report = report
        self._on_way: dict[int, _Item] = {}
        self._answers: dict[int, Answer] = {}
        self._next = itertools.count()
        self._due = next(self._next)
        self._inbox = _Inbox()
        self._all_sent = False
        self._closed = False
        try:
            self._fill()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._report.line(len(self._on_way), "")
        return f"<Mapped: {state}>"

    def __iter__(self) -> Mapped:
        return self

    def __next__(self) -> Answer:
        try:
            return self._take()
        except BaseException:  # the end, an interrupt, or an error of the caller's own iterator of inputs
            self.close()
            raise

    def _take(self) -> Answer:
        while not self._closed:
            self._settle()
            self._fill()
            if (answer := self._ready()) is not None:
                return answer
            if not self._on_way:
                break
            self._inbox.wait(_TURN)
            self._report.show(len(self._on_way), self._submitter.waits_for)
        raise StopIteration

    def _ready(self) -> Answer | None:
        """Return the next answer to yield, None if it is not there yet."""
        if not self._answers:
            return None
        index = self._due if self._ordered else next(iter(self._answers))
        answer = self._answers.pop(index, None)
        if answer is not None:
            self._due = next(self._next)
            self._report.answered(ok=answer.ok)
        return answer

    # Sending

    def _fill(self) -> None:
        while not self._all_sent and len(self._on_way) < self._submitter.window and len(self._answers) < BUFFERED:
            try:
                index, value = next(self._inputs)
            except StopIteration:
                self._all_sent = True
                return
            try:
                item = _Item(index, self._task(index, value), self._retries)
            except NbcontainerError as error:
                self._answers[index] = answers.with_index(error, index, 0)
            else:
                self._send(item, None)

    def _send(self, item: _Item, blobs: Mapping[str, bytes] | None) -> None:
        """Send an item, for the first time or again."""
        self._on_way[item.index] = item
        try:
            item.future = self._submitter.submit(item.task, blobs)
        except Exception as error:  # what an executor raises that is closed, or whose workers are dead
            self._answer(item, answers.with_index(answers.unexpected(error), item.index, 1))
        else:
            item.future.add_done_callback(functools.partial(self._inbox.put, item))

    # Answers

    def _settle(self) -> None:
        for item, answer in self._inbox.take():
            if self._on_way.get(item.index) is not item:
                continue  # it was answered when the connection was lost
            if isinstance(answer, BaseException):
                self._consider(item, answers.with_index(answers.unexpected(answer), item.index, self._starts(item)))
            elif "missing" in answer:
                self._send_blobs(item, answer["missing"])
            else:
                self._consider(item, answers.result_of(answer, item.index, self._starts(item)))
        if self._on_way and (lost := self._submitter.lost):
            for item in list(self._on_way.values()):
                error = WorkerLost(lost, hint="connect again, and run the item again")
                self._answer(item, answers.with_index(error, item.index, self._starts(item)))

    def _starts(self, item: _Item) -> int:
        # The answer that asks for blobs has started nothing.
        return max(1, self._submitter.starts(item.index) - item.sent_blobs)

    def _send_blobs(self, item: _Item, digests: Iterable[str]) -> None:
        """Send an item again, with the blobs that its worker lacks."""
        try:
            blobs = {digest: self._blob(digest) for digest in digests}
        except NbcontainerError as error:
            self._answer(item, answers.with_index(error, item.index, 0))
            return
        item.sent_blobs = True
        self._send(item, blobs)

    def _consider(self, item: _Item, answer: Answer) -> None:
        """Take an answer, or send a failed item again."""
        if not answer.ok and item.left > 0:
            item.left -= 1
            self._send(item, None)
        else:
            self._answer(item, answer)

    def _answer(self, item: _Item, answer: Answer) -> None:
        self._on_way.pop(item.index, None)
        self._answers[item.index] = answer

    # The end

    def close(self) -> None:
        """End the containers of all items that run, and wait for that where they run on this machine. Idempotent.

        >>> results = map("busybox", ["sleep", "1000"], [""] * 4)
        >>> results.close()
        >>> list(results)
        []
        """
        if self._closed:
            return
        self._closed = True
        self._submitter.close([item.future for item in self._on_way.values() if item.future is not None])
        self._on_way.clear()
        self._answers.clear()
        self._report.finish()

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            with contextlib.suppress(Exception):
                self.close()
