"""What `--explain` costs a cell: without it, with it, and the same again as a measure of chance.

    python -m tests.benchmarks.explain [--rounds 100] [--pause 0.05]

A cell with `--explain` brings back the calls of its steps, and shows them as text, as a table and as a timeline.
"""

from __future__ import annotations

import argparse
from typing import Any

from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.benchmarks.prepared import notebook

PLAIN = "cell"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each run (default: %(default)s)")
    options = parser.parse_args()
    with notebook() as (_, _, shell):
        shown: list[Any] = []
        shell.display_pub.publish = lambda data, **_: shown.append(data)

        def cell(words: str) -> None:
            shown.clear()
            shell.run_cell(f"%%container busybox {words}\ntrue").raise_error()
            assert bool(shown) == bool(words), shown

        subjects = [
            Subject(PLAIN, lambda: cell("")),
            Subject("cell, again", lambda: cell("")),
            Subject("cell, explained", lambda: cell("--explain")),
        ]
        print(machine())
        print(f"\n`true`, {options.rounds} rounds, taking turns, {options.pause * 1e3:.0f} ms apart:\n")
        print(report(interleave(subjects, options.rounds, options.pause), PLAIN, "a cell"))


if __name__ == "__main__":
    main()
