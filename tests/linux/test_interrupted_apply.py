"""What an `apply` that is killed leaves on the host: the next use of the container, or of the store, cleans it up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.cleanup import prune, sweep
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.cow import interrupted, volume_changes
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import ChangesRefused, StoreError
from tests.linux.test_cow_volumes import Scene, data, scene, shared, tree
from tests.running import DEADLINE, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.sandbox.spec import Volume

__all__ = ["data", "scene", "shared"]

CHANGES = "cd /data; echo new > new; echo changed > a; rm b; mkdir n; echo f > n/f; chmod 711 sub; echo y > sub/y"


def killed(scene: Scene, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> dict[str, tuple[object, ...]]:
    """Leave what a process leaves that is killed before the state of its `apply` is kept, or if `done` just after it.

    Return what the host's directory had before.
    """
    scene.cell(CHANGES)
    before = tree(scene.data)
    monkeypatch.setattr(interrupted, "finish", lambda _: None)
    if not done:
        monkeypatch.setattr(volume_changes, "_settle", interrupt)
    with contextlib.nullcontext() if done else pytest.raises(KeyboardInterrupt):
        scene.apply()
    monkeypatch.undo()
    assert (scene.data / "new").exists()
    assert not scene.nothing_is_left()
    return before


def interrupt(*_: object) -> None:
    """End what is being done."""
    raise KeyboardInterrupt


def rename(made: Container) -> None:
    """Rename it, and rename it back."""
    old = made.name
    made.rename(f"{old}-other")
    made.rename(old)


USES: dict[str, Callable[[Container], object]] = {
    "undo": lambda made: made.undo(),
    "checkout": lambda made: made.checkout(made.record.head, f"{made.name}-fork"),
    "restore": lambda made: restore(made, 0, ["/data/a"]),
    "changes": volume_changes.list_changes,
    "discard": volume_changes.discard,
    "rename": rename,
    "prune": lambda made: prune(made.workspace),
    "next start": lambda made: sweep(made.workspace),
}


@pytest.mark.parametrize("use", USES)
def test_the_next_use_moves_back_what_a_killed_apply_wrote(
    scene: Scene, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes next, the host has its files, modes and times again, and no staging directory is left."""
    before = killed(scene, monkeypatch, done=False)
    USES[use](scene.made)
    assert tree(scene.data) == before
    assert scene.nothing_is_left()
    if scene.made.record.has_unapplied_changes:
        scene.apply()  # no conflict with what was moved back
        assert (scene.data / "new").exists()
    for name in (f"{scene.name}-fork",):
        with contextlib.suppress(Exception):
            containers.get(scene.engine, name).remove()


