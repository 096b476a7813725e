"""Containers whose init is the compiled helper, beside those with an interpreted one."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import nbcontainer
from nbcontainer.commands.doctor.probe_environment import ProbeEnvironment
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import run
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.preview.plans import observe
from nbcontainer.containers.warm.warm_pool import DEPTH
from nbcontainer.errors import NbcontainerError, SetupFailed
from nbcontainer.linux.procfs import read_mounts
from nbcontainer.sandbox.handle import wait_readable
from nbcontainer.sandbox.helper import program
from nbcontainer.sandbox.helper.helper_handle import HelperHandle
from nbcontainer.sandbox.helper.helper_server import HelperServer, start_server
from nbcontainer.sandbox.launcher import connection
from nbcontainer.sandbox.plan import PlanTemplate
from nbcontainer.sandbox.steps.base import Step
from tests import running
from tests.requirements import program_or_skip, require, require_root
from tests.running import Ran

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.spec import Directory, Overlay
    from nbcontainer.sandbox.steps.base import Plan

LOOK = r"""
id; hostname | sed 's/^[0-9a-f]*$/anonymous/'
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups|Uid|Gid|SigBlk|SigIgn|SigCgt)' /proc/self/status
cut -d' ' -f4- /proc/self/mountinfo | sed -e 's#[^ ]*/tmp/[^ ,]*##g' -e 's/master:[0-9]*//'
ulimit -a; umask; pwd
env | grep -v HOSTNAME | sort
ls -la /dev /dev/nbcontainer /proc/1/fd | sed -E 's/[A-Z][a-z]{2} +[0-9]+ [0-9:]{5}//'
sed 's/^127.0.0.1\t[0-9a-f]*$//' /etc/hosts
cat /proc/sys/net/ipv4/ping_group_range /proc/self/oom_score_adj /proc/self/comm
ls /proc/self/fd | wc -l; echo $$ $PPID
cat /proc/interrupts /proc/kcore | wc -c; ls /sys/firmware
"""
"""What a cell can see of what its init did, but for names and numbers that differ from container to container."""

WAITING = """
import sys, time
from pathlib import Path
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import run
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.sandbox.helper.building import BACKGROUND

engine = Engine(Path(sys.argv[1]))

def cell():
    said = []
    run.run(engine, request_of_keywords("busybox", (), "echo cell", {}), Streams(said.append, said.append))
    print(engine.launcher.helper, b"".join(said).decode().strip())

cell()
Path(sys.argv[2]).write_text("go\\n")
while not BACKGROUND.is_over():
    time.sleep(0.01)
cell()
cell()
engine.close()
"""
"""A notebook whose compiler waits until the first cell has ended."""

SHAPES: list[dict[str, object]] = [
    {},
    {"user": "1000:1000"},
    {"read_only": True},
    {"tmpfs": ["/scratch:size=1m,mode=700"]},
    {"cap_add": ["SYS_ADMIN"]},
    {"cap_drop": ["ALL"]},
    {"network": "host"},
    {"network": "loopback"},
    {"workdir": "/new/place"},
    {"hostname": "box"},
    {"ulimits": ["nofile=100:200"]},
    {"oom_score_adj": 500},
    {"security_opt": ["new-privileges"]},
    {"env": ["A=b c", "HOME=/x"]},
]


@pytest.fixture(autouse=True)
def _with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher that a test starts anew has the compiled one, whatever the other tests have."""
    monkeypatch.setenv(program.SWITCH, "1")


