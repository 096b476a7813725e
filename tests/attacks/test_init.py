"""Init, and the host's interpreter that it runs: neither can be looked into, overwritten or signalled."""

from __future__ import annotations

import contextlib
import inspect
import os
import shutil
import signal
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.errors import LauncherError
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.helper.program import SWITCH
from nbcontainer.sandbox.spec import ProcLevel, Userns
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.attacks.attacker import PYTHON, Attacker, attack_script
from tests.attacks.inside import attempt, call, init_number
from tests.attacks.ways import WAYS, Way
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator


REFUSED = ("EACCES", "EPERM", "ENOENT", "EROFS", "EEXIST")
"""What a refused attempt answers; EEXIST for a link at a number that is taken."""


def test_init_is_the_one_that_is_asked_for(attack: Attacker) -> None:
    """Attacks are on the compiled init, or with `NBCONTAINER_HELPER=0` on the interpreted one: never unnoticed."""
    launcher = attack.engine.launcher
    if os.environ.get(SWITCH) != "0" and not launcher.helper:
        require("the compiled init", available=False, why=launcher.connection.without_helper)
    assert launcher.helper == (os.environ.get(SWITCH) != "0"), launcher.connection.without_helper


def look_into(process: str) -> object:
    """What comes of each way to look into a process, "init" or "self"."""
    place = f"/proc/{init_number() if process == 'init' else process}"
    found = {name: attempt(os.readlink, f"{place}/{name}") for name in ("exe", "cwd", "root", "ns/mnt")}
    for name in ("exe", "mem", "environ", "maps", "auxv", "syscall"):
        opened = attempt(os.open, f"{place}/{name}", os.O_RDONLY)
        read = opened if isinstance(opened, str) else attempt(os.read, opened, 1)
        found[f"{name} read"] = read if isinstance(read, str) else "read"
    for name in ("exe", "mem"):
        opened = attempt(os.open, f"{place}/{name}", os.O_WRONLY)
        found[f"{name} written"] = opened if isinstance(opened, str) else "opened"
    streams = [(os.fstat(number).st_dev, os.fstat(number).st_ino) for number in range(3)]
    for number in range(64):
        opened = attempt(os.open, f"{place}/fd/{number}", os.O_RDONLY)
        if not isinstance(opened, str) and number < 3:
            file = os.fstat(opened)
            opened = "its own" if streams[number] == (file.st_dev, file.st_ino) else opened
        found[f"fd {number}"] = opened
        if place == "/proc/1":
            found[f"task fd {number}"] = attempt(os.open, f"{place}/task/1/fd/{number}", os.O_RDONLY)
    found["fd made"] = attempt(os.symlink, "/", f"{place}/fd/3")
    return {name: answer if isinstance(answer, str) else "opened" for name, answer in found.items()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("user", ["", "1000"])
def test_init_cannot_be_looked_into(way: Way, user: str, attack: Attacker) -> None:
    """Its program, memory, descriptors, root and namespaces are closed to the cell; the cell's own are not.

    What opens by the links in /proc/1/fd is the opener's own stream, and no link can be added there.
    """
    if user and attack.engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("this user's containers have root alone")
    found = attack(look_into, "init", user=user, **way.options())
    assert set(found.values()) <= {*REFUSED, "its own"}, found
    assert found["exe"] == found["cwd"] == found["exe read"] == found["exe written"] == "EACCES"
    outer = attack.engine.launcher.proc == ProcLevel.OUTER  # it has no links there, and init has no streams
    assert found["fd 1"] in (("ENOENT", "EACCES") if outer else ("its own", "EACCES"))
    assert found["fd made"] in REFUSED
    own = attack(look_into, "self", user=user, **way.options())
    assert own["root"] == "/"
    assert own["mem written"] == ("EROFS" if attack.engine.launcher.proc == ProcLevel.OUTER else "opened")


def limit_init() -> object:
    """What setting init's limits is answered with. Where that is done, work for init until it has had too much."""
    said = [
        call("prlimit64", high << 32 | 1, number, struct.pack("QQ", 1, 1), None) for high in (0, 1) for number in (0, 7)
    ]
    until = time.monotonic() + (120 if 0 in said else 0)  # it ends with init, after a second of init's processor time
    while time.monotonic() < until:
        os.kill(1, signal.SIGWINCH)
    return said


@pytest.mark.parametrize("way", WAYS)
def test_init_is_not_ended_by_its_limits(way: Way, attack: Attacker) -> None:
    """A cell cannot set init's limits, by which the kernel would kill it, and the cell would seem killed from outside;
    without the filter it can."""
    assert set(attack(limit_init, **way.options())) == {"EPERM"}
    if way.name == "default":
        script = attack_script(limit_init, ())
        assert attack.run(script, without=(InstallSeccomp,)).outcome.reason == Reason.KILLED


def slow_init_down() -> object:
    """What each way to give init less of the processor or the disk is answered with; then, how init is scheduled."""
    idle, lowest, bit = 5, 19, struct.pack("Q", 1 << min(os.sched_getaffinity(0)))
    answers: dict[str, object] = {}
    for high in (0, 1 << 32):
        one = high | 1
        answers |= {
            f"{high} scheduler": call("sched_setscheduler", one, idle, struct.pack("i", 0)),
            f"{high} parameter": call("sched_setparam", one, struct.pack("i", 0)),
            f"{high} affinity": call("sched_setaffinity", one, len(bit), bit),
            f"{high} attributes": call("sched_setattr", one, struct.pack("IIQiIQQQ", 48, idle, 0, 0, 0, 0, 0, 0), 0),
            f"{high} nice": call("setpriority", high, one, lowest),
            f"{high} nice user": call("setpriority", high | 2, os.getuid(), lowest),
            f"{high} disk": call("ioprio_set", high | 1, one, 3 << 13),
            f"{high} disk user": call("ioprio_set", high | 3, os.getuid(), 3 << 13),
        }
    own = [
        call("setpriority", 1, 0, lowest),
        call("ioprio_set", 2, 0, 3 << 13),
        call("sched_setaffinity", 0, len(bit), bit),
        call("sched_setscheduler", 0, idle, struct.pack("i", 0)),
    ]
    nice = 20 - int(call("getpriority", 0, 1))
    return [answers, own, [os.sched_getscheduler(1), nice]]


@pytest.mark.parametrize("way", WAYS)
def test_init_is_scheduled_like_any_process(way: Way, attack: Attacker) -> None:
    """A cell cannot slow its init down, which applies the time limit, an interrupt and the end of the notebook; without
    the filter it can. Its own processes are the cell's to slow down, with all of their group."""
    answers, own, init = attack(slow_init_down, **way.options())
    assert set(answers.values()) == {"EPERM"}, answers
    assert own == [0, 0, 0, 0]
    assert init == [os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0)]
    if way.name == "default":
        answers, _, init = attack(slow_init_down, without=(InstallSeccomp,))
        assert answers["0 scheduler"] == answers["0 affinity"] == answers["0 nice user"] == 0, answers
        assert init == [os.SCHED_IDLE, 19]


