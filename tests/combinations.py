"""Combinations of parameters: sampled in CI, where the product of all axes costs more than it finds."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = os.environ.get("NBCONTAINER_COMBINATIONS") == "all"
"""Whether tests try the whole product; by hand."""


def combinations(*axes: Sequence[Any], everything: bool = ALL) -> list[Any]:
    """Return parameters: one for each value of the longest axis, in which each value of each axis occurs; or all.

    A value that is a `pytest.param` of one value keeps its marks.
    """
    if everything:
        return [_joined(values) for values in itertools.product(*axes)]
    return [_joined([axis[number % len(axis)] for axis in axes]) for number in range(max(map(len, axes)))]


def _joined(values: Sequence[Any]) -> Any:
    kept = [value if hasattr(value, "marks") else pytest.param(value, id=str(value)) for value in values]
    return pytest.param(
        *(value.values[0] for value in kept),
        id="-".join(str(value.id) for value in kept),
        marks=[mark for value in kept for mark in value.marks],
    )