def test_the_next_cell_sees_the_files_of_the_host_after_a_killed_apply(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell sees its changes and no staging directory; what it changes again does not conflict with the host."""
    before = killed(scene, monkeypatch, done=False)
    seen = scene.cell("cd /data; ls -A; cat a; echo once more > a")
    assert seen.lines == ["a", "link", "n", "new", "sub", "changed"]
    assert tree(scene.data) == before
    scene.apply()
    assert (scene.data / "a").read_text() == "once more\n"


def test_what_cannot_be_moved_back_is_kept_and_named(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb for changes says where the host's own file is, until it has its place; none removes it."""
    before = killed(scene, monkeypatch, done=False)
    (scene.data / "a").rename(scene.data / "elsewhere")
    for do in (scene.changes, scene.apply, lambda: volume_changes.discard(scene.made)):
        with pytest.raises(ChangesRefused, match=r"cannot move 'a' back .*: it is kept at '.*/\.nbcontainer-apply-"):
            do()
    (staging,) = scene.data.glob(".nbcontainer-apply-*")
    assert [path.read_text() for path in staging.iterdir() if path.is_file()].count("of the host\n") == 1
    (scene.data / "elsewhere").rename(scene.data / "a")
    scene.changes()
    assert tree(scene.data) == before
    assert scene.nothing_is_left()


def test_what_the_host_changes_after_a_killed_apply_is_in_conflict(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the files that were moved back, and that are as they were, count as unchanged."""
    killed(scene, monkeypatch, done=False)
    scene.changes()
    (scene.data / "a").write_text("of the host, changed\n")
    with pytest.raises(ChangesRefused, match="changed on the host meanwhile"):
        scene.apply()


def test_an_apply_that_was_done_stays_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process is killed after the state was kept, the next use removes the old files of the host."""
    killed(scene, monkeypatch, done=True)
    after = {name: facts for name, facts in tree(scene.data).items() if not name.startswith(".nbcontainer-")}
    sweep(scene.engine)
    assert tree(scene.data) == after
    assert not scene.made.record.has_unapplied_changes


def test_an_apply_that_cannot_be_kept_is_moved_back_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store cannot keep the state, `apply` fails and the host is as before; the next `apply` needs no force."""
    scene.cell(CHANGES)
    before = tree(scene.data)

    def fail(*_: object) -> None:
        raise StoreError("cannot save the record", hint="free some space")

    monkeypatch.setattr(volume_changes, "_settle", fail)
    with pytest.raises(StoreError):
        scene.apply()
    monkeypatch.undo()
    assert tree(scene.data) == before
    assert scene.apply().written == 6


def test_a_directory_that_comes_back_has_its_files(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the directory of a killed `apply` is away, `discard` works; when it is back, its files are moved back."""
    before = killed(scene, monkeypatch, done=False)
    away = tmp_path / "away"
    scene.data.rename(away)
    volume_changes.discard(scene.made)
    away.rename(scene.data)
    sweep(scene.engine)
    assert tree(scene.data) == before


def test_the_files_of_a_killed_notebook_without_a_name_come_back(scene: Scene) -> None:
    """An anonymous container ends with its notebook: the next start moves back what its `apply` had moved."""
    before = tree(scene.data)
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from nbcontainer.commands.options.volumes import parse_volume\n"
        "from nbcontainer.containers.cow import volume_changes; from nbcontainer.containers.engine import Engine\n"
        "from tests.running import run_script\n"
        "engine = Engine(Path(sys.argv[1])); volume = parse_volume(sys.argv[2] + ':/data:cow')\n"
        "made = run_script(engine, sys.argv[3], volumes=(volume,)).container\n"
        "volume_changes._settle = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "volume_changes.apply(made)"
    )
    words = [sys.executable, "-c", program, str(scene.engine.store.path), str(scene.data), CHANGES]
    ended = subprocess.run(words, check=False, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    assert ended.returncode == -signal.SIGKILL
    assert (scene.data / "new").exists()
    deadline = time.monotonic() + DEADLINE
    while not scene.nothing_is_left() and time.monotonic() < deadline:  # its launcher ends a moment later
        sweep(scene.engine)
    assert tree(scene.data) == before
    assert scene.nothing_is_left()


@pytest.fixture
def own(shared: Engine, tmp_path: Path) -> Iterator[Engine]:
    """An engine whose session ends in the test."""
    assert shared
    engine = Engine(tmp_path / "own")
    yield engine
    engine.close()


def left_over(engine: Engine, data: Path, away: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """Return an anonymous container whose `apply` failed and could not be moved back: the directory is away."""
    volume = cast("Volume", parse_volume(f"{data}:/data:cow"))
    made = run_script(engine, CHANGES, volumes=(volume,)).container

    def fail(*_: object) -> None:
        data.rename(away)
        raise StoreError("cannot save the record", hint="free some space")

    monkeypatch.setattr(volume_changes, "_settle", fail)
    with pytest.raises(ChangesRefused, match="cannot be moved back now: cannot save the record") as caught:
        volume_changes.apply(made)
    monkeypatch.undo()
    assert "the next use of the container" in caught.value.hint
    return made


def test_the_next_use_of_a_container_without_a_name_moves_back_what_was_left(
    own: Engine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a named one: the host has its files again, and the next `apply` has no conflict with them."""
    before = tree(data)
    made = left_over(own, data, tmp_path / "away", monkeypatch)
    (tmp_path / "away").rename(data)
    assert volume_changes.list_changes(made).conflicts == ()
    assert tree(data) == before
    volume_changes.apply(made)
    assert (data / "a").read_text() == "changed\n"
    assert not list(data.rglob(".nbcontainer-*"))


def test_a_container_without_a_name_stays_until_its_apply_is_finished(
    own: Engine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the next cell nor the end of the notebook forgets the host's files that an `apply` has moved: a later
    start moves them back, and removes the container."""
    before = tree(data)
    made = left_over(own, data, tmp_path / "away", monkeypatch)
    run_script(own, "true")  # another anonymous container replaces it
    own.close()
    later = Engine(tmp_path / "own")
    sweep(later)
    assert made.path.exists()
    (tmp_path / "away").rename(data)
    sweep(later)
    assert tree(data) == before
    prune(later)
    assert not made.path.exists()
    later.close()


def test_prune_forgets_an_apply_whose_directory_is_gone(
    own: Engine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without a name that waits for a directory stays no longer than to the next `prune`."""
    made = left_over(own, data, tmp_path / "away", monkeypatch)
    own.close()
    later = Engine(tmp_path / "own")
    prune(later)
    assert not made.path.exists()
    later.close()
