"""Progress in words, and in a terminal's line."""

from __future__ import annotations

import io

import pytest

from nbcontainer.commands.progress_line import PATIENCE, TerminalLine, line
from nbcontainer.progress import State


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State("pull x", 500, 1000, 1, 3), "pull x  1/3 layers  500 B of 1.0 kB  50%"),
        (State("export y", 2_000_000), "export y  2.0 MB"),
        (State("pull x"), "pull x"),
        (State("pull x", 1000, 1000, 3, 3, 1.26, finished=True), "pull x  3/3 layers  1.0 kB of 1.0 kB  100%  1.3 s"),
        (
            State("pull x", 500, 1000, seconds=2, finished=True, failed=True),
            "pull x  500 B of 1.0 kB  50%  failed after 2.0 s",
        ),
        (State("pull x", 1001, 1000), "pull x  1.0 kB of 1.0 kB  100%"),
    ],
)
def test_a_state_in_words(state: State, words: str) -> None:
    """A state says what is done, of how much, and, at the end, how long it took."""
    assert line(state) == words


def test_a_terminal_has_one_line() -> None:
    """A line is drawn over and over in its place, and is gone at the end."""
    stream = io.StringIO()
    draw = TerminalLine(stream)
    for done in (1, 2):
        draw(State("pull x", done, 10, seconds=PATIENCE))
    draw(State("pull x", 10, 10, seconds=1, finished=True))
    assert stream.getvalue() == ("\r\x1b[Kpull x  1 B of 10 B  10%\r\x1b[Kpull x  2 B of 10 B  20%\r\x1b[K")


def test_short_work_is_quiet() -> None:
    """What is over in a moment draws nothing."""
    stream = io.StringIO()
    draw = TerminalLine(stream)
    draw(State("pull x", 1, 10, seconds=PATIENCE / 2))
    draw(State("pull x", 10, 10, seconds=PATIENCE / 2, finished=True))
    assert stream.getvalue() == ""


def test_a_long_line_does_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is cut at the terminal's width: one that wraps could not be drawn over."""
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    TerminalLine(stream)(State("pull " + "x" * 100, seconds=1))
    assert len(stream.getvalue().removeprefix("\r\x1b[K")) == 19
