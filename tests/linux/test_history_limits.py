"""Verbs of history and of copy-on-write volumes on a full disk, in two notebooks, and with the clock set back."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.integrity.container_check import check_containers
from nbcontainer.errors import NbcontainerError
from tests.linux.test_cow_volumes import Scene, data, scene, shared, tree
from tests.linux.test_full_disk import leave_bytes, leave_inodes, small
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.spec import Volume

__all__ = ["data", "scene", "shared", "small"]

VERBS: dict[str, Callable[[Container], object]] = {
    "apply": volume_changes.apply,
    "discard": volume_changes.discard,
    "undo": lambda made: made.undo(),
    "restore": lambda made: restore(made, 1, ["/f", "/data/a"]),
    "checkout": lambda made: made.checkout(made.record.head, "fork"),
}

SIZES = [(leave_bytes, size) for size in (0, 1 << 12, 1 << 15)] + [(leave_inodes, count) for count in (0, 1, 3, 8)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_on_a_full_disk_is_done_or_not(small: Path, data: Path, verb: str) -> None:
    """It fails in one line and changes neither container nor host; with space it works, and nothing is left."""
    before = tree(data)
    with contextlib.closing(Engine(small / "store")) as engine:
        for (leave, size), number in zip(SIZES, itertools.count(), strict=False):
            name = f"box{number}"
            volume = cast("Volume", parse_volume(f"{data}:/data:cow"))  # a new directory each time
            for script in ("echo 1 > /f; echo 1 > /data/a", "echo 2 > /f; echo 2 > /data/a; rm /data/b"):
                run_script(engine, script, name=name, volumes=(volume,))
            engine.background.wait()
            head = containers.get(engine, name).record.head
            folder = small / "fillings"
            folder.mkdir()
            leave(folder, size)
            said = None
            try:
                VERBS[verb](containers.get(engine, name))
            except NbcontainerError as error:
                said = str(error)
            subprocess.run(["rm", "-r", folder], check=True)
            made = containers.get(engine, name)
            if said is not None:
                assert "\n" not in said
                assert made.record.head == head
                assert tree(data) == before
                VERBS[verb](made)
            assert check_containers(engine.store) == []
            assert not [*data.rglob(".nbcontainer-*")]
            for one in (name, "fork"):
                with contextlib.suppress(NbcontainerError):
                    containers.get(engine, one).remove()
            subprocess.run(["rm", "-rf", data], check=True)
            data.mkdir()
            (data / "a").write_text("of the host\n")
            (data / "b").write_text("stays\n")
            before = tree(data)
        engine.background.wait()
        prune(engine)
        own = engine.store.session
        assert not [one for one in (engine.store.path / "tmp").iterdir() if not one.name.startswith(own)]


ROUNDS = 12
OTHER = """
import sys; from pathlib import Path
from nbcontainer.containers import lookup
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
engine = Engine(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    made = lookup.get(engine, sys.argv[2])
    verbs = [
        made.undo, made.redo, lambda: volume_changes.apply(made, force=True), lambda: volume_changes.discard(made),
        lambda: restore(made, 1, ["/data/a"]),
        lambda: made.checkout(made.record.head, f"{made.name}-{number}").remove(),
    ]
    try:
        verbs[number % len(verbs)]()
    except NbcontainerError as error:
        assert "\\n" not in str(error), error
engine.close()
"""


def test_two_notebooks_move_one_container(scene: Scene) -> None:
    """Cells of one notebook and verbs of another on the same container: each is done or refused, and all agree."""
    scene.cell("echo 0 > /data/a; echo 0 > /f")
    words = [sys.executable, "-c", OTHER, str(scene.engine.store.path), scene.name, str(ROUNDS)]
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(Path.cwd())}, stderr=subprocess.PIPE) as other:
        for number in range(ROUNDS):
            ran = scene.cell(f"echo {number} > /data/a; echo {number} > /f; cat /data/a /f")
            assert ran.lines == [str(number)] * 2
        assert other.stderr is not None
        said = other.stderr.read()
    assert other.returncode == 0, said
    scene.engine.states._known.clear()
    assert check_containers(scene.engine.store) == []
    assert scene.nothing_is_left()
    numbers = [state.number for state in scene.made.all_states()]
    assert numbers == sorted(set(numbers))


def test_the_clock_may_be_set_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back, states keep their order, undo works, and `apply` at worst takes a file for a changed one."""
    scene.cell("echo 1 > /data/a")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    monkeypatch.setattr(time, "time", lambda: now() / 1e9 - 3600)
    scene.cell("echo 2 > /data/a; echo 2 > /f")
    scene.made.undo()
    assert scene.cell("cat /data/a").lines == ["1"]
    scene.apply()
    scene.cell("echo 3 > /data/a; echo new > /data/new")
    with contextlib.suppress(NbcontainerError):  # the host's file is newer than this container: that needs --force
        scene.apply()
    if scene.made.record.has_unapplied_changes:
        assert (scene.data / "a").read_text() == "1\n"
        assert scene.apply(force=True).written == 2
    assert (scene.data / "a").read_text() == "3\n"
    numbers = [state.number for state in scene.made.all_states()]
    assert numbers == sorted(numbers)
    assert check_containers(scene.engine.store) == []
