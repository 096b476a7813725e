"""Roots that one container leaves to the next one: who gets them, and when they are removed."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.containers.warm.warm_pool import DEPTH
from nbcontainer.containers.writes import reused_layers, root_mount
from nbcontainer.containers.writes.reused_layers import LIMIT
from nbcontainer.errors import SetupFailed
from nbcontainer.sandbox.handle import wait_readable
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.supervisor import Supervisor
from tests.requirements import require
from tests.reusing import WHICH, mounted, warm_up
from tests.running import Ran, limit_with_room, open_descriptors, run_script

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.steps.base import Step


def ran(engine: Engine, script: str, **options: Any) -> Ran:
    """A cell in busybox whose remains are removed."""
    found = run_script(engine, script, **options)
    engine.background.wait()
    return found


def kill_launcher(engine: Engine) -> None:
    """Kill it, and wait until its server has ended, too."""
    helper = engine.launcher.connection.helper
    assert helper is not None
    server = os.pidfd_open(helper.pid)
    os.kill(engine.launcher.pid, signal.SIGKILL)
    wait_readable(server)
    os.close(server)


def left(engine: Engine) -> list[str]:
    """The write layers of this engine in the store."""
    session = engine.store.unique().partition(".")[0]
    return [path.name for path in (engine.store.path / "tmp").iterdir() if path.name.startswith(f"{session}.")]


def test_containers_that_change_nothing_share_a_few_roots(reusing: Engine) -> None:
    """A hundred containers have no more roots than those that wait at a time."""
    roots = {ran(reusing, WHICH).text for _ in range(100)}
    assert len(roots) <= DEPTH + 3
    assert mounted(reusing) <= DEPTH + 3


def test_each_container_has_a_name_of_its_own(reusing: Engine) -> None:
    """The name and the hosts file are those of this container, and not of one that had its root before."""
    seen = [ran(reusing, "hostname; tail -n 1 /etc/hosts").lines for _ in range(10)]
    assert len({name for name, _ in seen}) == len(seen)
    assert all(line == f"127.0.0.1\t{name}" for name, line in seen)


def test_the_hosts_file_has_nothing_of_the_one_before(reusing: Engine) -> None:
    """A shorter one leaves no end of a longer one, as reading, mapping and seeking see it."""
    long = tuple((f"name{number}.example.com", "192.0.2.1") for number in range(50))
    look = "cat /etc/hosts; wc -c < /etc/hosts; tail -c 20 /etc/hosts; stat -c %s /etc/hosts"
    plain = ran(reusing, f"hostname x 2>/dev/null; {look}", hostname="box").stdout
    for _ in range(2 * DEPTH + 2):
        assert len(ran(reusing, look, hosts=long, hostname="box").lines) > len(long)
        assert ran(reusing, look, hostname="box").stdout == plain


def test_a_root_that_was_changed_becomes_a_layer(reusing: Engine) -> None:
    """What a cell writes in a root that others had is kept as always, and the next cell of its container sees it."""
    for number in range(2 * DEPTH + 2):
        ran(reusing, "true")
        written = ran(reusing, f"echo {number} > /tmp/f", name=f"kept{number}")
        again = run_script(reusing, "cat /tmp/f; echo more >> /tmp/f", name=f"kept{number}", image="")
        assert again.text == str(number)
        assert [change.path for change in _changes(written.container)] == ["/tmp/f"]
        written.container.remove()


def _changes(container: Any) -> list[Any]:
    from nbcontainer.containers.diff import diff

    return [change for change in diff(container) if not change.path.endswith("/tmp")]


def test_cells_that_write_get_no_shared_roots(reusing: Engine) -> None:
    """After a cell that changed its root, the launcher mounts no root more: each container mounts its own."""
    roots = [ran(reusing, f"{WHICH}; echo > /f").text for _ in range(DEPTH + LIMIT)]
    assert len(set(roots)) == len(roots)
    assert mounted(reusing) <= DEPTH + 1  # those of containers that wait for another cell
    warm_up(reusing)


def test_all_are_removed_at_the_end(store_path: Path, reusing: Engine) -> None:
    """A closed engine leaves no directory, no mount and no descriptor."""
    reusing.close()
    assert left(reusing) == []
    before = open_descriptors()
    with_more = Engine(store_path)
    warm_up(with_more)
    with_more.close()
    assert open_descriptors() == before
    assert left(with_more) == []


def test_few_wait_after_many_at_once(reusing: Engine) -> None:
    """Twenty threads have twenty roots, of which a few are left when cells come one by one again."""
    threads = [threading.Thread(target=lambda: [run_script(reusing, "true") for _ in range(5)]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reusing.background.wait()
    assert mounted(reusing) <= LIMIT + 2 * DEPTH
    for _ in range(3):
        ran(reusing, "true")
    assert mounted(reusing) <= 2 * DEPTH + 2


def test_they_end_with_their_launcher(reusing: Engine) -> None:
    """After the launcher was killed, cells get new roots, of the next one; nothing is left of the old ones."""
    for _ in range(3):
        old = {ran(reusing, WHICH).text for _ in range(5)}
        kill_launcher(reusing)
        new = {ran(reusing, WHICH).text for _ in range(10)}
        assert not old & new
    assert len(left(reusing)) <= DEPTH + 1 + mounted(reusing)


def test_a_root_that_cannot_be_attached_is_replaced(reusing: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this kernel refuses, the cell gets a root that its container mounts, and so do those after it."""
    roots = reusing.launcher.spares.roots

    def refused(steps: Iterable[Step]) -> list[int]:
        return [0, 0] if any(isinstance(step, AttachRoot) for step in steps) else []

    monkeypatch.setattr(roots, "files", refused)
    for _ in range(3 * DEPTH):  # those that wait have theirs
        assert ran(reusing, "echo fine").text == "fine"
    assert mounted(reusing) <= DEPTH + 1  # those of containers that wait for another cell
    used = [ran(reusing, WHICH).text for _ in range(6)]
    assert len(set(used)) == len(used)


