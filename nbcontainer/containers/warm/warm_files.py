"""Files that a cell needs, opened before it comes: pipes for its output, a null input, and one for its body."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

from nbcontainer.linux.pipes import output_pipe
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")


class _Stock(Generic[Made]):
    """Things of one kind, made by `make`. Thread-safe: a list's `append` and `pop` are atomic."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._ready: list[Made] = []

    def take(self) -> Made:
        """Return one, a new one if none is ready. It is the caller's."""
        try:
            return self._ready.pop()
        except IndexError:
            return self._make()

    def fill(self, number: int) -> None:
        """Make them until so many are ready."""
        while len(self._ready) < number:
            made = self._make()  # before the list is looked up: `empty` replaces it
            self._ready.append(made)

    def empty(self) -> list[Made]:
        """Return all that are ready. They are the caller's."""
        ready, self._ready = self._ready, []
        return ready


class WarmFiles:
    """The files of a few cells. Thread-safe. The owner calls `close`; what a cell has taken, that closes."""

    def __init__(self) -> None:
        self._pipes = _Stock(output_pipe)
        self._inputs = _Stock(_null)
        self._bodies = _Stock(lambda: protocol.empty_memory_file("cell"))

    def output_pipe(self) -> tuple[int, int]:
        """Return a pipe for one stream: (read end, write end), as `pipes.output_pipe` does."""
        return self._pipes.take()

    def null_input(self) -> int:
        """Return /dev/null, open for reading."""
        return self._inputs.take()

    def memory_file(self, data: bytes) -> int:
        """Return a sealed memory file with `data`, as `protocol.memory_file` does."""
        return protocol.fill_memory_file(self._bodies.take(), data)

    def prepare(self, cells: int) -> None:
        """Open what so many cells need. Raises `OSError`."""
        self._pipes.fill(2 * cells)
        self._inputs.fill(cells)
        self._bodies.fill(cells)

    def close(self) -> None:
        """Close what no cell has taken."""
        protocol.close(end for pipe in self._pipes.empty() for end in pipe)
        protocol.close((*self._inputs.empty(), *self._bodies.empty()))


def _null() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
