"""nbcontainer on a kernel that is not this machine's: Debian 12's for clouds, in qemu, with this machine's files.

There are control groups of version 2 and nothing else, as on most people's machines, and mounts do less than today's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.requirements import require_root
from tests.second_kernel import kernel, machine
from tests.second_kernel.order import FACTS, USERS, Order, User
from tests.second_kernel.report import Report, read_results
from tests.second_kernel.selection import CORE, LIMITS

PROJECT = Path(__file__).parents[2]

PYTEST = "-q -p pytest_timeout -p pytest_rerunfailures --timeout=300 --color=no"
"""No other plugin: each costs seconds to load in software."""

REQUIRED = "namespaces,busybox,control groups"

pytestmark = [pytest.mark.second_kernel, pytest.mark.slow, pytest.mark.timeout(machine.SECONDS + 60)]


@dataclass(frozen=True)
class Ran:
    """What the machine inside handed in, and the end of what it wrote on its console."""

    results: dict[str, Any]
    console: str

    @property
    def facts(self) -> dict[str, Any]:
        assert FACTS in self.results, f"the machine handed nothing in; its console:\n{self.console}"
        found: dict[str, Any] = self.results[FACTS]
        return found

    def report(self, user: User) -> Report:
        assert user.report in self.results, f"there is no report by {user.name}; the console:\n{self.console}"
        found: Report = self.results[user.report]
        return found


def users() -> tuple[User, ...]:
    """In software there are two, one for each processor."""
    return USERS if machine.accelerator() == "kvm" else USERS[:2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The one boot, with everybody's tests in it."""
    require_root()
    folder = tmp_path_factory.mktemp("machine")
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "NBCONTAINER_REQUIRE": REQUIRED,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": f"{PYTEST} {os.environ.get('PYTEST_ADDOPTS', '')}",
    }
    words = [*LIMITS, *CORE]
    order = folder / "order.json"
    Order(str(PROJECT), sys.executable, environment, {user.name: words for user in users()}).write(order)
    program = ["/usr/bin/env", "-C", str(PROJECT), sys.executable, "-m", "tests.second_kernel.guest", str(order)]
    ended = machine.run_machine(folder, program)
    return Ran(read_results(ended.results), ended.console[-6000:])


def test_the_kernel_is_debians_with_groups_of_version_2(ran: Ran) -> None:
    """What ran the tests is that kernel, and there the limits are those of one unified hierarchy."""
    assert ran.facts["release"].startswith(f"{kernel.SERIES}."), ran.facts
    assert (ran.facts["cgroups"], ran.facts["legacy cgroups"]) == ("cgroup2", []), ran.facts
    assert {"cpu", "memory", "pids"} <= set(ran.facts["controllers"]), ran.facts


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_cells_and_limits_work_there(ran: Ran, user: User) -> None:
    """Every test passes there, and none is skipped: for root, and for plain users with a group."""
    if user not in users():
        pytest.skip("is not tried in software")
    report = ran.report(user)
    assert not report.failed, "\n\n".join(f"{name}\n{told}" for name, told in report.failed.items())
    assert report.passed == {*LIMITS, *CORE}, f"skipped: {sorted(report.skipped)}\n{ran.console}"
    assert ran.facts["exit codes"][user.name] == 0, ran.console
