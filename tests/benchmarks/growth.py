"""How the time of each verb grows: with files, removals, depth, layers, names, tags, containers and images.

    python -m tests.benchmarks.growth [--sizes 100 400] [--rounds 3] [--only WORD] [--directory /var/tmp]

For each verb the same is done on a small and on a large store. The exponent is log(ratio of times) / log(ratio of
sizes): 0 is constant, 1 linear, 2 quadratic. A constant part makes it smaller, so choose sizes that are large enough.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import subprocess
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer import api
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.engine import Engine
from tests.benchmarks.measuring import machine

if TYPE_CHECKING:
    from collections.abc import Callable

LINEAR = 1.3
"""The largest exponent that counts as linear: the times of single runs vary."""

_DEEP = 1500
"""The greatest depth: a path has at most 4096 bytes."""


def verb(engine: Engine, name: str, *words: str) -> object:
    """Do a verb, and wait for what it left to the background."""
    view = VERBS[name].run(Invocation(engine, parse(VERBS[name].command, list(words))))
    engine.background.wait()
    return view


def cell(engine: Engine, script: str, image: str = "busybox", **options: str) -> None:
    """Run a script, and wait for what it left to the background."""
    api.run(image, script=script, engine=engine, **options)  # type: ignore[arg-type]
    engine.background.wait()


@dataclass(frozen=True)
class Growth:
    """One verb over one quantity: `prepare(engine, place, n)`, and then `do(engine, place, n)`, which is timed.

    With `once`, `do` changes the store, so that each round needs `prepare`.
    """

    name: str
    over: str
    prepare: Callable[[Engine, Path, int], object]
    do: Callable[[Engine, Path, int], object]
    once: bool = False


def _files(engine: Engine, _: Path, n: int) -> None:
    cell(engine, f"mkdir /m; cd /m; seq {n} | xargs touch", name="box")


def _image(engine: Engine, place: Path, n: int) -> None:
    _files(engine, place, n)
    verb(engine, "commit", "box", "image")


def _removals(engine: Engine, place: Path, n: int) -> None:
    _image(engine, place, n)
    api.run("image", script="cd /m; ls | xargs rm", name="removing", engine=engine)


def _archive(_: Engine, place: Path, n: int) -> None:
    with tarfile.open(place / "tree.tar", "w") as tar:
        for number in range(n):
            tar.addfile(tarfile.TarInfo(f"m/{number}"))


def _deep(_: Engine, place: Path, n: int) -> None:
    with tarfile.open(place / "tree.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        file = tarfile.TarInfo("/".join(["d"] * min(n, _DEEP)) + "/file")
        file.size = 1
        tar.addfile(file, io.BytesIO(b"x"))


def _deep_image(engine: Engine, place: Path, n: int) -> None:
    _deep(engine, place, n)
    verb(engine, "import", str(place / "tree.tar"), "deep")


def _layers(engine: Engine, _: Path, n: int) -> None:
    for number in range(n // 10):
        cell(engine, f"echo {number} > /f{number % 7}", name="box")


def _layered_image(engine: Engine, place: Path, n: int) -> None:
    _layers(engine, place, n)
    verb(engine, "commit", "box", "image")


def _tags(engine: Engine, _: Path, n: int) -> None:
    cell(engine, "true")
    for number in range(n):
        verb(engine, "tag", "busybox", f"name{number}")


def _containers(engine: Engine, _: Path, n: int) -> None:
    for number in range(n):
        api.run("busybox", script="echo > /f", name=f"n{number}", engine=engine)
    engine.background.wait()


def _images(engine: Engine, place: Path, n: int) -> None:
    _containers(engine, place, n)
    for number in range(n):
        verb(engine, "commit", f"n{number}", f"image{number}")


def _volume(engine: Engine, place: Path, n: int) -> None:
    (place / "data").mkdir()
    options = {"name": "box", "volumes": [f"{place}/data:/data:cow"], "engine": engine}
    script = "cd /data; for d in $(seq {}); do {}; done"
    api.run("busybox", script=script.format(n, "mkdir $d && echo > $d/f"), **options)  # type: ignore[arg-type]
    api.run("busybox", script=script.format(n // 2, "rm -r $d && mkdir $d"), **options)  # type: ignore[arg-type]
    engine.background.wait()


def _of(*words: str) -> Callable[[Engine, Path, int], object]:
    """Do a verb with these words; `PLACE` is the directory to write to."""
    return lambda engine, place, _: verb(engine, *(word.replace("PLACE", str(place)) for word in words))


def _each(name: str, word: str) -> Callable[[Engine, Path, int], object]:
    """Do a verb with N operands."""
    return lambda engine, _, n: verb(engine, name, *(f"{word}{number}" for number in range(n)))


def _writes(engine: Engine, _: Path, n: int) -> None:
    for number in range(5):
        cell(engine, f"echo {n} {number} > /f")


SUBJECTS = (
    Growth("a cell", "files", _files, lambda engine, _, n: cell(engine, f"ls /m | wc -l; : {n}", "", name="box")),
    *(
        Growth(words[0], "files", _image, _of(*words))
        for words in (
            ("diff", "box"),
            ("commit", "box", "again"),
            ("export", "box", "-o", "PLACE/out.tar"),
            ("save", "image", "-o", "PLACE/out.tar"),
            ("df",),
            ("verify",),
        )
    ),
    Growth("import", "files", _archive, _of("import", "PLACE/tree.tar", "tree"), once=True),
    Growth("rm", "files", _files, _of("rm", "box"), once=True),
    Growth("undo", "files", _files, _of("undo", "box"), once=True),
    Growth("changes", "new directories", _volume, _of("changes", "box")),
    Growth("apply", "new directories", _volume, _of("apply", "box"), once=True),
    Growth("diff", "removals", _removals, _of("diff", "removing")),
    Growth("commit", "removals", _removals, _of("commit", "removing", "again")),
    Growth("import", "depth", _deep, _of("import", "PLACE/tree.tar", "deep"), once=True),
    Growth("export", "depth", _deep_image, _of("export", "deep", "-o", "PLACE/out.tar")),
    Growth("df", "depth", _deep_image, _of("df")),
    *(
        Growth(words[0], "layers / 10", _layered_image, _of(*words))
        for words in (
            ("diff", "box"),
            ("commit", "box", "again"),
            ("export", "image", "-o", "PLACE/out.tar"),
            ("save", "image", "-o", "PLACE/out.tar"),
            ("history", "box"),
        )
    ),
    Growth("a cell", "layers / 10", _layers, lambda engine, _, n: cell(engine, f": {n}", "", name="box")),
    Growth("rm", "layers / 10", _layers, _of("rm", "box"), once=True),
    *(Growth(words[0], "tags", _tags, _of(*words)) for words in (("images",), ("df",), ("prune",), ("verify",))),
    Growth("tag", "tags", _tags, _of("tag", "busybox", "one-more")),
    Growth("rmi of all", "tags", _tags, _each("rmi", "name"), once=True),
    *(Growth(words[0], "containers", _containers, _of(*words)) for words in (("ps",), ("df",), ("prune",))),
    Growth("a cell that writes", "containers", _containers, _writes),
    Growth("undo", "containers", _containers, _of("undo", "n0"), once=True),
    Growth("commit", "containers", _containers, _of("commit", "n0", "image")),
    Growth("rm of all", "containers", _containers, _each("rm", "n"), once=True),
    *(Growth(words[0], "images", _images, _of(*words)) for words in (("images",), ("df",), ("prune",), ("verify",))),
    Growth("rmi of all", "images", _images, _each("rmi", "image"), once=True),
)


def _remove(tree: Path) -> None:
    subprocess.run(["rm", "-rf", tree], check=True)  # some are too deep for shutil


def seconds(subject: Growth, n: int, rounds: int, directory: str | None) -> float:
    """Return the shortest time of some rounds, in seconds, each on a store of size `n`."""
    times: list[float] = []
    while len(times) < rounds:
        with contextlib.ExitStack() as stack:
            place = Path(tempfile.mkdtemp(prefix="nbc-growth-", dir=directory))
            stack.callback(_remove, place)
            place.chmod(0o755)
            engine = stack.enter_context(contextlib.closing(Engine(place / "store")))
            cell(engine, "true")
            subject.prepare(engine, place, n)
            for _ in range(1 if subject.once else rounds):
                begin = time.perf_counter()
                subject.do(engine, place, n)
                times.append(time.perf_counter() - begin)
    return min(times)


def exponent(small: float, large: float, ratio: float) -> float:
    """Return the exponent of the growth from a small time to a large one, if the size grew by `ratio`."""
    return math.log(large / small) / math.log(ratio)


def main() -> int:
    """Print a line for each verb; 1 if one grows faster than linearly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=(100, 400))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="verbs and quantities that contain this text")
    parser.add_argument("--directory", help="where to work (default: the temporary directory)")
    options = parser.parse_args()
    small, large = options.sizes
    print(machine())
    print(f"{'verb':20} {'over':12} {f'N = {small}':>12} {f'N = {large}':>12} {'exponent':>9}")
    faster = 0
    for subject in SUBJECTS:
        if options.only not in f"{subject.name} {subject.over}":
            continue
        low, high = (seconds(subject, n, options.rounds, options.directory) for n in (small, large))
        grows = exponent(low, high, large / small)
        faster += grows > LINEAR
        mark = "  faster than linear" if grows > LINEAR else ""
        line = f"{subject.name:20} {subject.over:12} {low * 1e3:9.1f} ms {high * 1e3:9.1f} ms {grows:9.2f}{mark}"
        print(line, flush=True)
    return 1 if faster else 0


if __name__ == "__main__":
    raise SystemExit(main())
