"""Numbers that Python callers give, which may be those of NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nbcontainer.errors import UsageError
from nbcontainer.runs import arguments
from nbcontainer.runs.job_output import selection


@pytest.mark.parametrize("value", [5, np.int64(5), np.uint8(5)])
def test_whole_numbers(value: Any) -> None:
    """They are numbers of workers, ports and lines."""
    assert arguments.whole(value) == arguments.awaited(value).port == selection(value, None, None).tail == 5
    assert type(arguments.whole(value)) is int


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)])
def test_numbers(value: Any) -> None:
    """They are times."""
    assert arguments.number(value) == arguments.seconds(value) == 2
    assert selection(None, value, value).since == 2e9


@pytest.mark.parametrize("value", [True, np.bool_(1), "5", None, 2j, [5]])
def test_what_is_no_number(value: Any) -> None:
    """A boolean is a number of nothing."""
    assert arguments.whole(value) is None
    assert arguments.number(value) is None
    if value is not None:
        with pytest.raises(UsageError):
            selection(value, None, None)
    with pytest.raises(UsageError):
        arguments.seconds(value)


def test_numbers_that_no_float_can_hold() -> None:
    """They are infinite, by their sign."""
    assert (arguments.number(10**400), arguments.number(-(10**400))) == (math.inf, -math.inf)
