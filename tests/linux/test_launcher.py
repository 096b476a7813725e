"""The launcher and its spares, below what people use."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.errors import ContainerLost, LauncherError, SetupFailed
from nbcontainer.linux.pipes import output_pipe
from nbcontainer.linux.process import capability_mask
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import wait_readable
from nbcontainer.sandbox.launcher import connection
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.launcher.connection import Connection
from nbcontainer.sandbox.networking import Network, Networking
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.silent_observer import SilentObserver
from nbcontainer.sandbox.spec import Overlay, Privileges, Program, Spec
from nbcontainer.sandbox.supervisor import Supervisor
from tests.requirements import require_plain_user
from tests.running import all_dead, beginners, descendants, pidfds, processes_of, run_script

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.steps.base import Plan
    from tests.running import Ran

    Cell = Callable[..., Ran]


class _Output(SilentObserver):
    """Keeps what a cell writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def on_output(self, descriptor: int, data: bytes) -> None:
        self.written.append(data)


class Bench:
    """Runs programs by a launcher, with nothing of the containers' room but the upper directory."""

    def __init__(self, engine: Engine, lowers: tuple[str, ...]) -> None:
        self.launcher = engine.launcher
        self.store = engine.store
        self.lowers = tuple(f"{layer}/diff" for layer in lowers)

    def plan(self, *argv: str, **more: Any) -> Plan:
        upper = self.store.new_directory(self.store.path / "tmp" / self.store.unique(), give=False)
        for name in ("diff", "work"):
            self.store.new_directory(upper / name)
        root = Overlay(self.lowers, f"../tmp/{upper.name}/diff", f"../tmp/{upper.name}/work")
        spec = Spec(Program(argv, ("PATH=/bin:/usr/bin",)), **more)
        return PlanTemplate(spec, self.launcher.idmap).on(root)

    def ready(self, todo: Plan) -> ContainerHandle:
        """The spare that has done the beginning of a plan, ordered and waited for."""
        self.launcher.order(todo.prepare)
        while True:
            self.launcher.collect()
            for done, spare in self.launcher.spares.ready:
                if done == todo.prepare:
                    return spare

    def run(self, todo: Plan) -> tuple[bytes, Outcome]:
        read, write = output_pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        log = _Output()
        try:
            with self.launcher.submit(todo, [null, write, write]) as running:
                os.close(write)
                outcome = Supervisor(running, log, [read]).to_end()
                running.wait()
        finally:
            protocol.close([read, null])
        return b"".join(log.written), outcome


@pytest.fixture
def bench(cell: Cell, engine: Engine) -> Bench:
    """A bench on busybox's layers."""
    return Bench(engine, cell("true").container.record.base[::-1])


def test_a_plan_runs(bench: Bench) -> None:
    """A Spec made by hand is all that a container takes."""
    said, outcome = bench.run(bench.plan("echo", "hello"))
    assert (said, outcome.ok) == (b"hello\n", True)


@pytest.mark.parametrize("kept", [(), ("KILL",), ("CHOWN", "SETUID", "SETGID")], ids=str)
def test_any_set_of_capabilities_runs(bench: Bench, kept: tuple[str, ...]) -> None:
    """A cell with fewer capabilities than usual, or none, starts, and what it leaves behind is ended."""
    said, outcome = bench.run(
        bench.plan("sh", "-c", "sleep 1000 & grep CapEff /proc/self/status", privileges=Privileges(kept))
    )
    assert int(said.split()[1], 16) & ~capability_mask((*kept, "KILL")) == 0
    assert outcome.ok


def test_a_spare_is_taken_by_the_plan_that_begins_so(bench: Bench) -> None:
    """What was ordered ahead is what the next container with that beginning is."""
    todo = bench.plan("true")
    spare = bench.ready(todo).pid
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    with bench.launcher.submit(todo, [null] * 3) as running:
        assert running.pid == spare
        running.wait()
    os.close(null)


def test_a_spare_that_was_killed_is_an_error_once(bench: Bench) -> None:
    """Who kills a container while it waits is told of it by the next one, if nobody has looked before, and no more."""
    spec = bench.plan("echo", "hello")
    todo = spec
    spare = bench.ready(todo)
    os.kill(spare.pid, signal.SIGKILL)
    wait_readable(spare.pidfd)
    assert not bench.launcher.has(todo.prepare)
    with pytest.raises(ContainerLost, match="a new container ended before its cell began"):
        bench.run(spec)
    assert bench.run(bench.plan("echo", "hello"))[0] == b"hello\n"


