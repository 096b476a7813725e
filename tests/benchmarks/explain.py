"""What `--explain` costs a cell: without it, with it, and the same again as a measure of chance.

    python -m tests.benchmarks.explain [--rounds 100] [--pause 0.05]

A cell with `--explain` brings back the calls of its steps, and shows them as text, as a table and as a timeline.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcontainer.api import run
from nbcontainer.containers.engine import Engine, set_default_engine
from tests.benchmarks.measuring import Subject, interleave, machine, report

PLAIN = "cell"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before each run (default: %(default)s)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nbcontainer-bench-")))
        engine = stack.enter_context(contextlib.closing(Engine(place / "store")))
        set_default_engine(engine)
        run("busybox", ["true"])
        shell: Any = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "nbcontainer")
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
