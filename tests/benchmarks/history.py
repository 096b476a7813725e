"""What history costs: cells by the depth of their container, moves by the size of a cell, and commits of many cells.

    python -m tests.benchmarks.history [--rounds 40] [--pause 0.03] [--depths 1,100,1000,5000] [--containers 10,1000]

Everything is in one run, and the times that are compared take turns. The targets are printed beside the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from nbcontainer.api import run
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.commit import commit
from nbcontainer.containers.history.flatten import Flattening
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.outcome import Outcome, Reason
from tests.benchmarks.measuring import Subject, interleave, machine
from tests.benchmarks.prepared import prepared_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.03, help="seconds before each run (default: %(default)s)")
    parser.add_argument("--depths", default="1,100,1000,5000")
    parser.add_argument("--containers", default="10,1000")
    parser.add_argument("--cells", type=int, default=1000, help="one-file cells to commit (default: %(default)s)")
    parser.add_argument("--cached", type=int, default=50, help="cells of a cached Run All (default: %(default)s)")
    parser.add_argument("--large", type=int, default=1 << 30, help="bytes of the large cell (default: %(default)s)")
    options = parser.parse_args()
    print(machine())
    with prepared_engine() as (_, engine):
        _by_depth(engine, [int(depth) for depth in options.depths.split(",")], options.rounds, options.pause)
        _by_number_of_states(engine, [int(depth) for depth in options.depths.split(",")], options.rounds)
        _moves(engine, options.large, options.rounds, options.pause)
        _commits(engine, options.cells, max(3, options.rounds // 4))
        _cached(options.cached)
        _by_containers(engine, [int(count) for count in options.containers.split(",")], options.rounds)


def add_cells(engine: Engine, container: Container, count: int) -> None:
    """Add cells that each wrote one file, as cells do but without running them, and flatten behind them."""
    store, flattening = engine.store, Flattening(engine.store, engine.states, engine, container.record.base)
    with container.use():
        for _ in range(count):
            number = container.record.count + 1
            place = store.layers.make_private(store.unique())
            store.new_directory(place / "diff")
            store.new_directory(place / "diff" / "many")
            (place / "diff" / "many" / str(number)).write_text(f"{number}\n")
            os.chown(place / "diff" / "many" / str(number), *store.owner)
            container.add_cell(CellRecord(place.name, "cell", "2026-01-01T00:00:00Z", Outcome(Reason.EXITED, 0)))
            assert container.record.head is not None
            flattening.after(container.record.head)


def _cell(engine: Engine, label: str, name: str, *command: str, warm: bool) -> Subject:
    """A cell; if `warm`, after one like it in the same container, as when a person works in one container."""
    image = "" if name else "busybox"

    def cell() -> None:
        run(image, list(command), name=name)

    def before() -> None:
        cell()
        engine.background.wait()

    kind = "warm" if warm else "cold"
    return Subject(f"{label} {command[0]}, {kind}", cell, before if warm else engine.background.wait)


def _by_depth(engine: Engine, depths: list[int], rounds: int, pause: float) -> None:
    """Warm cells, and cold ones: all containers take turns, so that the warm containers are on other layers."""
    places = [("anonymous", ""), *((f"d{depth}", f"d{depth}") for depth in depths)]
    for depth in depths:
        made = containers.create(engine, engine.images.find("busybox"), f"d{depth}")
        begin = time.perf_counter()
        add_cells(engine, made, depth - 1)
        print(f"depth {depth}: {(time.perf_counter() - begin) / max(1, depth - 1) * 1e3:.2f} ms a cell to make it")
        run("", ["touch", "/x"], name=made.name)
    commands = (["true"], ["touch", "/x"])
    median: dict[str, float] = {}
    for warm in (True, False):
        subjects = [_cell(engine, *place, *command, warm=warm) for place in places for command in commands]
        median |= _medians(subjects, rounds, pause)
    print(f"\nOne cell, median of {rounds}, taking turns:\n")
    for name, value in median.items():
        print(f"  {name:<24} {value:8.2f} ms")
    _print_targets(median, depths[0], depths[-1])


def _print_targets(median: dict[str, float], first: int, last: int) -> None:
    print()
    for kind in ("warm", "cold"):
        true, named = median[f"anonymous true, {kind}"], median[f"d{last} true, {kind}"]
        low, high = median[f"d{first} touch, {kind}"], median[f"d{last} touch, {kind}"]
        print(f"  {kind}: true at depth {last} - anonymous true: {named - true:.2f} ms (target: a few tenths)")
        print(f"  {kind}: writing cell / anonymous true: {low / true:.2f} (target: at most 1.5)")
        print(f"  {kind}: writing cell at depth {last} / {first}: {high / low:.2f} (target: at most 1.2)")


def _moves(engine: Engine, large: int, rounds: int, pause: float) -> None:
    subjects = []
    for name, size in (("small", 1 << 10), ("large", large)):
        run("busybox", ["dd", "if=/dev/zero", "of=/f", "bs=1024", f"count={size >> 10}"], name=name)
        subjects += [
            Subject(f"undo {name}", _back_and_forth(engine, name)),
            Subject(f"checkout {name}", _fork(engine, name)),
        ]
    subjects.append(Subject("true", lambda: run("busybox", ["true"])))
    median = _medians(subjects, rounds, pause)
    print(f"\nUndo and redo, and checkout, of a cell of 1 KB and of {large >> 20} MB:\n")
    for subject in subjects:
        print(f"  {subject.name:<24} {median[subject.name]:8.2f} ms")
    for move in ("undo", "checkout"):
        ratio = median[f"{move} large"] / median[f"{move} small"]
        beside = median[f"{move} small"] / median["true"]
        print(f"  {move}: large / small {ratio:.2f} (target: 1.0 ± 0.1); / true {beside:.2f} (target: at most 2)")


def _back_and_forth(engine: Engine, name: str) -> Callable[[], object]:
    def move() -> None:
        containers.get(engine, name).undo()
        containers.get(engine, name).redo()

    return move


def _fork(engine: Engine, name: str) -> Callable[[], object]:
    counter = iter(range(1_000_000))

    def move() -> None:
        source = containers.get(engine, name)
        source.checkout(source.record.head, f"{name}-{next(counter)}")

    return move


def _commits(engine: Engine, cells: int, rounds: int) -> None:
    many = containers.create(engine, engine.images.find("busybox"), "many")
    add_cells(engine, many, cells)
    script = f"mkdir /many; i=0; while [ $i -lt {cells} ]; do i=$((i+1)); echo $i > /many/$i; done"
    run("busybox", script=script, name="one")
    subjects = [Subject(name, _commit(engine, name), lambda: _sync(engine)) for name in ("many", "one")]
    median = _medians(subjects, rounds, 0)
    print(
        f"\nCommit of {cells} one-file cells: {median['many']:.0f} ms; of one with these files: {median['one']:.0f} ms"
    )
    print(f"  ratio {median['many'] / median['one']:.2f} (target: at most 2)")


def _commit(engine: Engine, name: str) -> Callable[[], object]:
    return lambda: commit(containers.get(engine, name), f"image-{name}")


def _sync(engine: Engine) -> None:
    """Bring what was written before to disk: a commit waits for the whole file system."""
    engine.background.wait()
    os.sync()


def _cached(cells: int) -> None:
    """Runs a notebook of cells that each write a file, in a container of its own each time: cold, then cached."""
    times = []
    for turn in range(4):
        begin = time.perf_counter()
        for number in range(cells):
            run("busybox", script=f"echo {number} > /f{number}; echo {number}", name=f"cached-{turn}", cache="on")
        times.append(time.perf_counter() - begin)
    best = min(times[1:])
    print(f"\nRun All of {cells} cells: cold {times[0]:.2f} s; cached {best:.2f} s (target: below 0.3 s for 50)")
    print(f"  a hit takes {best / cells * 1e3:.2f} ms")


def _by_containers(engine: Engine, counts: list[int], rounds: int) -> None:
    print("\nVerbs by the number of containers, each with 3 cells:\n")
    image, made = engine.images.find("busybox"), 0
    for count in counts:
        while made < count:
            made += 1
            add_cells(engine, containers.create(engine, image, f"c{made}"), 3)
        subjects = [Subject(verb, _verb(engine, verb)) for verb in ("ps", "images")]
        subjects.append(Subject("load_ext", lambda: _load(engine.store.path)))
        median = _medians(subjects, max(3, rounds // 8), 0)
        shown = ", ".join(f"{name} {value:.1f} ms" for name, value in median.items())
        print(f"  {count:>5} containers: {shown}")


def _verb(engine: Engine, name: str, *words: str) -> Callable[[], object]:
    return lambda: VERBS[name].run(Invocation(engine, parse(VERBS[name].command, words)))


def _load(store: Path) -> None:
    """Load the extension in a new process on that store: with the start of the interpreter and of IPython."""
    shell = "from IPython.core.interactiveshell import InteractiveShell as Shell"
    program = f"{shell}; Shell().run_line_magic('load_ext', 'nbcontainer')"
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "NBCONTAINER_HOME": str(store)})


def _by_number_of_states(engine: Engine, depths: list[int], rounds: int) -> None:
    """Verbs that look at the history, and cannot be independent of its length; and one step of it, which has to be."""
    print("\nVerbs by the depth of the container:\n")
    for depth in depths:
        name = f"d{depth}"
        last = containers.get(engine, name).record.newest
        subjects = [
            Subject("history", _verb(engine, "history", name)),
            Subject("diff", _verb(engine, "diff", f"{name}@0", name)),
            Subject("diff of one cell", _verb(engine, "diff", f"{name}@{last - 1}", f"{name}@{last}")),
        ]
        median = _medians(subjects, max(3, rounds // 8), 0)
        shown = ", ".join(f"{name} {value:.1f} ms" for name, value in median.items())
        print(f"  depth {depth:>5}: {shown}")


def _medians(subjects: list[Subject], rounds: int, pause: float) -> dict[str, float]:
    times = interleave(subjects, rounds, pause)
    return {name: statistics.median(taken) * 1e3 for name, taken in times.items()}


if __name__ == "__main__":
    main()