def flood_init(others: int) -> object:
    """Sends init signals while it hands the last one on, which takes long with so many others in the process group.

    The pause between two goes from none to longer than init can need.
    """
    for _ in range(others):
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    until, pause = time.monotonic() + 1, 0
    while time.monotonic() < until:
        pause = (pause + 1) % 40
        for _ in range(1200):  # more than an interpreter has room for, one in another
            os.kill(1, signal.SIGWINCH)
            for _ in range(pause):
                os.kill(1, signal.SIGURG)  # which init leaves alone
    return "flooded"


@pytest.mark.parametrize("way", WAYS)
def test_init_is_not_ended_by_a_flood_of_signals(way: Way, attack: Attacker) -> None:
    """A cell cannot send init more signals than it can take, and so have it end, and the cell seem killed."""
    done = attack.run(attack_script(flood_init, (300,)), **way.options())
    assert (done.answer, done.outcome.reason, done.outcome.exit_code) == ("flooded", Reason.EXITED, 0)


@pytest.fixture(scope="module")
def own_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this interpreter that belongs to whoever runs the notebook, as conda's does."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    folder = tmp_path_factory.mktemp("environment")
    folder.chmod(0o755)
    (folder / "bin").mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    copy = folder / "bin" / "python3"
    shutil.copyfile(base, copy)
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="module")
def on_own_python(own_python: Path, store_path: Path, attack: Attacker) -> Iterator[Attacker]:
    """Attacks on a notebook whose interpreter its user may write."""
    engine = Engine(store_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(own_python))
        patch.setenv(SWITCH, "0")  # the compiled init does not run the interpreter
        assert not engine.launcher.helper
        with contextlib.suppress(LauncherError):  # a plain user, or a place without SYS_ADMIN
            assert not engine.launcher_for(Userns.HOST).helper
    yield Attacker(engine, attack.folder)
    engine.close()


