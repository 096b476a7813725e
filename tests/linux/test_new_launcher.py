"""A launcher that was killed is replaced, and the new one has what the old one had: a cell does not notice."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer import api
from nbcontainer.containers import mounts
from nbcontainer.errors import ContainerLost
from nbcontainer.sandbox.handle import wait_readable
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.launcher.connection import Connection
from nbcontainer.sandbox.launcher.limited_directories import DirectoryLike
from tests.requirements import require_root
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine

SCRIPT = "cat /data/file; echo new > /data/new; echo /work-*; echo > /kept"

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "storage": {"storage": "16m"},
    "volume": {"volumes": ["PLACE:/data"]},
    "copy-on-write": {"volumes": ["PLACE:/data:cow"]},
    "storage and volume": {"storage": "16m", "volumes": ["PLACE:/data"]},
    "host and storage": {"image": "host", "storage": "64m", "volumes": ["PLACE:/data"]},
    "tmpfs": {"tmpfs": ["/data"]},
}


def kill(launcher: Launcher) -> int:
    """Kills the process of a launcher, and waits for its end; its pid."""
    pid = launcher.pid
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    wait_readable(pidfd)
    os.close(pidfd)
    return pid


def before_each(monkeypatch: pytest.MonkeyPatch, place: type, name: str, do: Callable[[Any], object]) -> None:
    """Does something before each call of a method."""
    original = getattr(place, name)

    def first(self: Any, *arguments: Any, **named: Any) -> Any:
        do(self)
        return original(self, *arguments, **named)

    monkeypatch.setattr(place, name, first)


class Scene:
    """Runs the same cell again and again, with a directory as its volume."""

    def __init__(self, engine: Engine, place: Path, kind: str) -> None:
        self.engine = engine
        self.place = place
        self.options = {"image": "busybox", **KINDS[kind]}
        self.options["volumes"] = [text.replace("PLACE", str(place)) for text in self.options.get("volumes", ())]
        (place / "file").write_text("of the host\n")

    def run(self) -> tuple[str, str, str, bool]:
        """What the cell did: its ending, output and errors, and whether its directory is changed."""
        done = api.run(script=SCRIPT, engine=self.engine, **self.options)
        new = self.place / "new"
        there = new.exists()
        new.unlink(missing_ok=True)
        return str(done.outcome.reason), done.text, done.stderr.decode(), there


@pytest.fixture(params=KINDS)
def scene(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    """A scene for each kind of cell."""
    return Scene(engine, tmp_path, request.param)


def test_a_launcher_that_is_killed_between_two_cells(scene: Scene) -> None:
    """The second cell has a new launcher, and does what the first one did."""
    first = scene.run()
    scene.engine.background.wait()
    killed = kill(scene.engine.launcher)
    assert scene.run() == first
    assert scene.engine.launcher.pid != killed


def test_a_launcher_that_is_killed_before_its_cell_is_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the killed launcher had mounted for the cell, and the ids of its volumes, are those of the new one."""
    first = scene.run()
    killed: list[int] = []

    def once(launcher: Launcher) -> None:
        if not killed:
            killed.append(kill(launcher))

    before_each(monkeypatch, Launcher, "submit", once)
    assert scene.run() == first
    assert killed


def test_what_a_lost_container_leaves_is_not_that_of_the_next_one(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is sent again has new write layers, and those that the background removes are the old ones."""
    scene = Scene(engine, tmp_path, "copy-on-write")
    first = scene.run()
    sent: list[int] = []

    def lose_the_first(launcher: Launcher) -> None:
        sent.append(launcher.pid)
        if len(sent) == 1:
            raise ContainerLost("lost")
        engine.background.wait()

    before_each(monkeypatch, Launcher, "submit", lose_the_first)
    assert scene.run() == first
    assert len(sent) > 1


@pytest.mark.parametrize("method", ["submit", "plain_tree"])
def test_volumes_of_a_notebook_that_may_not_mount(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A volume that the killed launcher had cloned for root without SYS_ADMIN is mounted by the new launcher."""
    require_root()

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(mounts, "volume_trees", refused)
    scene = Scene(engine, tmp_path, "volume")
    killed: list[int] = []

    def once(launcher: Launcher) -> None:
        if not killed:
            killed.append(kill(launcher))

    (tmp_path / "file").chmod(0o644)
    tmp_path.chmod(0o777)
    first = scene.run()
    assert first[1].startswith("of the host")
    before_each(monkeypatch, Launcher, method, once)
    assert scene.run()[1:] == (first[1], "", True)
    assert killed


def test_an_order_to_a_launcher_whose_end_was_not_seen_yet(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that has no answer goes to a new launcher, if the old one ended after the last look at it."""
    directory = engine.store.new_directory(engine.store.path / "tmp" / engine.store.unique(), give=False)
    killed, start = kill(engine.launcher), Connection.start
    looks = iter([True])
    monkeypatch.setattr(Connection, "start", lambda self: next(looks, False) or start(self))
    engine.launcher.limit(f"tmp/{directory.name}", 1 << 20, [DirectoryLike("diff")])
    engine.launcher.connection.settle()
    assert engine.launcher.pid != killed
    assert f"tmp/{directory.name} " in Path(f"/proc/{engine.launcher.pid}/mountinfo").read_text()


def test_what_a_killed_launcher_had_in_memory_is_noted_as_lost(engine: Engine, name: str) -> None:
    """The changes of a cell with `--storage` end with the launcher: the container is incomplete, and says so."""
    run_script(engine, "echo 1 > /kept", name=name, storage=1 << 24)

    def end(data: bytes) -> None:
        assert data == b"ready\n"
        kill(engine.launcher)

    with pytest.raises(ContainerLost, match="what the cell wrote is lost"):
        run_script(engine, "echo 2 > /lost; echo ready; sleep 1000", name=name, storage=1 << 24, stdout=end)
    last = api.get(name, engine=engine).record.last
    assert last is not None
    assert last.lost
    assert run_script(engine, "ls /kept /lost", name=name, storage=1 << 24).text == "/kept"
