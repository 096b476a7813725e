"""Plain text: printable characters, and columns."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def visible(text: str) -> str:
    """Return `text` with unprintable characters escaped, as in `\\x1b`: an image's names may control a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def plain(value: object) -> str:
    """Return a text or a number as Python's own types write it: that of an enum is its value, and not its name.

    Raises `TypeError` for another type, and `ValueError` for an integer that Python does not write.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, numbers.Integral):
        return int.__repr__(int(value))
    raise TypeError(f"no text or number: {type(value).__name__}")


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as left-aligned columns. No line ends with spaces."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def one_line(text: str, width: int = 48) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