def test_waiting_containers_that_were_killed_are_replaced(cell: Cell, engine: Engine) -> None:
    """What waits for the next cell may be killed, where memory is short for one: the cell does not notice."""
    cell("true")
    engine.background.wait()
    fds = pidfds(processes_of(engine.launcher))
    assert fds
    for fd in fds:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    assert all_dead(fds)
    in_memory = engine.store.in_memory
    assert cell("echo hello").text == "hello"
    assert engine.store.in_memory == in_memory


def test_a_spare_that_is_let_go_is_gone(bench: Bench) -> None:
    """`dismiss` waits until the spare's processes and mounts are no more."""
    todo = bench.plan("true")
    fds = pidfds([bench.ready(todo).pid])
    bench.launcher.dismiss(todo.prepare)
    assert all_dead(fds, 0.1)
    assert not bench.launcher.has(todo.prepare)


def socket_inode(fd: int) -> int:
    """The inode of a socket; 0 for another or a closed descriptor: others in this process come and go."""
    with contextlib.suppress(OSError):
        found = os.fstat(fd)
        return found.st_ino if stat.S_ISSOCK(found.st_mode) else 0
    return 0


def test_an_interrupt_does_not_mix_answers_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt right after an answer was taken loses that one: no later plan gets what another one ordered."""
    receive = protocol.receive
    lost: set[int] = set()

    def interrupted(channel: socket.socket, files: list[int]) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return receive(channel, files)
        receive(channel, files)
        lost.update(inode for fd in files if (inode := socket_inode(fd)))
        monkeypatch.setattr(protocol, "receive", receive)
        raise KeyboardInterrupt

    other = bench.plan("true", networking=Networking(Network.HOST))
    monkeypatch.setattr(protocol, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.launcher.submit(other, [])
    assert lost
    assert lost.isdisjoint(socket_inode(int(fd)) for fd in os.listdir("/proc/self/fd"))  # noqa: PTH208
    said, _ = bench.run(bench.plan("ls", "/sys/class/net"))
    assert said == b"lo\n"


def test_an_interrupted_start_is_no_start(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while the launcher starts leaves nothing behind, and the next use starts it anew."""
    receive = protocol.receive

    def interrupted(*args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return receive(*args)
        receive(*args)
        monkeypatch.setattr(protocol, "receive", receive)
        raise KeyboardInterrupt

    monkeypatch.setattr(protocol, "receive", interrupted)
    before = descendants(os.getpid())
    with pytest.raises(KeyboardInterrupt):
        _ = engine.launcher.pid
    assert set(descendants(os.getpid())) <= set(before)
    assert engine.launcher.pid > 0


def test_many_threads_share_a_launcher(cell: Cell) -> None:
    """Cells of several threads run at once, each with its own output."""
    found: dict[int, str] = {}

    def one(number: int) -> None:
        found[number] = cell(f"echo {number}; hostname >&2").text

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) for number in range(8)}


def test_a_store_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    """A launcher that cannot start says why, in one line, and leaves no process."""
    lost = Launcher(tmp_path / "nowhere", engine.idmap)
    before = descendants(os.getpid())
    with pytest.raises(LauncherError, match="No such file or directory") as raised:
        _ = lost.pid
    assert "\n" not in str(raised.value)
    assert set(descendants(os.getpid())) <= set(before)


