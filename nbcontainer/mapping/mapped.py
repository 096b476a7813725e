"""The iterator of a map: it sends items, sends them again when that is needed, and yields one answer for each."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - it registers its wait for threads, and so before this module
import contextlib
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nbcontainer.errors import NbcontainerError, WorkerLost
from nbcontainer.mapping import answers, executor_errors
from nbcontainer.mapping.input_reader import InputReader
from nbcontainer.mapping.items import Answer, Item, Items
from nbcontainer.mapping.progress_report import Report
from nbcontainer.mapping.submitting import Submitter

_TURN = 0.5  # seconds between two reports of progress


class Mapped(Iterator[Answer]):
    """An iterator of the results and errors of a map: one for each input.

    The first items are sent when it is made; others, and the image to workers that lack it, while it is read. Inputs
    that are not in memory, such as a generator, are read in a thread of their own, a few ahead. If they raise an error,
    it is raised after the answers of all inputs before it. `close` ends the containers of all items that run, and drops
    the others; so do the end of a `with` block, an interrupt, and the loss of the last reference. Use it in one thread.

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
        self._submitter = submitter
        self._blob = blob
        self._ordered = ordered
        self._report = report
        self._next = itertools.count()
        self._due = next(self._next)
        self._items = Items(submitter)
        self._closed = False
        self._pid, self._thread = os.getpid(), threading.current_thread()
        _open_maps.add(self)
        try:
            self._reader = InputReader(inputs, task, self._items, retries)
            self._reader.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._report.line(len(self._items.on_way), "")
        return f"<Mapped: {state}>"

    def __iter__(self) -> Mapped:
        return self

    def __next__(self) -> Answer:
        try:
            return self._take()
        except BaseException:  # the end, an interrupt, or an error of the inputs
            self.close()
            raise

    def _take(self) -> Answer:
        while not self._closed:
            self._settle()
            self._fill()
            ended = self._reader.ended  # before the look at the answers: those of all that was read are among them
            self._settle()
            if (answer := self._ready()) is not None:
                return answer
            if ended and not self._items.on_way:
                break
            self._items.wait(_TURN)
            self._report.show(len(self._items.on_way), self._submitter.waits_for)
        if not self._closed:
            self._reader.check()
        raise StopIteration

    def _fill(self) -> None:
        """Send inputs that are in memory: as many as there is room for, but only one if an answer is due."""
        while self._reader.may_step:
            self._reader.step()
            self._settle()
            if self._items.is_due(self._wanted):
                break

    @property
    def _wanted(self) -> int | None:
        return self._due if self._ordered else None

    def _ready(self) -> Answer | None:
        """Return the next answer to yield, None if it is not there yet."""
        answer = self._items.take(self._wanted)
        if answer is not None:
            self._due = next(self._next)
            self._report.answered(ok=answer.ok)
        return answer

    # Answers

    def _settle(self) -> None:
        for item, answer in self._items.ended():
            if isinstance(answer, BaseException):
                error = executor_errors.of_future(answer)
                self._consider(item, answers.with_index(error, item.index, self._starts(item)))
            elif isinstance(answer, dict) and "missing" in answer:
                self._send_blobs(item, answer["missing"])
            else:
                self._consider(item, answers.result_of(answer, item.index, self._starts(item)))
        if self._items.on_way and (lost := self._submitter.lost):
            for item in list(self._items.on_way.values()):
                error = WorkerLost(lost, hint=executor_errors.CONNECT)
                self._items.answer(item.index, answers.with_index(error, item.index, self._starts(item)))

    def _starts(self, item: Item) -> int:
        # The answer that asks for blobs has started nothing; nor has what no executor has taken.
        taken = item.taken - item.sent_blobs
        return max(1, self._submitter.starts(item.index) - item.sent_blobs) if taken > 0 else 0

    def _send_blobs(self, item: Item, digests: Iterable[str]) -> None:
        """Send an item again, with the blobs that its worker lacks."""
        try:
            blobs = {digest: self._blob(digest) for digest in digests}
        except NbcontainerError as error:
            self._items.answer(item.index, answers.with_index(error, item.index, 0))
            return
        item.sent_blobs = True
        self._items.send(item, blobs)

    def _consider(self, item: Item, answer: Answer) -> None:
        """Take an answer, or send a failed item again."""
        if not answer.ok and item.left > 0:
            item.left -= 1
            self._items.send(item)
        else:
            self._items.answer(item.index, answer)

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
        if self._is_own:
            _end(self._submitter, self._items, self._report)

    @property
    def _is_own(self) -> bool:
        """Whether the items are this process's. Those of a copy after fork(2) belong to its parent."""
        return self._pid == os.getpid()

    def close_at_exit(self) -> None:
        """Close it, unless a thread that still runs reads it."""
        if self._thread is threading.main_thread() or not self._thread.is_alive():
            self.close()

    def __enter__(self) -> Mapped:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        """End the items in another thread: any thread can collect this, also one that has a lock which that needs."""
        if getattr(self, "_closed", True):
            return
        self._closed = True
        if sys.is_finalizing() or not self._is_own:  # no thread would begin; the end of the engine ends the items
            return
        ends = (self._submitter, self._items, self._report)
        with contextlib.suppress(RuntimeError):  # Python ends, and all containers with it
            threading.Thread(target=_end, args=ends, name="nbcontainer-map-end", daemon=True).start()


_open_maps: weakref.WeakSet[Mapped] = weakref.WeakSet()
"""The maps of this process that may not be closed."""


def _close_all() -> None:
    for mapped in list(_open_maps):
        mapped.close_at_exit()


def _at_end_of_threads(function: Callable[[], None]) -> None:
    """Have a function called when the main thread has ended, before Python waits for the threads of pools.

    concurrent.futures registers its own wait so (Lib/concurrent/futures/thread.py), and the last one is called first.
    """
    register: Any = getattr(threading, "_register_atexit", None)
    if register is not None:
        with contextlib.suppress(RuntimeError):  # the main thread has ended already
            register(function)


_at_end_of_threads(_close_all)


def _end(submitter: Submitter, items: Items, report: Report) -> None:
    """End all items, and wait for that where they run on this machine."""
    submitter.close(items.close())
    report.finish()
