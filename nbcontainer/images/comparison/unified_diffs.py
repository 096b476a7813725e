"""Unified diffs of two texts, as diff(1) writes them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LINES_LIMIT = 3000
"""Lines of a file that counts as small, without those that both have at its beginning and its end: the time of a
comparison grows faster than their number."""


def unified(old: str, new: str, context: int = 3) -> list[str] | None:
    """Return the hunks of a unified diff, without the lines with the names; None if the texts have too many lines.

    As in git, a last line without an end is followed by one that says so.
    """
    before, after = _lines(old), _lines(new)
    begin = _common(before, after)
    end = _common(before[begin:][::-1], after[begin:][::-1])
    if max(len(before), len(after)) - begin - end > LINES_LIMIT:
        return None
    head, tail = max(0, begin - context), max(0, end - context)
    before, after = before[head : len(before) - tail], after[head : len(after) - tail]
    matcher = difflib.SequenceMatcher(None, before, after)
    return [line for group in matcher.get_grouped_opcodes(context) for line in _hunk(before, after, group, head)]


def _lines(text: str) -> list[str]:
    """Return the lines of a text, each with its end. Only line feeds end lines, as in diff(1)."""
    parts = text.split("\n")
    return [f"{line}\n" for line in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    for number, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return number
    return min(len(left), len(right))


_Opcode = tuple[str, int, int, int, int]


def _hunk(before: list[str], after: list[str], group: list[_Opcode], skipped: int) -> list[str]:
    """Return a hunk; the lists begin after `skipped` lines of the files."""
    first, last = group[0], group[-1]
    ranges = (_range(first[1] + skipped, last[2] - first[1]), _range(first[3] + skipped, last[4] - first[3]))
    lines = [f"@@ -{ranges[0]} +{ranges[1]} @@"]
    for tag, i, j, k, m in group:
        if tag == "equal":
            lines += [part for line in before[i:j] for part in _shown(" ", line)]
            continue
        lines += [part for line in before[i:j] for part in _shown("-", line)]
        lines += [part for line in after[k:m] for part in _shown("+", line)]
    return lines


def _range(start: int, length: int) -> str:
    """Return a range as in diff(1): an empty one begins at the line before it."""
    begin = start + 1 if length else start
    return f"{begin}" if length == 1 else f"{begin},{length}"


def _shown(sign: str, line: str) -> list[str]:
    if line.endswith("\n"):
        return [f"{sign}{line[:-1]}"]
    return [f"{sign}{line}", "\\ No newline at end of file"]
