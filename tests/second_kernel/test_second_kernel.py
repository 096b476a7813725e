"""nbcontainer on a kernel that is not this machine's: Debian 12's for clouds, in qemu, with this machine's files.

There are control groups of version 2 and nothing else, as on most people's machines, and mounts do less than today's.
"""

from __future__ import annotations

import pytest

from tests.requirements import require_root
from tests.second_kernel import kernel, machine
from tests.second_kernel.order import USERS, User
from tests.second_kernel.selection import OF_OTHERS, words
from tests.second_kernel.trial import Ran, run_tests

pytestmark = [pytest.mark.second_kernel, pytest.mark.slow, pytest.mark.timeout(machine.SECONDS + 60)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The one boot, with everybody's tests in it."""
    require_root()
    return run_tests(tmp_path_factory.mktemp("machine"), {user.name: ["-q", *words(user)] for user in USERS})


def test_the_kernel_is_debians_with_groups_of_version_2(ran: Ran) -> None:
    """What ran the tests is that kernel, and there the limits are those of one unified hierarchy."""
    assert ran.facts["release"].startswith(f"{kernel.SERIES}."), ran.facts
    assert (ran.facts["cgroups"], ran.facts["legacy cgroups"]) == ("cgroup2", []), ran.facts
    assert {"cpu", "memory", "pids"} <= set(ran.facts["controllers"]), ran.facts


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_cells_and_limits_work_there(ran: Ran, user: User) -> None:
    """Every test of the selection passes there, but for those that are about another user: for root, and for plain
    users with and without a range of ids, who have a group."""
    report = ran.report(user)
    assert not report.failed, "\n\n".join(f"{name}\n{told}" for name, told in report.failed.items())
    skipped = {name: why for name, why in report.skipped.items() if not why.endswith(OF_OTHERS)}
    assert not skipped, f"{skipped}\n{ran.console}"
    for word in words(user):
        assert any(name.startswith(word) for name in (*report.passed, *report.skipped)), f"{word} was not run"
    assert len(report.passed) > len(report.skipped)
    assert ran.facts["exit codes"][user.name] == 0, ran.console
