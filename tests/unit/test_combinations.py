"""The samples of combinations that tests try."""

from __future__ import annotations

import pytest

from tests.combinations import combinations


def test_a_sample_has_each_value_of_each_axis() -> None:
    """There are as many parameters as the longest axis has values; the product only where it is wanted."""
    sample = [one.values for one in combinations("abc", "xyzuv", everything=False)]
    assert sample == [("a", "x"), ("b", "y"), ("c", "z"), ("a", "u"), ("b", "v")]
    assert len(combinations("abc", "xyzuv", everything=True)) == 15


def test_a_parameter_keeps_its_mark() -> None:
    """What is slow alone is slow in a combination."""
    (one,) = combinations([pytest.param(1, id="one", marks=pytest.mark.slow)], ["x"], everything=False)
    assert (one.values, one.id, [mark.name for mark in one.marks]) == ((1, "x"), "one-x", ["slow"])
