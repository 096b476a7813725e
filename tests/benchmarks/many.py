"""How long many runs of `true` take: in a loop, in threads and by `map`, beside bwrap, kern, podman and bare processes.

    python -m tests.benchmarks.many [--runs 200] [--rounds 3] [--threads 2,8,16] [--limited 50] [--without podman]

Each way does all runs in one go, and all ways take turns. The removal of what the containers left counts. What is not
installed is left out, with a message. It also prints the time of some runs at once with a memory limit, and the memory
that waiting containers hold.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbcontainer
from nbcontainer.containers.commit import export
from nbcontainer.errors import NbcontainerError
from tests.benchmarks.cells import _podman
from tests.benchmarks.measuring import Subject, interleave, machine, report
from tests.benchmarks.prepared import prepared_engine
from tests.running import processes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.containers.engine import Engine

    Run = Callable[[], object]

LOOP = "nbcontainer, loop"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2,8,16", help="numbers of threads (default: %(default)s)")
    parser.add_argument("--limited", type=int, default=50, help="runs at once with -m (default: %(default)s)")
    parser.add_argument("--without", default="", help="programs to leave out: 200 runs of podman take minutes")
    options = parser.parse_args()
    threads = [int(number) for number in options.threads.split(",")]
    with contextlib.ExitStack() as stack:
        place, engine = stack.enter_context(prepared_engine())
        print(machine())
        print(f"\n{options.runs} runs of `true`, {options.rounds} rounds, taking turns:\n")
        left_out = options.without.split(",")
        times = interleave(subjects(engine, place, stack, options.runs, threads, left_out), options.rounds, 0.2)
        print(report(times, LOOP))
        print(f"\nwaiting containers: {spare_memory(engine) / 1e3:.0f} kB each (private, smaps_rollup)")
        _limited(options.limited)


def subjects(
    engine: Engine,
    place: Path,
    stack: contextlib.ExitStack,
    runs: int,
    threads: list[int],
    left_out: Sequence[str] = (),
) -> list[Subject]:
    """Every way to do `runs` runs of `true`, but those of programs that are left out."""
    found = [_loop("nbcontainer", _ours, runs), *(_threads("nbcontainer", _ours, runs, count) for count in threads)]
    for count in threads:
        found.append(Subject(f"map, {count} workers", functools.partial(_map, runs, count)))
    found = [Subject(subject.name, functools.partial(_to_the_end, engine, subject.run)) for subject in found]
    for name, run in others(engine, place, stack, left_out).items():
        found += [_loop(name, run, runs), *(_threads(name, run, runs, count) for count in threads)]
    return found


def _to_the_end(engine: Engine, run: Run) -> None:
    """Run, and wait until nothing is left of the containers: their removal goes on in the background."""
    run()
    engine.background.wait()


def _loop(name: str, run: Run, runs: int) -> Subject:
    return Subject(f"{name}, loop", lambda: [run() for _ in range(runs)])


def _threads(name: str, run: Run, runs: int, count: int) -> Subject:
    def do() -> None:
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            for future in [pool.submit(run) for _ in range(runs)]:
                future.result()

    return Subject(f"{name}, {count} threads", do)


def _ours() -> None:
    nbcontainer.run("busybox", ["true"], remove=True)


def _map(runs: int, workers: int) -> None:
    answers = list(nbcontainer.map("busybox", ["true"], [b""] * runs, workers=workers, progress=False))
    assert all(isinstance(one, nbcontainer.Result) and one.ok for one in answers)


def others(engine: Engine, place: Path, stack: contextlib.ExitStack, left_out: Sequence[str] = ()) -> dict[str, Run]:
    """The programs that are installed and run here, on the same files, but for those that are left out."""
    rootfs = _rootfs(engine, place)
    mounts = ("--bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev")
    ways = {
        "bare process": [str(rootfs / "bin" / "busybox"), "true"],
        "bwrap": ["bwrap", "--unshare-all", *mounts, "true"],
        "kern": ["kern", "box", "nbcontainer-bench", "--rm", "--rootfs", str(rootfs), "--", "true"],
    }
    found: dict[str, Run] = {}
    for name, words in ways.items():
        if name in left_out:
            continue
        if problem := _problem(words):
            print(f"{name} is left out: {problem}", file=sys.stderr)
        else:
            found[name] = functools.partial(_named if name == "kern" else _process, words)
    podman = [] if "podman" in left_out else _podman(place, rootfs, stack)
    return found | {subject.name: subject.run for subject in podman}


def _process(words: list[str]) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


_NUMBERS = itertools.count()


def _named(words: list[str]) -> None:
    """Run kern, whose boxes have a name each (the wheel kern-sandbox on PyPI has it)."""
    _process([f"{word}-{next(_NUMBERS)}" if word == "nbcontainer-bench" else word for word in words])


def _problem(words: list[str]) -> str:
    if shutil.which(words[0]) is None:
        return "it is not installed"
    try:
        _process(words)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"it does not run here: {error}"
    return ""


def _rootfs(engine: Engine, place: Path) -> Path:
    """The busybox image as a plain directory."""
    image = engine.images.find("busybox")
    export(engine, engine.images.lowers(image), place / "busybox.tar")
    rootfs = place / "rootfs"
    rootfs.mkdir()
    subprocess.run(["tar", "-xf", place / "busybox.tar", "-C", rootfs], check=True)
    return rootfs


def spare_memory(engine: Engine) -> float:
    """Bytes of memory that one waiting container holds alone, on average (proc_pid_smaps(5))."""
    sizes = [size for pid in processes_of(engine.launcher) if (size := _private(pid))]
    return sum(sizes) / len(sizes) if sizes else 0.0


def _private(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(number) << 10 for number in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE))


def _limited(count: int) -> None:
    def do() -> None:
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: nbcontainer.run("busybox", ["true"], memory="64m", remove=True), range(count)))

    try:
        times = interleave([Subject("-m 64m", do)], 3, 0.2)
    except NbcontainerError as error:
        print(f"\n{count} at once with -m is left out: {error}", file=sys.stderr)
        return
    print(f"\n{count} at once with -m 64m, in {os.cpu_count()} processors:\n\n{report(times, '-m 64m')}")


if __name__ == "__main__":
    main()
