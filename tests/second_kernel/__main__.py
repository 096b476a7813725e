"""Any of the tests on the second kernel, by hand: `python -m tests.second_kernel [--user NAME …] [PYTEST WORD …]`.

All of tests/linux takes half an hour in software, but for test_refusals and test_host_image, for which files are opened
by the ten thousand: leave them out. It says what failed, what was skipped and why, and how many tests passed, by user.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.second_kernel.order import USERS
from tests.second_kernel.trial import run_tests


def main() -> int:
    names = [user.name for user in USERS]
    parser = argparse.ArgumentParser(prog="python -m tests.second_kernel", description=__doc__)
    parser.add_argument("--user", action="append", choices=names, help="who runs them (default: root and ranged)")
    parser.add_argument("--minutes", type=float, default=240, help="after which the machine hangs (default: 240)")
    chosen, words = parser.parse_known_args()
    chosen_users = [user for user in USERS if user.name in (chosen.user or names[:2])]
    with tempfile.TemporaryDirectory(prefix="nbcontainer-second-kernel-", dir="/var/tmp") as folder:
        print(f"The machine writes to {folder}/console.", flush=True)
        tests = {user.name: words or ["tests/linux"] for user in chosen_users}
        ran = run_tests(Path(folder), tests, seconds=chosen.minutes * 60)
        print(f"Linux {ran.facts['release']}, {ran.facts['seconds']:.0f} s since its boot")
        for user in chosen_users:
            report = ran.report(user)
            for name, told in report.failed.items():
                print(f"== {user.name}: {name}\n{told}")
            for name, why in report.skipped.items():
                print(f"-- {user.name}: {name}: {why}")
            passed, skipped, failed = (len(which) for which in (report.passed, report.skipped, report.failed))
            print(f"{user.name}: {passed} passed, {skipped} skipped, {failed} failed")
    return int(any(ran.facts["exit codes"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
