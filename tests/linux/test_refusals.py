"""What the kernel refuses the notebook, its launcher or an init is one line for a person, and nothing stays of it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.commands.options.volumes import parse_tmpfs
from nbcontainer.containers import record, run
from nbcontainer.containers.active import ActiveCell, running_containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError, StoreError
from nbcontainer.images.trash import discard
from nbcontainer.outcome import Reason
from nbcontainer.sandbox import supervisor
from nbcontainer.sandbox.supervisor import GRACE
from tests.faults.scene import OneByOne, Round, Scene
from tests.faults.tape import ROLES
from tests.requirements import require, require_root
from tests.running import DEADLINE, all_dead, limit_with_room, pidfds, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.warm.warm_pool import WarmContainer
    from nbcontainer.sandbox.cgroups.group import GroupLimits
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.plan import PlanTemplate
    from nbcontainer.sandbox.supervisor import Supervisor
    from tests.running import Ran

    Cell = Callable[..., Ran]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Scene]:
    require("namespaces", available=not _containers_work, why=_containers_work)
    with Scene(tmp_path_factory.mktemp("scene") / "scene", only=("plain", "full", "named")).opened() as opened:
        yield opened


@pytest.mark.parametrize(
    ("act", "who", "point", "what"),
    [
        ("plain", "launcher", "pidfd_open", "EMFILE"),  # an init that the launcher cannot hold
        ("plain", "launcher", "recvmsg", "ENOMEM"),  # the launcher's last words
        ("plain", "notebook", "fchmod", "EMFILE"),  # half a pipe
        ("plain", "notebook", "memfd_create", "EMFILE"),
        ("plain", "notebook", "mkdir", "ENOSPC"),  # an upper
        ("plain", "notebook", "chown", "EIO"),
        ("plain", "notebook", "_take", "EMFILE"),  # of init's messages
        ("plain", "notebook", "read", "EIO"),  # of the cell's output
        ("full", "notebook", "_send", "EIO"),  # with init in its group, and its upper mounted
        ("full", "notebook", "write", "EIO"),
        ("named", "notebook", "rename", "ENOSPC"),  # a layer
        ("named", "notebook", "replace", "ENOSPC"),  # a record, an index
        ("named", "notebook", "fsync", "EIO"),
        ("named", "notebook", "flock", "ENOMEM"),
        ("named", "notebook", "open", "ENOMEM"),  # of a lock, a record, an index
    ],
)
def test_a_refused_call_leaves_nothing(scene: Scene, act: str, who: str, point: str, what: str) -> None:
    """Wherever it is made: one line of the package's own errors or none, nothing stays, and the next cell works."""
    names = scene.points(scene.acts[act])[ROLES.index(who)]
    for position in [number for number, name in enumerate(names) if name == point]:
        scene.play(Round(act, who, position, what))


def test_no_more_files_is_one_line(cell: Cell, engine: Engine) -> None:
    """At its limit of open files a notebook is told so, whatever the cell was about to open; above it the cell runs."""
    cell("true")
    engine.background.wait()
    _, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = set()
    try:
        for more in range(40):
            engine.files.close()  # a cell that finds all that it needs opens nothing
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit_with_room(more), hard))
            try:
                assert cell("echo works").text == "works"
            except NbcontainerError as error:
                said.add(str(error))
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            engine.background.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not any("\n" in line for line in said)
    assert any("Too many open files; raise the limit on open files (ulimit -n)" in line for line in said)
    assert cell("echo works").text == "works"


