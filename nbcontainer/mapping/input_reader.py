"""Reading the inputs of a map: in the caller's thread if they are in memory, else in a thread of their own."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from nbcontainer.errors import NbcontainerError
from nbcontainer.mapping import answers
from nbcontainer.mapping.items import Item, Items


class InputReader:
    """Reads inputs, makes a task of each and sends it while there is room.

    A generator may wait for the next input as long as it likes, and even for an answer to an earlier one. So it is
    read in a daemon thread, and no answer waits for it. A list, or another collection, such as a set, the values of a
    mapping or an array, does not wait: the caller reads it by `step`. An error of the inputs is their end, and `check`
    raises it.
    """

    def __init__(
        self, inputs: Iterable[Any], task: Callable[[int, Any], Mapping[str, Any]], items: Items, retries: int
    ) -> None:
        """Raise `TypeError` if `inputs` is not an iterable."""
        self._inputs: Iterator[tuple[int, Any]] = enumerate(inputs)
        self._task = task
        self._items = items
        self._retries = retries
        self._in_memory = isinstance(inputs, Collection)
        self.ended = False
        self._error: BaseException | None = None

    @property
    def may_step(self) -> bool:
        """Whether the caller may read an input and send it."""
        return self._in_memory and not self.ended and self._items.has_room

    def start(self) -> None:
        """Read the first inputs here, or let a thread begin to read."""
        while self.may_step:
            self.step()
        if not self._in_memory:
            # A thread has the caller's context variables: numpy.errstate, decimal's precision.
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._read_all,), name="nbcontainer-inputs", daemon=True).start()

    def step(self) -> None:
        """Read one input and send its item. An interrupt is raised; an error of the inputs ends them."""
        try:
            self._step()
        except Exception as error:
            self._end(error)

    def check(self) -> None:
        """Raise what the inputs raised, if they did."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback has this frame

    def _read_all(self) -> None:
        try:
            while not self.ended and self._items.wait_for_room():
                self._step()
        except BaseException as error:  # raised in the caller's thread, after the answers of what was read
            self._end(error)
        finally:
            self._inputs = iter(())  # its generator ends where it was read

    def _step(self) -> None:
        try:
            index, value = next(self._inputs)
        except StopIteration:
            self._end(None)
            return
        try:
            item = Item(index, self._task(index, value), self._retries)
        except NbcontainerError as error:
            self._items.answer(index, answers.with_index(error, index, 0))
            self._items.wake()
        else:
            self._items.send(item)

    def _end(self, error: BaseException | None) -> None:
        self._error, self.ended = error, True
        self._items.wake()
