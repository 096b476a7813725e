"""How many examples tests with random input make: few in CI, the same ones each time, and by hand others, as many as
NBCONTAINER_FUZZ_EXAMPLES says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_ASKED = os.environ.get("NBCONTAINER_FUZZ_EXAMPLES", "")


def examples(few: int) -> settings:
    """The settings of a test that makes `few` examples, unless the variable gives another number."""
    return settings(
        max_examples=int(_ASKED or few),
        deadline=None,
        derandomize=not _ASKED,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
