"""Which tests run on the second kernel: all of them must pass there."""

from __future__ import annotations

_GROUPS = "tests/linux/test_group_limits.py::TestEnforced"

LIMITS = (
    f"{_GROUPS}::test_too_much_memory_is_the_reason",
    f"{_GROUPS}::test_too_many_processes_are_the_reason",
    f"{_GROUPS}::test_processors_are_shared_out",
    f"{_GROUPS}::test_the_cell_starts_inside",
    f"{_GROUPS}::test_nothing_is_left[]",
)
"""Each limit holds, is said, and leaves nothing behind."""

CORE = ("tests/linux/test_volumes.py::test_files_made_inside_are_the_users",)
"""What else is tried: for root it needs idmapped mounts. Where the machine is in software, a test takes thirty times as
long as elsewhere."""