@pytest.fixture(scope="module")
def compiled(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """An engine whose containers have a compiled init."""
    yield from _engine(store_path, _containers_work, "1")


@pytest.fixture(scope="module")
def interpreted(store_path: Path, _containers_work: str) -> Iterator[Engine]:
    """An engine whose containers have an interpreted one, on the same store."""
    yield from _engine(store_path, _containers_work, "0")


def _engine(store: Path, problem: str, switch: str) -> Iterator[Engine]:
    require("namespaces", available=not problem, why=problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(program.SWITCH, switch)
        if switch == "1":
            program_or_skip()
        engine = Engine(store)
        assert engine.launcher.helper == (switch == "1"), engine.launcher.connection.without_helper
    yield engine
    engine.close()


@pytest.mark.parametrize("options", SHAPES, ids=lambda options: next(iter(options), "plain"))
def test_a_cell_sees_the_same_of_both(interpreted: Engine, compiled: Engine, options: dict[str, object]) -> None:
    """Rights, mounts, limits, devices and files are those that an interpreted init makes; the second time, too."""
    with_both = [_seen(one, options) for one in (interpreted, compiled, compiled)]
    assert with_both[1] == with_both[0]
    assert with_both[2] == with_both[0]


def run_script(engine: Engine, script: str, **options: Any) -> Ran:
    """Run a cell in busybox with the keywords of `nbcontainer.run`."""
    return _run_in(engine, "busybox", script, **options)


def _run_in(engine: Engine, image: str, script: str, **options: Any) -> Ran:
    out: list[bytes] = []
    err: list[bytes] = []
    request = request_of_keywords(image, (), script, options)
    container, outcome = run.run(engine, request, Streams(out.append, err.append))
    return Ran(container, outcome, b"".join(out), b"".join(err))


def _seen(engine: Engine, options: dict[str, object]) -> str:
    try:
        return run_script(engine, LOOK, **options).text
    except NbcontainerError as error:
        return str(error)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("true", {"user": "unknown"}),
        ("true", {"group_add": ["none"]}),
        ("true", {"workdir": "/etc/passwd"}),
        ("true", {"workdir": "/root", "user": "1000"}),
        ("#!/none\n", {}),
        ("true", {"tmpfs": ["/etc/passwd"]}),
        ("true", {"user": "4294967295"}),
    ],
)
def test_what_fails_fails_with_the_same_words(
    interpreted: Engine, compiled: Engine, script: str, options: dict[str, object]
) -> None:
    """The step that failed, on what, and the advice."""
    texts = []
    for one in (interpreted, compiled, compiled):
        with pytest.raises(NbcontainerError) as caught:
            run_script(one, script, **options)
        texts.append((type(caught.value), str(caught.value)))
    assert texts[1:] == texts[:1] * 2


def test_a_body_that_does_not_fit_fails_with_the_same_words(interpreted: Engine, compiled: Engine) -> None:
    """/dev has 64 MiB; a body of another size is written as it is, before and after."""
    assert run_script(compiled, "echo here # and there").text == "here"
    test_what_fails_fails_with_the_same_words(interpreted, compiled, "true #" + "x" * (65 << 20), {})
    assert run_script(compiled, "echo here").text == "here"


@dataclass(frozen=True)
class Refused(Step):
    """Fails as long as the directory `path` is not there; it is done where the store is the working directory."""

    path: str

    phrase: ClassVar[str] = "apply Refused"
    why: ClassVar[str] = "a test refuses something for a while"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        kernel.close(kernel.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))


