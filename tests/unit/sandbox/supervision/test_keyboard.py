"""What is typed into a cell's terminal, with pipes in the place of the keyboard and of the terminal."""

from __future__ import annotations

import contextlib
import os
import select
from typing import TYPE_CHECKING, NamedTuple

import pytest

from nbcontainer.sandbox.supervision.keyboard import Keyboard

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ends(NamedTuple):
    """The ends of two pipes: who types, what is read, what is written to, and what the cell reads."""

    typist: int
    source: int
    terminal: int
    cell: int


@pytest.fixture
def ends() -> Iterator[Ends]:
    source, typist = os.pipe()
    cell, terminal = os.pipe()
    os.set_blocking(terminal, False)
    yield Ends(typist, source, terminal, cell)
    for fd in (source, cell, terminal):
        os.close(fd)


def connected(ends: Ends, source: int | None) -> tuple[Keyboard, select.poll]:
    poll = select.poll()
    poll.register(ends.terminal, select.POLLIN)
    keyboard = Keyboard(poll, source)
    keyboard.connect(ends.terminal)
    return keyboard, poll


def test_keys_reach_the_terminal_and_their_end_is_typed(ends: Ends) -> None:
    """What comes from the keyboard is handed over, and its end is the character that ends a terminal's input."""
    keyboard, poll = connected(ends, ends.source)
    os.write(ends.typist, b"ls\n")
    assert (ends.source, select.POLLIN) in poll.poll(0)
    keyboard.read()
    assert (ends.terminal, select.POLLOUT) in poll.poll(0)
    keyboard.write()
    assert os.read(ends.cell, 100) == b"ls\n"
    os.close(ends.typist)
    keyboard.read()
    keyboard.write()
    assert os.read(ends.cell, 100) == b"\x04"
    assert not keyboard.busy


def test_no_key_is_read_before_the_terminal_took_the_last(ends: Ends) -> None:
    """A cell that reads nothing stops the keyboard, and not the notebook: nothing piles up, and nothing is lost."""
    keyboard, poll = connected(ends, ends.source)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(ends.terminal, bytes(4096))
    os.write(ends.typist, b"late\n")
    keyboard.read()
    keyboard.write()
    os.write(ends.typist, b"later\n")
    assert ends.source not in dict(poll.poll(0))
    while b"\0" in (taken := os.read(ends.cell, 1 << 20)):
        if len(taken) < 1 << 20:
            break
    keyboard.write()
    assert os.read(ends.cell, 100) == b"late\n"
    assert ends.source in dict(poll.poll(0))
    os.close(ends.typist)


def test_without_a_terminal_nothing_is_typed(ends: Ends) -> None:
    """A cell without a terminal takes no answer, and nothing waits for it."""
    keyboard = Keyboard(select.poll(), None)
    keyboard.type(b"answer\n")
    assert not keyboard.busy
    os.close(ends.typist)