@pytest.mark.usefixtures("_containers_work")
def test_the_input_of_a_cell_that_starts_twice_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read for the container that could not start is the first input of the one that could."""
    to_end = Supervisor.to_end
    failed: list[Supervisor] = []

    def fail(supervisor: Supervisor) -> Outcome:
        if failed:
            return to_end(supervisor)
        failed.append(supervisor)
        feed = supervisor._feed
        assert feed is not None
        feed.connect(select.poll())
        assert feed.take(feed.source)
        supervisor.running.kill()
        supervisor.running.wait()
        raise SetupFailed("refused", step=AttachRoot.__name__, errno=errno.EINVAL)

    monkeypatch.setattr(Supervisor, "to_end", fail)
    reader, writer = os.pipe()
    os.write(writer, b"typed\n")
    os.close(writer)
    with contextlib.closing(Engine(tmp_path / "store")) as engine:
        assert ran(engine, "cat", stdin=reader).text == "typed"
    assert failed
    os.close(reader)


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_without_descriptors_cells_run(reusing: Engine, room: int) -> None:
    """Where this process may open no more, a container mounts its own root."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit_with_room(20 + room), limits[1]))
    try:
        for _ in range(10):
            assert ran(reusing, "echo fine").text == "fine"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_system_with_coarse_times_reuses_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two changes in one tick have the same time, a change could not be seen: no root is used twice."""
    monkeypatch.setattr(reused_layers, "tells_changes", lambda _: False)
    roots = [ran(engine, WHICH).text for _ in range(8)]
    assert len(set(roots)) == len(roots)
    assert mounted(engine) == 0


def test_a_root_that_was_changed_while_it_waited_gets_no_container(tmp_path: Path) -> None:
    """A root that has changed since the last container left it is used for no other one."""
    (tmp_path / "work" / "work").mkdir(parents=True)
    (tmp_path / "diff").mkdir()
    mount = root_mount.RootMount(cast("Launcher", None), "upper", str(tmp_path))
    mount.renew(str(tmp_path))
    (tmp_path / "diff" / "late").touch()
    with pytest.raises(OSError, match="Stale"):
        mount.renew(str(tmp_path))


def test_the_marks_show_each_kind_of_change(tmp_path: Path) -> None:
    """Every change of a directory itself, or of the names in it, changes its mark, also if it is undone."""
    upper, work = tmp_path / "diff", tmp_path / "work" / "work"
    upper.mkdir()
    work.mkdir(parents=True)
    there = root_mount.tells_changes(str(tmp_path))
    require("multigrain timestamps", available=there, why="this file system has coarse times")

    def attribute() -> None:
        os.setxattr(upper, "user.x", b"1")
        os.removexattr(upper, "user.x")

    def name() -> None:
        (upper / "f").touch()
        (upper / "f").unlink()

    def mode() -> None:
        upper.chmod(0o700)
        upper.chmod(0o755)

    def times() -> None:
        facts = upper.stat()
        os.utime(upper, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def copying() -> None:
        (work / "#1").touch()
        (work / "#1").unlink()

    for change in (attribute, name, mode, times, copying, lambda: os.chown(upper, -1, -1)):
        before = root_mount.marks(str(tmp_path))
        assert root_mount.marks(str(tmp_path)) == before
        change()
        assert root_mount.marks(str(tmp_path)) != before, change


def test_coarse_times_are_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose times stand still for a tick is one that cannot tell changes."""
    facts = tmp_path.stat()
    monkeypatch.setattr(os, "stat", lambda *_, **__: facts)
    assert not root_mount.tells_changes(str(tmp_path))
