"""The history of containers on the real kernel: flattened layers, what programs see of them, and crashes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import lookup as containers
from nbcontainer.containers import record as records
from nbcontainer.containers.cleanup import prune, sweep
from nbcontainer.containers.commit import commit
from nbcontainer.containers.diff import diff
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history import flatten
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.requirements import require
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.store.layout import Store


@pytest.fixture
def own(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a store of the test's own."""
    assert engine
    opened = Engine(tmp_path / "store")
    yield opened
    opened.close()


def settled(engine: Engine) -> None:
    """Wait for what cells left to the background."""
    for _ in range(2):
        engine.background.wait()


def add_cells(engine: Engine, container: Container, count: int) -> None:
    """Add cells that each wrote one file, without running them."""
    store = engine.store
    with container.use():
        for _ in range(count):
            number = container.record.count + 1
            place = store.layers.make_private(store.unique())
            store.new_directory(place / "diff")
            store.new_directory(place / "diff" / "many")
            (place / "diff" / "many" / str(number)).write_text(f"{number}\n")
            os.chown(place / "diff" / "many" / str(number), *store.owner)
            cell = CellRecord(place.name, f"cell {number}", "2026-11-24T20:00:00Z", Outcome(Reason.EXITED, 0))
            container.add_cell(cell)


def deep(engine: Engine, count: int, name: str = "deep") -> Container:
    """Return a container with so many cells that wrote one file each, /many/N."""
    run_script(engine, "true")
    made = containers.create(engine, engine.images.find("busybox"), name)
    add_cells(engine, made, count)
    return made


def test_layers_are_flattened_behind_the_cells(own: Engine) -> None:
    """After 16 cells that wrote there is one lower in place of 16; history, diff and undo see every cell."""
    for number in range(17):
        run_script(own, f"echo {number} > /f{number}; echo {number} > /last", name="dev", image="busybox")
    settled(own)
    found = containers.get(own, "dev")
    assert len(found.layers) - len(found.record.base) == 17
    assert len(found.lowers) - len(found.record.base) == 2
    assert run_script(own, "cat /last /f0 /f15 /f16", name="dev").text == "16\n0\n15\n16"
    assert len(found.cells) == 17
    assert len(diff(found)) == 18
    found.undo()
    found.undo()
    assert run_script(own, "cat /last; ls /f15 2>/dev/null", name="dev").text == "14"


def test_a_removed_file_is_not_listed_on_flattened_layers(own: Engine) -> None:
    """Of a directory that cells made and removed a file from, neither is listed: overlayfs shows whiteouts there."""
    run_script(own, "mkdir /d /d/e; touch /d/a /d/b /d/e/f", name="dev", image="busybox")
    run_script(own, "rm /d/a /d/e/f /bin/ls", name="dev")
    for number in range(14):
        run_script(own, f"touch /n{number}", name="dev")
    settled(own)
    found = containers.get(own, "dev")
    assert len(found.lowers) == 1 + len(found.record.base)
    assert run_script(own, "echo /d/* /d/e/* /bin/l[rs]", name="dev").text == "/d/b /d/e /d/e/* /bin/l[rs]"


def test_a_file_in_the_place_of_a_directory_has_nothing_below_it(own: Engine) -> None:
    """`diff` lists what a replaced directory of the image has lost, and not what earlier cells had in theirs."""
    run_script(own, "mkdir /old; touch /old/x", name="made", image="busybox")
    commit(containers.get(own, "made"), "replacing")
    run_script(own, "mkdir /d; touch /d/x; mkdir -p /e/f; touch /e/f/g /old/y", name="dev", image="replacing")
    run_script(own, "rm -rf /d /e /old; touch /d /old; ln -s /tmp /e", name="dev", image="replacing")
    found = [str(change) for change in diff(containers.get(own, "dev"))]
    assert found == ["A /d", "A /e", "C /old", "D /old/x"]


