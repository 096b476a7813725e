"""What the benchmarks share: interleaved rounds, medians, ratios with their spread, and the machine."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Subject:
    """Something to measure: its name, what to time, and what to do untimed before each time."""

    name: str
    run: Callable[[], object]
    before: Callable[[], object] = lambda: None


def arguments(description: str | None, rounds: int) -> argparse.Namespace:
    """The options of a benchmark on a tree of files: how often, where, how many files and bytes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--directory", help="where to work (default: the temporary directory)")
    parser.add_argument("--files", type=int, default=11_000)
    parser.add_argument("--bytes", type=int, default=300_000_000)
    return parser.parse_args()


def interleave(subjects: Sequence[Subject], rounds: int, pause: float) -> dict[str, list[float]]:
    """Seconds of each subject in each round. All take turns, so that a busy moment of the machine hits them alike.

    `pause` is the seconds before each, as between a person's cells. The first round warms up and is thrown away.
    """
    times: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for round_number in range(rounds + 1):
        shift = round_number % len(subjects)
        for subject in [*subjects[shift:], *subjects[:shift]]:
            subject.before()
            time.sleep(pause)
            begin = time.perf_counter()
            subject.run()
            taken = time.perf_counter() - begin
            if round_number:
                times[subject.name].append(taken)
    return times


def report(times: dict[str, list[float]], ours: str, whose: str = "ours") -> str:
    """A table: median with quartiles in milliseconds, and how many times ours each takes (median of the rounds').

    `ours` is the name of the one to compare with, `whose` what the heading says of it.
    """
    lines = [f"{'':28} {'median':>10} {'quartiles':>19}   times {whose} (quartiles)"]
    for name, values in times.items():
        low, middle, high = _quartiles(values)
        ratios = [value / own for value, own in zip(values, times[ours], strict=True)]
        ratio_low, ratio, ratio_high = _quartiles(ratios)
        compared = "" if name == ours else f"{ratio:8.2f} ({ratio_low:.2f} … {ratio_high:.2f})"
        lines.append(f"{name:28} {middle * 1e3:7.2f} ms {low * 1e3:8.2f} …{high * 1e3:8.2f}   {compared}")
    return "\n".join(lines)


def _quartiles(values: list[float]) -> list[float]:
    return statistics.quantiles(values, n=4) if len(values) > 1 else values * 3


def machine() -> str:
    """This machine in a line: kernel, processor, cores, memory, load."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    user = "root" if os.geteuid() == 0 else "a plain user"
    load = os.getloadavg()[0]
    return (
        f"Linux {platform.release()}, {model}, {os.cpu_count()} cores, {memory} GiB; "
        f"Python {platform.python_version()}, as {user}; load {load:.1f}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