def test_a_python_that_is_not_there(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that was taken away under the notebook is an error of ours."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(LauncherError, match="cannot start /nowhere/python: No such file"):
        _ = engine.launcher.pid


@pytest.fixture
def of_a_module_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Python that starts only if LD_LIBRARY_PATH has the directory of its libraries, and nothing else."""
    python, libraries = tmp_path / "python", "/usr/lib/nowhere"
    python.write_text(f'#!/bin/sh\n[ "$LD_LIBRARY_PATH" = {libraries} ] && exec {sys.executable} "$@"\nexit 127\n')
    python.chmod(0o755)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"relative:{libraries}::")
    monkeypatch.setattr(sys, "executable", str(python))
    return libraries


@pytest.mark.parametrize("options", [{}, {"explain": True}], ids=["compiled", "interpreted"])
def test_a_python_that_needs_its_library_path_starts(
    engine: Engine, of_a_module_system: str, options: dict[str, Any]
) -> None:
    """Each process of ours gets it, a copy's guard too; no program of an image does, but for those of the host."""
    assert "LD_LIBRARY_PATH" not in run_script(engine, "env", **options).text
    assert f"LD_LIBRARY_PATH={of_a_module_system}" in run_script(engine, "env", image="host", **options).lines
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(["sh", "-c", "echo > /file; exec sleep 1000"])
        assert "LD_LIBRARY_PATH" not in box.exec(["env"]).text
        assert box.commit("copied").name == "copied"
        box.stop()


def test_nothing_of_the_notebook_is_in_the_launcher(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher's environment is PATH alone, its directory is /, and it holds few descriptors."""
    monkeypatch.setenv("SECRET", "of-the-notebook")
    keep = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(keep, True)
    proc = Path(f"/proc/{engine.launcher.pid}")
    try:
        environment = (proc / "environ").read_bytes()
        cwd, descriptors = (proc / "cwd").readlink(), list((proc / "fd").iterdir())
    except PermissionError:
        pytest.skip("a process that has changed its ids is closed to its own user")
    finally:
        os.close(keep)
    assert [item.partition(b"=")[0] for item in environment.rstrip(b"\0").split(b"\0")] == [b"PATH"]
    assert str(cwd) == "/"
    assert len(descriptors) < 12


FORKED = """
import os, sys
from pathlib import Path
from nbcontainer.containers.engine import Engine
from tests.running import run_script

engine = Engine(Path(sys.argv[1]))
assert run_script(engine, "echo parent").text == "parent"
first = engine.launcher.pid
pid = os.fork()
if pid == 0:
    try:
        assert engine.launcher.pid != first
        engine.launcher.close()
    except BaseException as error:
        print("child:", repr(error), flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert engine.launcher.pid == first
assert run_script(engine, "echo again").text == "again"
engine.close()
print("done")
"""


def test_a_fork_has_a_launcher_of_its_own(cell: Cell, store_path: Path) -> None:
    """A child of os.fork() does not talk to its parent's launcher, and does not end it."""
    cell("true")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, store_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


LIMITED = """
import os, resource, sys
from pathlib import Path
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from tests.running import limit_with_room, run_script

def pipes():
    found = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [path for path in found if os.path.lexists(path) and os.readlink(path).startswith("pipe:")]

engine = Engine(Path(sys.argv[1]))
assert run_script(engine, "echo one").text == "one"
engine.background.wait()
used, piped = len(os.listdir("/proc/self/fd")), len(pipes())
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
failures = 0
for room in range(12):
    engine.files.close()  # a cell that finds all that it needs opens nothing
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit_with_room(room), hard))
    try:
        run_script(engine, "true")
    except (NbcontainerError, OSError) as error:
        failures += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    engine.background.wait()
    assert run_script(engine, "echo next").text == "next", room
    engine.background.wait()
assert len(pipes()) == piped, pipes()
roots = 2 * engine.launcher.spares.roots.mounted
assert len(os.listdir("/proc/self/fd")) <= used + roots + 8  # containers that wait ready, two descriptors each
print("failures", failures > 0)
engine.close()
"""


def test_a_notebook_without_descriptors_left(cell: Cell, store_path: Path) -> None:
    """At the limit of open files a cell fails with an error, leaks none, and runs when there is room again."""
    cell("true")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, store_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr == ""
    assert done.stdout == "failures True\n"


def test_a_user_with_too_many_processes(cell: Cell, engine: Engine) -> None:
    """Where no more processes may be made, the error says what to do, and the notebook goes on."""
    require_plain_user()
    assert cell("echo first").text == "first"
    begun = beginners(engine.launcher)
    before = resource.prlimit(engine.launcher.pid, resource.RLIMIT_NPROC)
    for pid in begun:
        resource.prlimit(pid, resource.RLIMIT_NPROC, (1, before[1]))
    with pytest.raises(SetupFailed, match=r"cannot make namespaces: Resource temporarily unavailable; .*ulimit -u"):
        cell("true", network="host")
    for pid in begun:
        resource.prlimit(pid, resource.RLIMIT_NPROC, before)
    assert cell("echo next").text == "next"


def test_a_launcher_that_ends_at_once_says_why(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is its own last line, also if it has ended before it was told anything; the next one starts."""

    def ended(one: Connection, *arguments: Any) -> subprocess.Popen[bytes]:
        process = spawn(one, *arguments)
        process.wait()
        return process

    spawn = Connection._spawn
    launcher = Launcher(engine.store.path, engine.idmap)
    with contextlib.closing(launcher), monkeypatch.context() as patched:
        patched.setattr(Connection, "_spawn", ended)
        patched.setattr(connection, "_BOOT", "raise SystemExit('a library is missing')")
        with pytest.raises(LauncherError, match="a library is missing"):
            assert launcher.pid == 0
        patched.undo()
        assert launcher.pid