@pytest.mark.parametrize("how", ["chmod 555 /", "chmod 700 /", "chown 33:33 /; chmod 755 /"])
def test_a_cell_may_close_its_root_directory(own: Engine, how: str) -> None:
    """What it wrote is kept, although the directory that holds it cannot get another parent from a plain user."""
    if own.idmap.kind == MapKind.SINGLE and "chown" in how:
        pytest.skip("a single id has one user")
    run_script(own, f"echo x > /f; {how}", name="closing")
    made = containers.get(own, "closing")
    try:
        assert made.record.lost == 0
        assert run_script(own, "cat /f", name="closing").text == "x"
        assert [str(change) for change in diff(made)] == ["A /f"]
    finally:
        containers.get(own, "closing").remove()


def test_no_container_reaches_the_limit_of_the_kernel(own: Engine) -> None:
    """A container with 600 layers that were never flattened runs its next cell: they are flattened before."""
    made = deep(own, 600)
    assert len(made.lowers) > 500
    assert run_script(own, "ls /many | wc -l; cat /many/1 /many/600; echo > /new", name="deep").text == "600\n1\n600"
    lowers = containers.get(own, "deep").lowers
    assert len(lowers) < 40
    own.images.find("busybox")
    undone = containers.get(own, "deep")
    undone.undo(301)
    assert run_script(own, "ls /many | wc -l", name="deep").text == "300"


def test_flattening_links_each_change_once_for_each_level(own: Engine) -> None:
    """600 one-file layers get 600 names at the first level and 512 at the second: the work grows with the changes."""
    made = deep(own, 600)
    with made.use():
        made.flatten()
    layer = own.store.path / "layers" / made.cells[0].layer / "diff" / "many" / "1"
    assert layer.stat().st_nlink == 3
    names = len(list((own.store.path / "layers").glob("*/diff/many/*")))
    assert names == 600 + 37 * 16 + 2 * 256


def test_what_flattened_layers_need_is_removed_with_the_container(own: Engine) -> None:
    """`rm` removes the flattened layers too; `prune` leaves those of a container that is there."""
    made = deep(own, 40)
    made.flatten()
    with made.use():
        flatten.Flattening(own.store, own.states, own, made.record.base).all(made.record.head)
    before = len(list((own.store.path / "layers").iterdir()))
    prune(own)
    assert len(list((own.store.path / "layers").iterdir())) == before
    made.remove()
    settled(own)
    assert len(list((own.store.path / "layers").iterdir())) == 2  # busybox, and the names by digest
    assert not list((own.store.path / "journals").iterdir())
    assert not list((own.store.path / "flats").iterdir())


def test_an_image_of_many_cells_has_few_layers_and_all_of_the_history(own: Engine) -> None:
    """70 cells become an image of 4 flattened layers and 6 others; 60 keep a layer each. Again, it is the same."""
    made = deep(own, 60)
    few = commit(made, "few")
    assert len(few.layers) == 1 + 60
    add_cells(own, made, 10)
    image = commit(made, "many")
    assert len(image.layers) == 1 + 4 + 6
    steps = image.history[-70:]
    assert [step.created_by for step in steps] == [f"cell {number}" for number in range(1, 71)]
    assert [number for number, step in enumerate(steps, 1) if not step.empty] == [16, 32, 48, 64, *range(65, 71)]
    assert run_script(own, "ls /many | wc -l; cat /many/1 /many/70", image="many").text == "70\n1\n70"
    assert commit(made, "again").layers == image.layers
    made.remove()
    settled(own)
    prune(own)
    assert run_script(own, "ls /many | wc -l", image="many").text == "70"


KILLED = """
import os, sys
from pathlib import Path
from nbcontainer.containers import lookup
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.history import flatten
engine = Engine(Path(sys.argv[1]))
made = lookup.get(engine, "deep")
name, at = sys.argv[2].split(":")
target = flatten.Flattening if name.startswith("_") else type(engine.store.layers)
original = getattr(target, name)
def killed(*arguments, **keywords):
    if at == "after":
        original(*arguments, **keywords)
    os.kill(os.getpid(), 9)
setattr(target, name, killed)
flatten.Flattening(engine.store, engine.states, engine, made.record.base).all(made.record.head)
"""