def test_what_failed_ahead_is_made_again(compiled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that were refused something before there was a cell fail no cell that comes when they are not."""
    path = Path("tmp") / compiled.store.unique()
    build = PlanTemplate.on

    def on(template: PlanTemplate, root: Overlay | Directory, name: str = "") -> Plan:
        sound = build(template, root, name)
        return dataclasses.replace(sound, prepare=(*sound.prepare, Refused(str(path))))

    there = compiled.store.path / path
    there.mkdir()
    there.chmod(0o755)
    run_script(compiled, "true")  # its image is there afterwards
    monkeypatch.setattr(PlanTemplate, "on", on)
    try:
        assert run_script(compiled, "echo here").text == "here"
        assert _failed_ahead(compiled) == [False] * (DEPTH + 1)
        there.rmdir()
        for refused in range(DEPTH + 1):  # in the place of each that waits comes one that is refused
            assert run_script(compiled, "echo here").text == "here"
            assert _failed_ahead(compiled).count(True) == refused + 1
        with pytest.raises(SetupFailed, match="apply Refused"):  # it, and the one that is made at once instead
            run_script(compiled, "echo here")
        there.mkdir()
        there.chmod(0o755)
        assert [run_script(compiled, "echo here").text for _ in range(2 * DEPTH)] == ["here"] * 2 * DEPTH
        assert True not in _failed_ahead(compiled)
    finally:
        there.rmdir()


def _failed_ahead(engine: Engine) -> list[bool]:
    """Of each container that waits for a cell, when it has done all that it can: whether a step has failed."""
    engine.background.wait()
    engine.launcher.spares.collect_all()
    return [spare.failed_ahead() for _, spare in engine.launcher.spares.ready]


def test_init_is_the_helper(compiled: Engine) -> None:
    """Not an interpreter: while a container waits, it holds less than 100 kB of its own."""
    run_script(compiled, "true")
    compiled.background.wait()
    compiled.launcher.spares.collect_all()
    spares = [spare for _, spare in compiled.launcher.spares.ready]
    assert spares
    assert all(isinstance(spare, HelperHandle) for spare in spares)
    for spare in spares:
        _, resident, shared, *_ = map(int, Path(f"/proc/{spare.pid}/statm").read_text().split())
        assert (resident - shared) * os.sysconf("SC_PAGE_SIZE") < 100_000


def test_warm_containers_have_the_init_of_the_cell_before(compiled: Engine) -> None:
    """After a cell that cannot have the compiled one, all have an interpreted one; after the next, none has."""
    kinds = []
    for explain in (False, True, False):
        running.run_script(compiled, "true", explain=explain)
        compiled.background.wait()
        compiled.launcher.spares.collect_all()
        kinds.append({isinstance(spare, HelperHandle) for _, spare in compiled.launcher.spares.ready})
    assert kinds == [{True}, {False}, {True}]


def test_its_server_has_the_name_of_the_launcher(compiled: Engine) -> None:
    """It is executed by the number of a descriptor, which ps(1) would show."""
    assert compiled.launcher.helper
    server = compiled.launcher.connection.helper
    assert server is not None
    assert Path(f"/proc/{server.pid}/comm").read_text() == "nbcontainer\n"


def test_doctor_shows_which_init_runs_and_where_it_is(
    interpreted: Engine, compiled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of the compiled one, or the reason for the other."""
    shown = []
    for one, switch in ((interpreted, "0"), (compiled, "1")):
        monkeypatch.setenv(program.SWITCH, switch)
        tried = ProbeEnvironment(one.store.path, one.launcher.idmap)
        try:
            tried.make()
            shown.append(tried.init)
        finally:
            tried.close()
    assert shown == ["interpreted (NBCONTAINER_HELPER=0 is set)", f"compiled ({program.program().path})"]


def test_a_build_is_not_waited_for(compiled: Engine, tmp_path: Path) -> None:
    """In a checkout, the first cells have an interpreted init, and those after the build the compiled one."""
    package = Path(nbcontainer.__file__).parent
    shutil.copytree(package, tmp_path / "nbcontainer", ignore=shutil.ignore_patterns("helper-*", "__pycache__"))
    os.mkfifo(tmp_path / "begun")
    compiler = tmp_path / "bin/cc"
    compiler.parent.mkdir()
    compiler.write_text(f'#!/bin/sh\nread go < {tmp_path}/begun\nexec {shutil.which("cc")} "$@"\n')
    compiler.chmod(0o700)
    environment = os.environ | {
        "PATH": f"{compiler.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    environment.pop(program.SWITCH, None)
    command = [sys.executable, "-B", "-c", WAITING, str(compiled.store.path), str(tmp_path / "begun")]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["False cell", "True cell", "True cell"], ran.stderr


def test_a_look_into_a_container_has_an_interpreter(compiled: Engine) -> None:
    """A function takes the place of the program, as for `mounts` and `namespaces`: both engines are asked the same."""
    plan, _, seen = observe(compiled, request_of_keywords("busybox", ("true",), "", {}))
    assert plan.compiled
    assert {"/", "/proc", "/dev"} <= {mount.target for mount in read_mounts(seen["mountinfo"])}


def test_a_changed_image_is_found_as_it_is(compiled: Engine) -> None:
    """What containers before had in their files is expected and compared, and not believed."""
    homes = []
    for home in ("/one", "/two", "/one"):
        run_script(compiled, f"echo 'root:x:0:0::{home}:/bin/sh' > /etc/passwd", name="changed")
        homes.append(run_script(compiled, "echo $HOME", name="changed").text)
    assert homes == ["/one", "/two", "/one"]


def test_a_process_with_few_descriptors_has_it(compiled: Engine) -> None:
    """As a program in a terminal: a number that the server needs is that of the program's file."""
    script = (
        "import sys; from pathlib import Path; from nbcontainer.containers.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1])); print(engine.launcher.helper); engine.close()"
    )
    command = [sys.executable, "-c", script, str(compiled.store.path)]
    environment = os.environ | {program.SWITCH: "1"}
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "True\n"


def test_what_a_cell_leaves_is_ended(compiled: Engine) -> None:
    """Its processes die with it, and the outcome is that of the program."""
    ran = run_script(compiled, "sleep 1000 & echo here; exit 7")
    assert (ran.outcome.exit_code, ran.text) == (7, "here")


def test_a_time_limit_ends_it(compiled: Engine) -> None:
    """The notebook's signals reach the program by init."""
    assert str(run_script(compiled, "sleep 1000", timeout=0.2).outcome.reason) == "timeout"


@pytest.mark.parametrize("options", [{}, {"cap_add": ["ALL"]}], ids=["default", "ALL"])
def test_no_capability_opens_init(compiled: Engine, options: dict[str, object]) -> None:
    """A cell that may trace in its user namespace looks into its init no more than without (ptrace(2))."""
    script = "for f in exe cwd root environ mem maps; do head -c 1 /proc/1/$f >/dev/null 2>&1 && echo $f; done; true"
    assert run_script(compiled, script, **options).text == ""


def test_init_run_as_a_program_has_nothing_to_do(compiled: Engine) -> None:
    """A cell whose program is its init's file has a program without a channel, which ends; the next cell works.

    CVE-2019-5736: by this way a cell of runc changed the file of the host. This file is sealed, and in memory.
    """
    out: list[bytes] = []
    request = request_of_keywords("busybox", ("/proc/self/exe", "-c", "true"), None, {})
    _, outcome = run.run(compiled, request, Streams(out.append, out.append))
    assert (str(outcome.reason), outcome.exit_code) == ("exited", 0)
    assert b"".join(out) in (
        b"",
        b"nbcontainer init: the namespaces cannot be entered\n",
    )  # the filter refuses setns(2)
    assert run_script(compiled, "echo here").text == "here"


def test_the_file_of_init_is_sealed() -> None:
    """Even its owner, who is root in a plain user's containers, can neither write to it nor change its size."""
    fd = program.memory_file(b"content")
    try:
        for change in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.ftruncate(fd, 100)):
            with pytest.raises(PermissionError):
                change()
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0)
        assert os.pread(fd, 100, 0) == b"content"
    finally:
        os.close(fd)


