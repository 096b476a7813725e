"""Unified diffs of two texts: patch(1)'s rules turn the first into the second."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as some

from nbcontainer.images.comparison.unified_diffs import LINES_LIMIT, unified
from tests.fuzzing import examples

_RANGE = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
TEXTS = some.lists(some.sampled_from(("a", "b", "c", "", "d\r", "e\u2028e")), max_size=40).map("\n".join)


def applied(old: str, hunks: list[str]) -> str:
    """The text that the hunks make of `old`."""
    before = [*re.findall(r"[^\n]*\n|[^\n]+$", old)]
    made: list[str] = []
    at = 0
    for line in hunks:
        if found := _RANGE.fullmatch(line):
            start = int(found[1]) - (0 if found[2] == "0" else 1)
            made += before[at:start]
            at = start
        elif line.startswith("\\"):
            made[-1] = made[-1].removesuffix("\n")
        elif line[0] == "+":
            made.append(f"{line[1:]}\n")
        else:
            assert before[at].removesuffix("\n") == line[1:]
            made += [before[at]] if line[0] == " " else []
            at += 1
    return "".join((*made, *before[at:]))


@examples(100)
@given(TEXTS, TEXTS)
@example("", "a\n")
@example("a\n", "")
@example("a", "a\n")
@example("\n".join(map(str, range(50))), "\n".join(map(str, range(1, 51))))
def test_the_hunks_make_the_second_text_of_the_first(old: str, new: str) -> None:
    """Applying the hunks to the old text gives the new one; equal texts have none."""
    found = unified(old, new)
    assert found is not None
    if not any(line.startswith("\\") for line in found):  # the mark belongs to the line before it, on either side
        assert applied(old, found) == new
    assert (found == []) == (old == new)


def test_texts_with_too_many_lines_have_no_diff() -> None:
    """The time grows with the square of the lines that differ: more than the limit are not compared, equal ones are."""
    long = "".join(f"{number}\n" for number in range(LINES_LIMIT + 1))
    assert unified("x\n" + long.replace("\n", "a\n"), "y\n" + long) is None
    assert unified(f"{long}x\n", f"{long}y\n") == ["@@ -2999,4 +2999,4 @@", " 2998", " 2999", " 3000", "-x", "+y"]
