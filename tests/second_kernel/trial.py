"""Tests of this project on the second kernel: one boot of it, with each user's tests in it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.second_kernel import machine
from tests.second_kernel.order import FACTS, Order, User
from tests.second_kernel.report import Report, read_results

PROJECT = Path(__file__).parents[2]

PYTEST = "-p pytest_timeout -p pytest_rerunfailures --timeout=300 --color=no"
"""No other plugin: each costs seconds to load in software."""

REQUIRED = "namespaces,busybox,control groups"


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


def run_tests(folder: Path, tests: dict[str, list[str]], seconds: float = machine.SECONDS) -> Ran:
    """Boots the machine once and runs pytest there, for each user by name with these words, all at the same time.

    `folder` (host) gets the machine's files, `console` among them, which can be read meanwhile. A machine that has not
    ended after `seconds` is ended and has handed nothing in.
    """
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "NBCONTAINER_REQUIRE": REQUIRED,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": f"{PYTEST} {os.environ.get('PYTEST_ADDOPTS', '')} --reruns=0",
    }
    order = folder / "order.json"
    Order(str(PROJECT), sys.executable, environment, tests).write(order)
    program = ["/usr/bin/env", "-C", str(PROJECT), sys.executable, "-m", "tests.second_kernel.guest", str(order)]
    ended = machine.run_machine(folder, program, seconds)
    return Ran(read_results(ended.results), ended.console[-6000:])
