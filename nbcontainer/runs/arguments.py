"""The arguments of Python callers that are not options of a run: each is checked where it is given."""

from __future__ import annotations

import math
import numbers
from typing import cast

from nbcontainer.errors import UsageError


def seconds(timeout: object) -> float:
    """Return a time to wait, which may be infinite. Raises `UsageError` for what is not a number from 0 on."""
    if isinstance(timeout, numbers.Real) and not isinstance(timeout, bool) and cast("float", timeout) >= 0:
        try:
            return float(timeout)
        except OverflowError:
            return math.inf
    raise UsageError(f"invalid timeout: {timeout!r}", hint="write a number of seconds")
