"""How long a cell takes to end after an interrupt: one that ends by it, one that ignores it, and one with descendants.

    python -m tests.benchmarks.ends [--rounds 20]

The clock runs from the interrupt in the notebook's thread until the cell has ended and nothing of it runs. A cell that
ignores SIGINT is killed after a grace (`supervisor.GRACE`), which is part of its time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from nbcontainer.outcome import Reason
from nbcontainer.sandbox.supervisor import GRACE
from tests.benchmarks.measuring import machine
from tests.benchmarks.prepared import prepared_engine
from tests.running import marker, processes_with, run_script

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine

CELLS = {
    "ends by SIGINT": "echo ready; sleep {}",
    "ignores signals": "trap '' INT TERM HUP QUIT; echo ready; sleep {}",
    "left its session, and ignores signals": "(trap '' INT TERM; exec setsid sleep {}) & echo ready; wait",
}
"""Bodies of cells. Each has a place for the seconds that its processes sleep."""


def main() -> None:
    """Print the quartiles in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with prepared_engine() as (_, engine):
        print(machine())
        print(f"grace: {1e3 * GRACE:.0f} ms")
        for name, body in CELLS.items():
            times = [_ended(engine, body) for _ in range(options.rounds)]
            quarters = ", ".join(f"{1e3 * value:.1f} ms" for value in statistics.quantiles(times, n=4))
            print(f"{name}: {quarters}")


def _ended(engine: Engine, body: str) -> float:
    """Return the seconds from the interrupt of a cell to its end."""
    mark, at = marker(), [0.0]

    def interrupt(_: bytes) -> None:
        at[0] = time.perf_counter()
        raise KeyboardInterrupt

    ran = run_script(engine, body.format(mark), stdout=interrupt)
    took = time.perf_counter() - at[0]
    assert ran.outcome.reason == Reason.INTERRUPTED
    assert not processes_with(mark)
    return took


if __name__ == "__main__":
    main()