def test_a_full_disk_ends_no_cell(cell: Cell, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be written down that a cell runs, it runs all the same."""

    def publish(_: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine.store.sessions, "publish", publish)
    assert cell("echo one; sleep 0.1; echo two").lines == ["one", "two"]


def test_a_cell_whose_end_was_not_written_down_does_not_run(
    cell: Cell, engine: Engine, monkeypatch: pytest.MonkeyPatch, *, name: str
) -> None:
    """Its container can be read, committed and used, though the notebook's file still says that the cell runs.

    Its init may live for a moment more: the kernel releases its mounts.
    """
    write = engine.store.sessions.publish

    def publish(what: dict[str, Any]) -> None:
        if not what["running"]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        write(what)

    monkeypatch.setattr(supervisor, "BRIEF", 0)  # each cell is written down
    monkeypatch.setattr(engine.store.sessions, "publish", publish)
    monkeypatch.setattr(ActiveCell, "alive", property(lambda _: True))
    assert cell("echo kept > /file; sleep 0.1; echo done", name=name).text == "done"
    assert name in running_containers(engine.store)
    box = nbcontainer.get(name, engine=engine)
    assert box.get("/file") == b"kept\n"
    assert [str(change) for change in box.diff()] == ["A /file"]
    assert box.commit(f"{name}-image").name
    nbcontainer.remove_image(f"{name}-image", engine=engine)
    monkeypatch.undo()
    assert cell("cat /file", name=name).text == "kept"
    box.remove()


class _DiesInBetween(Engine):
    """An engine whose launcher is killed once, when a cell has been given the upper of a container that waits."""

    kills = 0

    def allocate(
        self,
        launcher: Launcher,
        lowers: tuple[str, ...],
        template: PlanTemplate,
        limits: GroupLimits,
        storage: int | None = None,
        *,
        afresh: bool = False,
    ) -> WarmContainer:
        """The same, and then there is no launcher."""
        found = super().allocate(launcher, lowers, template, limits, storage, afresh=afresh)
        if self.kills:
            self.kills -= 1
            while not (found.upper.path / "work" / "work").exists():
                time.sleep(0.001)  # until it is mounted
            dead = pidfds([launcher.pid])
            os.kill(launcher.pid, signal.SIGKILL)
            assert all_dead(dead)
        return found


def test_a_launcher_that_dies_does_not_move_the_store_to_memory(store_path: Path, engine: Engine) -> None:
    """Overlay takes a volatile upper once only: one that a dead container had is not one that cannot be had."""
    assert engine
    own = _DiesInBetween(store_path)
    try:
        run_script(own, "true")
        run_script(own, "true")
        own.background.wait()
        own.launcher.collect()
        own.kills = 1
        assert run_script(own, "echo works").text == "works"
        assert own.kills == 0
        assert not own.store.in_memory
    finally:
        own.close()


def test_containers_that_waited_for_nothing_leave_nothing(store_path: Path, engine: Engine) -> None:
    """One made ahead with a place for a tmpfs in it, that no cell came for, goes with what it had made."""
    assert engine
    own = Engine(store_path)
    try:
        for _ in range(3):
            run_script(own, "true", tmpfs=(parse_tmpfs("/not/there/yet"),))
            own.background.wait()
            run_script(own, "true")
            own.background.wait()
        own.background.wait()
        mine = {path.name for path in (store_path / "tmp").iterdir() if path.name.startswith(own.store.session)}
        assert mine == {one.upper.id for one in own._warm._ready}
    finally:
        own.close()


def test_a_tree_of_a_store_behind_a_closed_directory_is_removed(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox that removes what this process cannot needs no way in from the top of the file system."""
    require_root()
    assert engine
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    own = Engine(closed / "store")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    try:
        tree = own.store.new_directory(own.store.path / "tmp" / own.store.unique())
        own.store.new_directory(tree / "below")
        monkeypatch.setattr(shutil, "rmtree", refused)
        discard(own.store, own, [tree])
        assert list((own.store.path / "tmp").iterdir()) == []
    finally:
        monkeypatch.undo()
        own.close()


def test_a_cell_can_be_stopped_as_it_starts(store_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM to an init that was cloned a moment ago reaches the cell: it ends without waiting for the grace."""
    assert engine
    monkeypatch.setattr(supervisor, "GRACE", DEADLINE)
    own = OneByOne(store_path)
    try:
        own.images.find("busybox")
        for _ in range(5):
            assert _stopped(own, lambda supervisor: supervisor.stop(Reason.TIMEOUT)) == (Reason.TIMEOUT, signal.SIGTERM)
    finally:
        own.close()


def test_a_stop_wakes_the_supervisor(store_path: Path, engine: Engine) -> None:
    """A stop from another thread takes no longer than the grace, even if the cell ignores SIGTERM."""
    assert engine
    own = OneByOne(store_path)
    began: list[float] = []
    try:
        own.images.find("busybox")

        supervisors: list[Supervisor] = []

        def stop_later(_: bytes) -> None:
            began.append(time.monotonic())
            threading.Timer(0.05, supervisors[0].stop, [Reason.TIMEOUT]).start()

        script = "trap '' TERM; echo ready; exec sleep 30"
        assert _stopped(own, supervisors.append, script, stop_later) == (Reason.TIMEOUT, signal.SIGKILL)
        assert time.monotonic() - began[0] < GRACE + 5
    finally:
        own.close()


def _nowhere(_: bytes) -> None:
    """Ignore output."""


def _stopped(
    engine: Engine,
    on_start: Callable[[Supervisor], None],
    script: str = "sleep 30",
    stdout: Callable[[bytes], None] = _nowhere,
) -> tuple[Reason, int]:
    streams = Streams(stdout, _nowhere, on_follow=on_start)
    outcome = run.run(engine, Request("busybox", script=script), streams)[1]
    return outcome.reason, outcome.signal


def test_a_store_that_cannot_be_written_is_the_stores_error(
    cell: Cell, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cell left and cannot be kept is told; nothing half-kept is in the store, and the next cell is kept."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    cell("true")
    engine.background.wait()
    places = [engine.store.path / name for name in ("layers", "containers")]
    before = [sorted(place.iterdir()) for place in places]
    monkeypatch.setattr(record, "replace_file", full)
    problem = r"cannot save the record of container .*: No space left on device; free some space"
    with pytest.raises(StoreError, match=problem):
        cell("echo x > /file")
    monkeypatch.undo()
    engine.background.wait()
    engine.background.wait()
    assert [sorted(place.iterdir()) for place in places] == before
    assert cell("echo x > /file").container.cells[-1].layer
