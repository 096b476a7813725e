"""How long a cell in a live container takes, beside a magic that does nothing, and how fast values and output are.

    python -m tests.benchmarks.live [--rounds 200] [--megabytes 1000] [--slow-rounds 5]

The first table has whole cells, as a notebook runs them. The second one has `--in` of a large frame beside cp(1) of the
same bytes to tmpfs. The last lines have the rate of output, and the time from an interrupt to the end of a cell.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.benchmarks.prepared import notebook

LINES = 10_000_000
MEBIBYTES = 500
IDLE = "%%idle\ntrue"
FLOODS = {
    "bytes": (f"dd if=/dev/zero bs=1M count={MEBIBYTES} 2>/dev/null", MEBIBYTES * 2**20 / 1e6, "MB/s"),
    "lines": (f"yes 12345 | head -n {LINES}", LINES / 1e3, "thousand lines/s"),
}
"""What writes much, how much that is, and the unit of its rate.

busybox's `head -c` copies single bytes, so it writes at most 50 to 100 MB/s; its `dd` writes a block at a time.
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--slow-rounds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds before each cell (default: %(default)s)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the frame")
    options = parser.parse_args()
    print(machine())
    with notebook() as (_, engine, shell):
        shell.register_magic_function(lambda line, cell: None, "cell", "idle")
        _cells(shell, options.rounds, options.pause)
        _frames(shell, options.megabytes, options.slow_rounds)
        _output(shell, options.slow_rounds)
        for live in list(engine.live.values()):
            live.stop(0)


def _run(shell: Any, cell: str) -> None:
    shell.run_cell(cell).raise_error()


def _cells(shell: Any, rounds: int, pause: float) -> None:
    """Print what a cell takes in a live shell, a live Python and a container of its own."""
    _run(shell, "%%container busybox --name bench-shell --live\ntrue")
    _run(shell, "%%container host --name bench-python --live=python\npass")
    cells = {
        "a magic that does nothing": IDLE,
        "a live shell": "%%container --name bench-shell --live\ntrue",
        "a live Python": "%%container --name bench-python --live\npass",
        "%%container busybox": "%%container busybox\ntrue",
    }
    subjects = [Subject(name, partial(_run, shell, cell)) for name, cell in cells.items()]
    times = interleave(subjects, rounds, pause)
    idle, *others = cells
    print(f"\na cell, {rounds} rounds\n{report(times, idle, 'the magic')}")
    for name in others[:2]:
        more = statistics.median(ours - none for ours, none in zip(times[name], times[idle], strict=True))
        print(f"{name} takes {more * 1e3:.2f} ms more than a magic that does nothing")


def _frames(shell: Any, megabytes: int, rounds: int) -> None:
    """Print what `--in` of a frame takes beside cp(1) of the file that it becomes, both to memory."""
    try:
        import numpy
        import pandas
    except ImportError:
        print("\npandas is not installed: no frame")
        return
    shell.user_ns["frame"] = pandas.DataFrame({"number": numpy.arange(megabytes * 125_000, dtype="int64")})
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="nbcontainer-bench-") as memory:
        source, target = Path(memory) / "source", Path(memory) / "target"
        with source.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(1_000_000))
        copy = partial(subprocess.run, ["cp", source, target], check=True)
        subjects = [
            Subject("cp to tmpfs", copy, lambda: target.unlink(missing_ok=True)),
            Subject("--in frame", partial(_run, shell, "%%container busybox --in frame\ntrue")),
        ]
        times = interleave(subjects, rounds, 0.5)
        print(f"\na frame of {megabytes} MB, {rounds} rounds\n{report(times, 'cp to tmpfs', 'cp')}")
    del shell.user_ns["frame"]


def _output(shell: Any, rounds: int) -> None:
    """Print the rate at which output is taken, and how long an interrupt of such a cell takes."""
    print()
    starts = {"a cell": "%%container busybox", "a live shell": "%%container --name bench-shell --live"}
    for name, start in starts.items():
        for script, amount, unit in FLOODS.values():
            taken = [_quiet(shell, f"{start}\n{script}") for _ in range(rounds)]
            print(f"{name}, `{script}`: {amount / statistics.median(taken):.0f} {unit}")
        waits = [_interrupt(shell, f"{start}\nyes 12345") for _ in range(rounds)]
        print(
            f"{name}, an interrupt of `yes 12345`: {max(waits):.2f} s at most, {statistics.median(waits):.2f} s median"
        )


@contextlib.contextmanager
def _nowhere() -> Any:
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


def _quiet(shell: Any, cell: str) -> float:
    """Return the seconds of a cell whose output is not shown."""
    with _nowhere():
        begin = time.perf_counter()
        _run(shell, cell)
        return time.perf_counter() - begin


def _interrupt(shell: Any, cell: str, after: float = 1.0) -> float:
    """Return the seconds from an interrupt, which comes after some others, to the end of a cell."""
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, interrupt)
    with _nowhere():
        timer.start()
        shell.run_cell(cell)
        ended = time.perf_counter()
    timer.join()
    return ended - sent[0]


if __name__ == "__main__":
    main()
