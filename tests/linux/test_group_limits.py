"""Limits of all of a cell's processes together, by the kernel's control groups, and what the outcome says of them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.warm import warm_pool
from nbcontainer.errors import LimitUnavailable, NbcontainerError, SetupFailed, UsageError
from nbcontainer.sandbox.cgroups import group, hierarchy
from nbcontainer.sandbox.diagnosis import Machine
from tests.requirements import require
from tests.running import all_dead, appear, descendants, init_of, marker, pidfds, processes_of

if TYPE_CHECKING:
    from nbcontainer.api import Result
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome

MIB = 1 << 20

USABLE = hierarchy.look(Machine()).usable(hierarchy.can_make_group)


@pytest.fixture
def enforced() -> None:
    """Skips the test where this user can set no limits; root must be able to in CI."""
    able = set(hierarchy.WANTED) <= set(USABLE)
    if os.geteuid() != 0 and not able:
        pytest.skip("this user has no control groups")
    require("control groups", available=able)


def run(engine: Engine, script: str, **options: object) -> Result:
    return nbcontainer.run("busybox", script=script, engine=engine, check=False, **options)  # type: ignore[arg-type]


def outcome(engine: Engine, script: str, **options: object) -> Outcome:
    return run(engine, script, **options).outcome


def left() -> list[Path]:
    """The groups that are there."""
    return [
        path
        for place in hierarchy.look(Machine()).places()
        for path in place.glob(f"{hierarchy.PREFIX}{os.getpid()}-*")
    ]


@pytest.mark.usefixtures("enforced")
class TestEnforced:
    def test_too_much_memory_is_the_reason(self, engine: Engine) -> None:
        """A process that takes more than all may have is ended, and the outcome has the limit and the peak."""
        ended = outcome(engine, "tail /dev/zero", memory="32m")
        assert (ended.reason, ended.limit) == ("out of memory", 32 * MIB)
        assert 24 * MIB < ended.peak_memory <= 32 * MIB
        assert not ended.ok
        assert ended.describe().startswith("out of memory (limit 32 MiB, peak ")

    def test_many_processes_take_memory_together(self, engine: Engine) -> None:
        """None of them takes too much, and all of them do: what is in /dev/shm counts as well."""
        script = "head -c 20m /dev/zero >/dev/shm/a && head -c 20m /dev/zero >/dev/shm/b"
        assert outcome(engine, script, memory="32m").reason == "out of memory"
        assert outcome(engine, script, memory="96m").ok

    def test_all_of_it_ends_at_the_limit(self, engine: Engine) -> None:
        """Not one process alone, which the others could take the place of: nothing of the cell goes on."""
        result = run(engine, "while :; do tail /dev/zero; echo goes on; sleep 30; done", memory="32m", timeout=60)
        assert (result.outcome.reason, result.text) == ("out of memory", "goes on\n" if result.text else "")
        assert outcome(engine, "tail /dev/zero; sleep 30; exit 0", memory="32m").reason == "out of memory"

    def test_who_stays_below_is_left_alone(self, engine: Engine) -> None:
        """A cell within its limits ends as it would without, and its peak is that of all its processes."""
        ended = outcome(engine, "head -c 20m /dev/zero >/dev/shm/a; exit 3", memory="64m", pids_limit=50, cpus=2)
        assert (ended.reason, ended.exit_code, ended.limit) == ("exited", 3, 0)
        assert 20 * MIB < ended.peak_memory < 64 * MIB

    def test_a_status_is_no_proof(self, engine: Engine) -> None:
        """What a cell says by its exit code or dies of is not taken for a limit that it did not meet."""
        assert outcome(engine, "exit 137", memory="64m").reason == "exited"
        ended = outcome(engine, "kill -KILL $$", memory="64m", pids_limit=9)
        assert (ended.reason, ended.signal) == ("signal", signal.SIGKILL)

    def test_too_many_processes_are_the_reason(self, engine: Engine) -> None:
        """A fork bomb comes to its limit, and everything of it is gone with the cell."""
        before = processes_of(engine.launcher)
        result = run(engine, "bomb() { bomb | bomb & bomb; }; bomb", pids_limit=30)
        assert (result.outcome.reason, result.outcome.limit) == ("too many processes", 30)
        assert "can't fork" in result.stderr.decode()
        engine.background.wait()
        assert len(processes_of(engine.launcher) - before) <= 4  # those that wait for the next cells

    def test_processors_are_shared_out(self, engine: Engine) -> None:
        """A cell that computes gets a fifth of one processor, until its time is over."""
        ended = outcome(engine, "while :; do :; done", cpus=0.2, timeout=2)
        assert ended.reason == "timeout"
        assert 0 < 3 * ended.cpu_time < ended.wall_time

    def test_a_time_limit_comes_first(self, engine: Engine) -> None:
        """Who was ended by the clock was not ended by a limit that it met on the way."""
        script = "i=0; while :; do sleep 60 & done"
        assert outcome(engine, f"({script}); sleep 60", pids_limit=20, timeout=1).reason == "timeout"

    def test_the_cell_starts_inside(self, engine: Engine) -> None:
        """The cell's first process, and so every one, is in the group, with init: it was never outside."""
        script = "cat /sys/fs/cgroup/memory/cgroup.procs || cat /sys/fs/cgroup/cgroup.procs"
        inside = run(engine, script, memory="64m", cpus=1, pids_limit=100).text
        assert {"1", "2"} <= set(inside.split())

    def test_it_cannot_leave(self, engine: Engine) -> None:
        """A cell can neither see the files of its group nor mount a hierarchy to change them."""
        script = (
            "ls /sys/fs/cgroup; for t in cgroup cgroup2; do mount -t $t -o pids none /mnt && echo OUT; "
            "mount -t $t none /mnt && echo OUT; done; unshare -UCm true && echo OUT; true"
        )
        assert "OUT" not in run(engine, script, pids_limit=100).text

    @pytest.mark.parametrize("userns", ["", "host"])
    def test_nothing_is_left(self, engine: Engine, userns: str) -> None:
        """A cell's groups go with it, however it ended."""
        if userns and os.geteuid() != 0:
            pytest.skip("needs root")
        run(engine, "true", memory="64m", pids_limit=100, cpus=1, userns=userns)
        run(engine, "tail /dev/zero", memory="32m", userns=userns)
        run(engine, "sleep 60", memory="64m", timeout=0.2, userns=userns)
        with pytest.raises(NbcontainerError):
            run(engine, "true", memory="64m", workdir="/etc/passwd", userns=userns)
        engine.close()  # with the containers that wait for a cell like the last one
        assert left() == []

    def test_the_next_cell_like_it_waits_inside(self, engine: Engine) -> None:
        """A move between groups takes the kernel some 10 ms: the next cell's container has it behind it."""
        limits = {"memory": "64m", "cpus": 1, "pids_limit": 100}
        run(engine, "true", **limits)
        engine.background.wait()
        waiting = [path for path in left() if (path / "cgroup.procs").read_text().count("\n") == 1]
        assert len({path.name for path in waiting}) == warm_pool.DEPTH
        script = "stat -c %i /sys/fs/cgroup/memory || stat -c %i /sys/fs/cgroup"
        numbers = {path.stat().st_ino for path in waiting}
        assert int(run(engine, script, **limits).text) in numbers
        engine.background.wait()
        assert len({path.name for path in left()}) == warm_pool.DEPTH

    def test_another_cell_is_not_put_there(self, engine: Engine) -> None:
        """One with other limits has those, and one without is in no group, whatever waits."""
        run(engine, "true", memory="64m")
        engine.background.wait()
        assert run(engine, "ls -A /sys/fs/cgroup; grep nbcontainer- /proc/self/cgroup").text == ""
        run(engine, "true", memory="64m")
        engine.background.wait()
        assert outcome(engine, "tail /dev/zero", memory="32m").limit == 32 * MIB
        engine.background.wait()
        assert outcome(engine, "head -c 40m /dev/zero >/dev/shm/a", memory="64m", pids_limit=9).ok

    def test_a_dead_one_is_no_way_out(self, engine: Engine) -> None:
        """Where those that wait were killed, the next cell's container is moved as if there had been none."""
        run(engine, "true", memory="64m")
        engine.background.wait()
        waiting = {int(path.joinpath("cgroup.procs").read_text()) for path in left()}
        watched = pidfds(waiting)
        for pid in waiting:
            os.kill(pid, signal.SIGKILL)
        assert len(watched) == warm_pool.DEPTH
        assert all_dead(watched)
        script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
        assert int(run(engine, script, memory="64m").text) == 64 << 20

    def test_what_cannot_join_at_the_limit_of_processes_leaves_nothing(self, engine: Engine, tmp_path: Path) -> None:
        """A copy and a command of another user fail at once where init can start no process, and init keeps no file."""
        mark = marker()
        (tmp_path / "source").mkdir()
        script = f"for i in 1 2 3; do sleep {mark} & done; wait"
        with nbcontainer.create("busybox", engine=engine).start(script=script, pids_limit=5) as box:
            appear(mark, 3)
            kept = Path(f"/proc/{init_of(mark)}/fd")
            files: list[list[Path]] = []
            for _ in range(3):
                with pytest.raises(SetupFailed, match="too many processes are running"):
                    box.put(tmp_path / "source", "/srv")
                with pytest.raises(SetupFailed, match="too many processes are running"):
                    box.exec(["true"], user="0:0")
                if os.geteuid() == 0:  # init cannot be looked into
                    files.append(sorted(kept.iterdir()))
            assert files == files[:1] * len(files)

    def test_what_a_dead_notebook_left_is_swept(self, engine: Engine) -> None:
        """kill -9 of the notebook leaves its cell's group; the next start takes it away."""
        script = (
            "import sys, nbcontainer\n"
            "from pathlib import Path\n"
            "from nbcontainer.containers.engine import Engine\n"
            "engine = Engine(Path(sys.argv[1]))\n"
            "nbcontainer.run('busybox', script='echo up; sleep 1000', pids_limit=50, engine=engine,\n"
            "                stdout=lambda data: print(data.decode(), end='', flush=True))\n"
        )
        command = [sys.executable, "-c", script, str(engine.store.path)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            places = hierarchy.look(Machine()).places()
            name = f"{hierarchy.PREFIX}{process.pid}-*"
            below = pidfds(descendants(process.pid))
            assert [path for place in places for path in place.glob(name)]
            process.kill()
        assert all_dead(below)
        sweep(engine)
        assert not [path for place in places for path in place.glob(name)]


@pytest.mark.parametrize(
    ("option", "what"),
    [({"memory": "64m"}, "memory"), ({"pids_limit": 9}, "processes"), ({"cpus": 1}, "processors")],
)
def test_a_limit_that_cannot_be_enforced_is_no_cell(
    engine: Engine, tmp_path: Path, option: dict[str, object], what: str
) -> None:
    """Where a limit cannot be set nothing runs, and one line says what to do about it."""
    if set(hierarchy.WANTED) & set(USABLE):
        pytest.skip("this user has control groups")
    with pytest.raises(LimitUnavailable, match=f"this notebook cannot limit a cell's {what} .*; .") as raised:
        run(engine, "echo ran >/volume/file", volumes=[f"{tmp_path}:/volume"], **option)
    assert len(str(raised.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert engine.last is None or not engine.last.anonymous
    assert run(engine, "echo next").text == "next\n"


def test_nothing_is_no_number_of_processors(engine: Engine) -> None:
    """From Python, too, a limit of 0 is refused where it is none, and is no limit of processes as in Docker."""
    with pytest.raises(UsageError, match="invalid number of processors '0' for --cpus"):
        run(engine, "true", cpus=0)
    own = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    found = run(engine, "sed -n 's/^Max processes *//p' /proc/self/limits", pids_limit=0).text.split()[0]
    assert found == ("unlimited" if own == resource.RLIM_INFINITY else str(own))


@pytest.mark.usefixtures("enforced")
def test_a_notebook_that_starts_disturbs_no_limit() -> None:
    """While another one sweeps, this one finds what it can limit: the group by which it tries that is not swept."""
    over = threading.Event()

    def start_again() -> None:
        while not over.is_set():
            group.sweep(Machine())

    other = threading.Thread(target=start_again)
    other.start()
    try:
        found = [hierarchy.look(Machine()).usable(hierarchy.can_make_group) for _ in range(200)]
    finally:
        over.set()
        other.join()
    assert set(found) == {USABLE}


def test_limits_of_each_process(engine: Engine) -> None:
    """`--ulimit` and `--shm-size` need nobody's permission, and take the place of the usual ones."""
    script = (
        "ulimit -n; ulimit -Hn; sed -n 's/^Max processes *//p' /proc/self/limits; "
        "df -k /dev/shm | sed -n 's/^tmpfs *//p'"
    )
    usual = run(engine, script).text.split()
    assert usual[:2] == ["1024", "524288"] or int(usual[1]) < 524288
    assert (usual[2:4], usual[5]) == (["4096", "4096"], "65536")
    found = run(engine, script, ulimits={"nofile": "77:88", "nproc": 200}, shm_size="100m").text.split()
    assert (found[:4], found[5]) == (["77", "88", "200", "200"], "102400")