def test_it_ends_with_its_launcher(compiled: Engine) -> None:
    """The kernel ends server and inits when the launcher is killed."""
    run_script(compiled, "true")
    spares = _spares(compiled)
    os.kill(compiled.launcher.pid, signal.SIGKILL)
    _wait_for_all(spares)


def _spares(engine: Engine) -> list[int]:
    """Return descriptors of the inits that wait for a cell; at least one does."""
    engine.background.wait()
    engine.launcher.spares.collect_all()
    found = [os.dup(spare.pidfd) for _, spare in engine.launcher.spares.ready]
    assert found
    return found


def _wait_for_all(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        wait_readable(pidfd)
        os.close(pidfd)


def test_the_launcher_after_a_lost_one_has_it(compiled: Engine) -> None:
    """The first cell of the new one, too: its plan is made when the launcher is known to be lost."""
    compiled.launcher.close()
    assert compiled.launcher.helper
    assert run_script(compiled, "echo here").text == "here"


@pytest.mark.parametrize(("refusals", "helper"), [(2, True), (9, False)])
def test_a_server_that_cannot_start_is_tried_again(
    compiled: Engine, monkeypatch: pytest.MonkeyPatch, refusals: int, helper: bool
) -> None:
    """There may be no free descriptor for a moment. It is not tried at each cell, and cells run meanwhile."""
    tries = []

    def start(*arguments: Any) -> HelperServer:
        tries.append(arguments)
        if len(tries) <= refusals:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return start_server(*arguments)

    monkeypatch.setattr(connection, "start_server", start)
    engine = Engine(compiled.store.path)
    try:
        assert [run_script(engine, "echo here").text for _ in range(4)] == ["here"] * 4
        assert (engine.launcher.helper, len(tries)) == (helper, 3)
    finally:
        engine.close()


def test_a_server_that_was_killed_is_replaced_with_all_that_it_had(compiled: Engine) -> None:
    """No init of the new one begins before its launcher shows the directories of the host again."""
    look = "test -x /bin/sh && echo here"
    assert _run_in(compiled, "host", look).text == "here"
    server = compiled.launcher.connection.helper
    assert server is not None
    spares = _spares(compiled)
    os.kill(server.pid, signal.SIGKILL)
    _wait_for_all(spares)
    assert _run_in(compiled, "host", look).text == "here"


PROCESSORS = """
import sys, time
from pathlib import Path
from nbcontainer.commands.run import request_of_keywords
from nbcontainer.containers import run
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine

engine, said = Engine(Path(sys.argv[1])), []
pids = set()
for _ in range(5):
    request = request_of_keywords("busybox", (), "echo cell", {"network": "host", "remove": True})
    run.run(engine, request, Streams(said.append, said.append))
    pids.add(engine.launcher.pid)
print(engine.launcher.helper, len(pids), b"".join(said).decode().split())
engine.close()
"""
"""Runs cells with the host's /sys, and counts the launchers that it took."""


@pytest.mark.parametrize("number", [192, pytest.param(400, marks=pytest.mark.slow)])
def test_a_machine_may_have_hundreds_of_processors(compiled: Engine, tmp_path: Path, number: int) -> None:
    """What is hidden of each is more than an order of the server takes: it goes to init by itself."""
    require_root()
    require("unshare")
    place = "/sys/devices/system/cpu"
    there = " ".join(f"cpu{one}/thermal_throttle" for one in range(number))
    script = f'mount -t tmpfs none {place} && cd {place} && mkdir -p $(cat {tmp_path}/there) && cd / && exec "$@"'
    (tmp_path / "there").write_text(there)
    words = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", PROCESSORS, str(compiled.store.path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=running.DEADLINE, check=False)
    assert done.stdout == f"True 1 {['cell'] * 5}\n", done.stderr
