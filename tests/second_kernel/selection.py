"""Which tests run on the second kernel, which of them must pass there, and which cannot, with the reason: data."""

from __future__ import annotations

_GROUPS = "tests/linux/test_group_limits.py::TestEnforced"

LIMITS = (
    f"{_GROUPS}::test_too_much_memory_is_the_reason",
    f"{_GROUPS}::test_too_many_processes_are_the_reason",
    f"{_GROUPS}::test_processors_are_shared_out",
    f"{_GROUPS}::test_the_cell_starts_inside",
    f"{_GROUPS}::test_nothing_is_left[]",
)
"""None of these may be skipped, for whomever: each limit holds, is said, and leaves nothing behind."""

CORE = ("tests/linux/test_volumes.py::test_files_made_inside_are_the_users",)
"""What else is tried in software: for root it needs idmapped mounts. Doctor does not wait as long as it takes there."""

LEFT_OUT: dict[str, str] = {}
"""Tests that cannot pass there, and why."""


def words_for(accelerator: str) -> list[str]:
    """Pytest's words for the tests to run: the chosen in software, where each takes thirty times as long."""
    chosen = ("tests/linux",) if accelerator == "kvm" else (*LIMITS, *CORE)
    return [*chosen, *(f"--deselect={name}" for name in LEFT_OUT)]
