"""The output of an untrusted run: text and colors."""

from __future__ import annotations

import pytest

from nbcontainer.rendering.inert_text import InertText

BAD = "\N{REPLACEMENT CHARACTER}"


def shown(*chunks: bytes) -> str:
    """What passes, as text."""
    passed: list[bytes] = []
    sink = InertText(passed.append)
    for chunk in chunks:
        sink(chunk)
    return b"".join(passed).decode()


@pytest.mark.parametrize(
    "text", ["plain\n", "a\tb\r\n", "\x1b[1;31mred\x1b[0m", "\x1b[38;2;1;2;3mtrue\x1b[m", "10%\r20%\b", "ä€😀"]
)
def test_text_and_colors_pass(text: str) -> None:
    """Lines, progress and colors are as they were written."""
    assert shown(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b]0;title\x07", f"{BAD}]0;title{BAD}"),
        (b"\x1b]52;c;ZXZpbA==\x1b\\", f"{BAD}]52;c;ZXZpbA=={BAD}\\"),
        (b"\x1b[2J\x1b[H", f"{BAD}[2J{BAD}[H"),
        (b"\x1b]8;;http://x\x1b\\link", f"{BAD}]8;;http://x{BAD}\\link"),
        (b"\x1b[6n", f"{BAD}[6n"),
        (b"\x1bPq\x1b\\", f"{BAD}Pq{BAD}\\"),
        (b"\xc2\x9b2J", f"{BAD}2J"),
        (b"\x00\x07\x0e\x7f", BAD * 4),
        (b"\x1b[" + b"1;" * 40 + b"m", f"{BAD}[" + "1;" * 40 + "m"),
    ],
)
def test_every_other_control_is_replaced(data: bytes, text: str) -> None:
    """Titles, the clipboard, links, the cursor and questions to the terminal do not pass, in one write or in many."""
    assert shown(data) == text
    assert shown(*(bytes((byte,)) for byte in data)) == text


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_color_in_parts_is_a_color(cut: int) -> None:
    """A sequence that is written in two parts passes."""
    data = b"a\x1b[1;31mb\xc3\xa4"
    assert shown(data[:cut], data[cut:]) == data.decode()