def take_the_launchers() -> object:
    """What is beside the host's directory that the launcher holds, of which init has a descriptor."""
    init = os.pidfd_open(1)
    for first in range(64):
        launcher = call("pidfd_getfd", init, first, 0)
        if isinstance(launcher, str):
            continue
        for second in range(64):
            taken = call("pidfd_getfd", launcher, second, 0)
            above = taken if isinstance(taken, str) else attempt(os.open, "..", os.O_RDONLY, dir_fd=taken)
            if isinstance(above, int):
                return os.listdir(above)
    return "nothing"


@pytest.mark.parametrize("way", WAYS)
def test_init_of_ones_own_interpreter_cannot_be_looked_into(way: Way, on_own_python: Attacker) -> None:
    """Nor where the launcher has begun in the containers' user namespace, over which a cell may have every right."""
    found = on_own_python(look_into, "init", **way.options())
    assert set(found.values()) <= {*REFUSED, "its own"}, found
    assert on_own_python(take_the_launchers, **way.options()) == "nothing"


def harm(number: int) -> object:
    """What comes of each way to harm the file of a descriptor."""
    place = f"/proc/self/fd/{number}"
    results = {}
    for name, flags in {"write": os.O_WRONLY, "update": os.O_RDWR, "cut": os.O_WRONLY | os.O_TRUNC}.items():
        opened = attempt(os.open, place, flags)
        results[name] = opened if isinstance(opened, str) else "opened"
    results["truncate"] = attempt(os.truncate, place, 0)
    results["close to all"] = attempt(os.chmod, place, 0)
    results["setuid"] = attempt(os.chmod, place, 0o4777)
    results["setuid by descriptor"] = attempt(os.fchmod, number, 0o4777)
    results["give away"] = attempt(os.chown, place, 1, 1)
    results["turn back time"] = attempt(os.utime, place, (0, 0))
    results["attribute"] = attempt(os.setxattr, place, "user.planted", b"x")
    results["link"] = attempt(os.link, place, "/tmp/interpreter")
    results["directory"] = attempt(os.open, f"{place}/..", os.O_RDONLY)
    return results


def facts(path: Path) -> tuple[object, ...]:
    """All that there is to know of a file."""
    found = path.stat()
    return path.read_bytes(), found.st_mode, found.st_uid, found.st_mtime_ns, found.st_ctime_ns, os.listxattr(path)


@pytest.mark.parametrize("way", WAYS)
def test_the_hosts_interpreter_stays_as_it_is(way: Way, own_python: Path, on_own_python: Attacker) -> None:
    """A cell that runs /proc/self/exe, which is the host's interpreter then, and keeps a descriptor of it past its own
    exec, can change nothing of it: not a byte, nor its mode, owner or times (CVE-2019-5736)."""
    before = facts(own_python)
    keep_and_go_on = (
        "import os, sys\n"
        "kept = os.open('/proc/self/exe', os.O_RDONLY)\n"
        "os.set_inheritable(kept, True)\n"
        "os.execv(sys.argv[1], [sys.argv[1], '-I', '-c', sys.argv[2], str(kept)])\n"
    )
    source = "".join(inspect.getsource(piece) for piece in (attempt, harm))
    then = f"import errno, json, os, sys\nfrom typing import Any\n{source}\nprint(json.dumps(harm(int(sys.argv[1]))))"
    command = ("/proc/self/exe", "-S", "-c", keep_and_go_on, PYTHON, then)
    answer = on_own_python.run(None, command=command, env=("PYTHONHOME=/usr",), **way.options()).answer
    assert facts(own_python) == before, answer
    if on_own_python.engine.single_id:  # where a change of owner is answered, and, as was just seen, not made
        assert answer.pop("give away") is None
    assert not {"opened", None} & set(answer.values()), answer