@pytest.mark.parametrize("point", ["_merge:before", "begin:after", "_fill:after", "_add:before", "_add:after"])
def test_a_kill_while_layers_are_flattened_leaves_nothing(own: Engine, point: str) -> None:
    """SIGKILL at any step: the next start removes the unfinished layer, and the container works as before."""
    deep(own, 20)
    before = {path.name for path in (own.store.path / "layers").iterdir()}
    killed = subprocess.run([sys.executable, "-c", KILLED, own.store.path, point], check=False)
    assert killed.returncode == -9
    sweep(own)
    after = {path.name for path in (own.store.path / "layers").iterdir()}
    assert len(after - before) == (1 if point == "_add:after" else 0)
    assert run_script(own, "ls /many | wc -l", name="deep").text == "20"


PROGRAMS = r"""
set -e
cd /srv/data
tar -cf /tmp/a.tar --sort=name --mtime=@0 . && tar -tvf /tmp/a.tar | sed 's/ \+/ /g' | cut -d' ' -f1-3,6-
mkdir /tmp/copy && rsync -aH . /tmp/copy && cd /tmp/copy
find . -type f -links +1 | sort && find . | sort | xargs -d '\n' stat -c '%n %A %s'
cd /srv/data/repository && git status --porcelain && git -c gc.auto=0 fsck 2>&1 && git log --format=%s
"""


def test_programs_behave_the_same_on_flattened_layers(own: Engine) -> None:
    """tar, rsync -H, git and dpkg print the same in a container before and after its layers are flattened."""
    for name in ("tar", "rsync", "git", "dpkg"):
        require(name, available=shutil.which(name) is not None)
    git = "git -c user.name=n -c user.email=e@x -C /srv/data/repository"
    cells = [
        "mkdir -p /srv/data/repository; cd /srv/data; echo a > a; ln a b; ln -s a c; mkdir d; echo x > d/x",
        f"{git} init -q; cd /srv/data/repository; echo 1 > f; {git} add f; {git} commit -qm one",
        f"cd /srv/data/repository; echo 2 > f; echo 3 > g; {git} add f g; {git} commit -qm two; rm /srv/data/d/x",
        *(f"echo {number} > /srv/data/n{number}" for number in range(13)),
    ]
    for script in cells:
        run_script(own, script, image="host", name="box")
    settled(own)
    dpkg = "dpkg -V tar 2>&1; dpkg -S /bin/tar; dpkg-deb --version | head -1"
    script = f"{PROGRAMS}\n{dpkg}"
    flat = run_script(own, script, image="host", name="box")
    box = containers.get(own, "box")
    settled(own)
    assert len(containers.get(own, "box").lowers) < len(box.layers)
    box.undo()
    with contextlib.suppress(FileNotFoundError):
        (own.store.path / "flats" / box.record.journal).unlink()
    assert len(containers.get(own, "box").lowers) == 16 + len(box.record.base)
    plain = run_script(own, script, image="host", name="box")
    assert plain.outcome.ok, plain.stderr
    assert flat.text == plain.text
    assert "./a" in plain.text


def test_a_fork_is_never_on_disk_without_its_state(own: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `checkout` that is killed leaves the whole container or none, not one in the state of the image."""
    made = deep(own, 2)
    seen: list[bool] = []
    save = records.save_record

    def look(store: Store, record: records.Record) -> None:
        seen.append(os.path.lexists(store.path / "containers" / record.name / records.HEAD))
        save(store, record)

    monkeypatch.setattr(records, "save_record", look)
    made.checkout(made.state(1), "fork")
    assert seen == [True]
    head = containers.get(own, "fork").record.head
    assert head is not None
    assert head.number == 1


def test_a_new_container_has_nothing_of_a_checkout_that_was_killed(own: Engine) -> None:
    """What is left in a directory without a record does not belong to the next container of that name."""
    made = deep(own, 2)
    fork = made.checkout(made.state(1), "fork")
    (fork.path / records.RECORD).unlink()
    containers.create(own, own.images.find("busybox"), "fork")
    assert containers.get(own, "fork").record.head is None
