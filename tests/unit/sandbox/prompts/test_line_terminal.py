"""What is typed for an answer, and the output without its echo."""

from __future__ import annotations

import os
import termios
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.prompts.line_terminal import LineTerminal

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal, the controlling one first."""
    control, peer = os.openpty()
    yield control, peer
    os.close(control)
    os.close(peer)


def set_mode(terminal: int, **flags: bool) -> None:
    mode = termios.tcgetattr(terminal)
    for name, value in flags.items():
        bit = getattr(termios, name)
        mode[3] = mode[3] | bit if value else mode[3] & ~bit
    termios.tcsetattr(terminal, termios.TCSANOW, mode)


def typed(ends: tuple[int, int], answer: str) -> tuple[LineTerminal, bytes]:
    """An answer that is typed, and what the terminal shows of it."""
    line = LineTerminal(ends[0])
    os.write(ends[0], line.keys(answer))
    os.read(ends[1], 1000)
    os.set_blocking(ends[0], False)
    try:
        return line, os.read(ends[0], 1000)
    except BlockingIOError:
        return line, b""


@pytest.mark.parametrize("answer", ["you", "", "Ada Löve", "a\tb", "one\ntwo", "escape \x1b[A", "\x7f"])
def test_the_kernels_echo_is_removed(ends: tuple[int, int], answer: str) -> None:
    """All that the terminal shows of a typed line, controls among them, is not output of the cell."""
    if answer == "\x7f":
        set_mode(ends[1], ICANON=False)
        mode = termios.tcgetattr(ends[1])
        mode[6][termios.VMIN] = 1
        termios.tcsetattr(ends[1], termios.TCSANOW, mode)
    line, echo = typed(ends, answer)
    assert line.without_echo(echo + b"answer\r\n") == b"answer\r\n"


def test_a_secret_has_no_echo(ends: tuple[int, int]) -> None:
    """With echo off, the line is a secret, and output that is equal to it stays."""
    set_mode(ends[1], ECHO=False)
    line, echo = typed(ends, "you")
    assert line.mode.secret
    assert echo == b""
    assert line.without_echo(b"you\r\n") == b"you\r\n"


def test_the_end_of_the_input_is_typed_alone(ends: tuple[int, int]) -> None:
    """An answer of ^D gets no Enter."""
    assert LineTerminal(ends[0]).keys("\x04") == b"\x04"


def test_enter_is_the_key_where_lines_are_not_edited(ends: tuple[int, int]) -> None:
    """A program that reads each key gets a return, as from a keyboard."""
    set_mode(ends[1], ICANON=False)
    assert LineTerminal(ends[0]).keys("y") == b"y\r"


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([b"yes\r\n", b"yes\r\n"], b"yes\r\n"),
        ([b"before yes\r\nafter"], b"before after"),
        ([b"ye", b"s\r\nafter"], b"after"),
        ([b"y", b"es\r", b"\nafter"], b"after"),
        ([b"y", b"yes\r\n"], b"y"),
        ([b"other", b"yes\r\n", b"yes\r\n"], b"otheryes\r\n"),
        ([b"a" * 70_000, b"yes\r\n"], b"a" * 70_000 + b"yes\r\n"),
        ([b"ye"], b"ye"),
    ],
)
def test_the_echo_is_removed_once(ends: tuple[int, int], chunks: list[bytes], shown: bytes) -> None:
    """In pieces and behind other output too; equal output that comes later is the program's."""
    line = LineTerminal(ends[0])
    line.keys("yes")
    assert b"".join(map(line.without_echo, chunks)) + line.rest() == shown


@pytest.mark.parametrize("chunks", [[b"one\r\nAtwo\r\nB"], [b"one\r", b"\nAt", b"wo\r\nB"], [b"one\r\nA", b"two\r\nB"]])
def test_echoes_that_are_read_late_are_removed_in_their_order(ends: tuple[int, int], chunks: list[bytes]) -> None:
    """A person, or a program, types the next line before the echo of the last one was read; ^D has none."""
    line = LineTerminal(ends[0])
    for text in ("one", "two", "\x04"):
        line.keys(text)
    assert b"".join(map(line.without_echo, chunks)) + line.rest() == b"AB"


def test_a_line_without_an_echo_does_not_keep_that_of_the_next(ends: tuple[int, int]) -> None:
    """A program turned the echo off after the first line was typed, and on again before the second."""
    line = LineTerminal(ends[0])
    line.keys("one")
    line.keys("two")
    assert line.without_echo(b"two\r\none\r\n") == b"one\r\n"
