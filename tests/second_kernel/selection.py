"""Which tests run on the second kernel in CI: `python -m tests.second_kernel` runs any, and all in half an hour.

In software a test takes thirty times as long as elsewhere. These are about what kernels differ in: limits by groups of
version 2, mounts and their ids, overlays, capabilities, namespaces and how they end.
"""

from __future__ import annotations

from tests.second_kernel.order import USERS, User

LIMITS = "tests/linux/test_group_limits.py"
"""Each limit holds, is said, and leaves nothing behind."""

ENFORCED = f"{LIMITS}::TestEnforced"

REASONS = (
    f"{ENFORCED}::test_too_much_memory_is_the_reason",
    f"{ENFORCED}::test_too_many_processes_are_the_reason",
)
"""Limits that end a cell."""

DELEGATED = (
    f"{ENFORCED}::test_the_cell_starts_inside",
    f"{ENFORCED}::test_it_cannot_leave",
    f"{ENFORCED}::test_nothing_is_left",
)
"""In a tree of groups that was given to a plain user."""

PROCESSORS = (f"{ENFORCED}::test_processors_are_shared_out",)

IDS = ("tests/linux/test_single_id.py::test_there_is_one_id",)
"""Owners, where a container has root alone."""

MAPPED = (
    "tests/linux/test_volumes.py::test_files_made_by_another_user_inside",
    "tests/linux/test_volumes.py::test_no_device_and_no_setuid_in_a_volume",
)
"""What root mounts with mapped ids."""

IN_A_RANGE = (
    "tests/linux/test_volumes.py::test_several_and_nested",
    "tests/linux/test_storage.py::test_who_fills_it_is_told[a file of the image's]",
)
"""What a plain user mounts in the namespace of their range."""

CONFINEMENT = (
    "tests/linux/test_cells.py",
    "tests/linux/test_capabilities.py::test_root_has_what_was_chosen[all but one]",
    "tests/linux/test_capabilities.py::test_the_machine_stays_closed",
    "tests/linux/test_ends.py::test_nothing_outlives_the_cell[daemon]",
    "tests/linux/test_userns_host.py::test_ids_are_the_hosts",
)
"""What a container may do, what it sees, and how it ends."""

OF_OTHERS = ("needs root", "is about plain users", "this user has control groups")
"""The reasons to skip one of them for a user: it is about another."""


def words(user: User) -> tuple[str, ...]:
    """Return what this user runs, in pytest's words.

    Users and tests are not multiplied: root's containers are those with most rights, and a plain user's groups are in a
    tree that was delegated.
    """
    root, ranged, _ = USERS
    if user == root:
        return (*REASONS, *MAPPED, *CONFINEMENT)
    return (*DELEGATED, *IN_A_RANGE) if user == ranged else (*PROCESSORS, *IDS)
