"""Two processes that do verbs on one store, chosen at random; each ends with its result or with one true line."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer import api
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.lookup import list_all
from nbcontainer.containers.record import layers_in_use
from nbcontainer.errors import NbcontainerError
from nbcontainer.store import durability
from tests.faults import checks
from tests.faults.checks import Damaged
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES, _IMAGES, _VOLUMES = ("one", "two", "three"), ("red", "blue"), ("v1", "v2")

_EXPECTED = frozenset(
    {
        *("ContainerNotFound", "ContainerBusy", "ContainerExists", "ContainerError", "CellFailed"),
        *("ImageNotFound", "VolumeNotFound", "VolumeBusy", "VolumeExists"),
    }
)
"""Errors that are true beside another process: it has removed a thing, uses it or has made it."""

_UNEXPECTED_IN_THEM = ("Errno", "Traceback", "\n")


def _words(chance: random.Random, place: Path) -> tuple[str, ...]:
    """Return the arguments of a verb; "cell" is a cell instead."""
    name, image, volume = chance.choice(_NAMES), chance.choice(_IMAGES), chance.choice(_VOLUMES)
    target = str(place / f"{chance.randrange(3)}.tar")
    return chance.choice(
        (
            *[("cell", name, volume)] * 4,
            ("commit", name, image),
            ("commit", name, image, "-o", target),
            ("rm", name),
            ("rm", "-f", name),
            ("rename", name, chance.choice(_NAMES)),
            ("stop", "-t", "0", name),
            ("undo", name),
            ("diff", name),
            ("export", name, "-o", target),
            ("export", image, "-o", target),
            ("history", name),
            ("inspect", image),
            ("save", image, "-o", target),
            ("save", image, "busybox", "-o", f"{place / 'layout'}/"),
            ("tag", image, chance.choice(_IMAGES)),
            ("rmi", image),
            ("rmi", "-f", image),
            ("import", str(place / "tree.tar"), image),
            ("load", str(place / "saved.tar")),
            ("volume", "create", volume),
            ("volume", "rm", volume),
            ("volume", "ls"),
            ("images",),
            ("ps",),
            ("df",),
            ("verify",),
            ("prune",),
        )
    )


def _do(engine: Engine, words: tuple[str, ...]) -> None:
    if words[0] != "cell":
        VERBS[words[0]].run(Invocation(engine, parse(VERBS[words[0]].command, list(words[1:]))))
        return
    script = "echo $$ > /f; echo > /v/f; head -c 50000 /dev/zero > /g; rm -rf /etc; mkdir /d 2>/dev/null; true"
    api.run("busybox", script=script, name=words[1], volumes=[f"{words[2]}:/v"], engine=engine)


def work(store: Path, place: Path, seed: str, count: int) -> dict[str, int]:
    """Do `count` verbs; return how many ended with each error, "ok" for none, and "bad" with what must not be."""
    chance = random.Random(seed)
    ends: collections.Counter[str] = collections.Counter()
    with contextlib.closing(Engine(store)) as engine:
        for _ in range(count):
            words = _words(chance, place)
            try:
                _do(engine, words)
                ends["ok"] += 1
            except NbcontainerError as error:
                kind = type(error).__name__
                good = kind in _EXPECTED and not any(sign in str(error) for sign in _UNEXPECTED_IN_THEM)
                ends[kind if good else f"bad {words}: {kind}: {error}"] += 1
            except Exception:
                ends[f"bad {words}: {traceback.format_exc()}"] += 1
    return dict(ends)


def pair(folder: Path, seed: int, count: int, processes: int = 2) -> dict[str, int]:
    """Have some processes do `count` verbs each on a store in `folder`; return how they ended.

    Raises `Damaged` if one ends with anything but a result or a true line, or leaves something.
    """
    store = folder / "store"
    _fill(folder)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.verbs.pairs", str(store), str(folder), f"{seed} {number}", str(count)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    told = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise Damaged(f"a process ended with {[one.returncode for one in started]}")
    ends: collections.Counter[str] = collections.Counter()
    for text in told:
        ends.update(json.loads(text))
    if bad := [end for end in ends if end.startswith("bad ")]:
        raise Damaged("\n".join(bad))
    _look_after(store)
    return dict(ends)


def _fill(folder: Path) -> None:
    with contextlib.closing(Engine(folder / "store")) as engine:
        run_script(engine, "echo saved > /saved", name="saved")
        _do(engine, ("export", "busybox", "-o", str(folder / "tree.tar")))
        for words in (("commit", "saved", "blue"), ("save", "blue", "-o", str(folder / "saved.tar")), ("rm", "saved")):
            _do(engine, words)


def _look_after(path: Path) -> None:
    """Raise `Damaged` if the store is damaged, or has something that nothing refers to after a prune."""
    with contextlib.closing(Engine(path)) as engine:
        checks.verified(engine)
        for one in list_all(engine)[0]:
            one.remove()
        store = engine.store
        names = [name for name in store.index.images() if name != "busybox"]
        for name in names:
            if run_script(engine, "true || :", image=name).outcome.reason != "exited":
                raise Damaged(f"image {name} does not run")
        store.index.drop_images(names)
        run_script(engine, "true")
        engine.background.wait()
        durability.flush(store)
        prune(engine)
        kept = layers_in_use(store)
        left = [f"tmp/{path.name}" for path in (store.path / "tmp").iterdir() if not _is_own(path, [store.session])]
        left += [f"containers/{path.name}" for path in (store.path / "containers").iterdir()]
        layers = [one.name for one in (store.path / "layers").iterdir() if one.name != "sha256"]
        named = {one.readlink().name for one in (store.path / "layers" / "sha256").iterdir()}
        left += [f"layers/{name}" for name in layers if name not in named | kept]
        left += [f"partial/{path.name}" for path in (store.path / "partial").iterdir()]
        if left or len(named) != 1:
            raise Damaged(f"left: {left}, layers {sorted(named)}")


def _is_own(path: Path, sessions: Iterable[str]) -> bool:
    return path.name.partition(".")[0] in sessions


if __name__ == "__main__":
    print(json.dumps(work(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))))
