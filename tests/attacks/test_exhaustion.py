"""Processes, memory and files without end: a cell comes to its limit, and the machine does not."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.containers import run as running
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.options import run_options
from nbcontainer.errors import SetupFailed
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.defaults import PROCESSES
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.steps.rights.rlimits import SetLimits
from nbcontainer.sandbox.userns import idmap
from tests.attacks.attacker import Attacker, attack_script
from tests.attacks.inside import attempt
from tests.attacks.test_display import Page
from tests.attacks.ways import WAYS, Way
from tests.combinations import combinations
from tests.requirements import require, require_root
from tests.running import DEADLINE, processes_of, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.steps.base import Step

MIB = 1 << 20


@pytest.fixture
def grouped(attack: Attacker) -> Callable[..., Outcome]:
    """How an attack ended in a cell with limits for all of its processes."""
    able = set(hierarchy.WANTED) <= set(hierarchy.look(Machine()).usable(hierarchy.can_make_group))
    if os.geteuid() != 0 and not able:
        pytest.skip("this user has no control groups")
    require("control groups", available=able)

    def run(function: Callable[..., object], way: Way, *arguments: object, **limits: Any) -> Outcome:
        script = attack_script(function, arguments)
        return attack.run(script, cgroup_limits=GroupLimits(**limits), **way.options()).outcome

    return run


def multiply() -> object:
    """Forks for a second, in every process that it has forked, each in its own session. Fails, as who is refused."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if attempt(os.fork) == 0:
            attempt(os.setsid)
    raise SystemExit(1)


@pytest.mark.parametrize("way", WAYS)
def test_a_fork_bomb_comes_to_its_limit(way: Way, grouped: Callable[..., Outcome], attack: Attacker) -> None:
    """`--pids-limit` holds for all that it forks, wherever that hides, and everything of it goes with the cell."""
    before = processes_of(attack.engine.launcher)
    ended = grouped(multiply, way, pids=60)
    assert (ended.reason, ended.limit) == ("too many processes", 60)
    attack.engine.background.wait()
    assert not processes_of(attack.engine.launcher) - before


def crowd(most: int) -> object:
    """How many processes there can be, up to `most`."""
    reader, writer = os.pipe()
    for number in range(most):
        pid = attempt(os.fork)
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)  # until there is nobody who could write
            os._exit(0)
        if isinstance(pid, str):
            return number, pid
    return most, ""


def process_limits() -> object:
    """The limits on the number of this user's processes, soft and hard."""
    return resource.getrlimit(resource.RLIMIT_NPROC)


def with_fewer(step: Step) -> Step:
    """The step that sets limits, with one of 60 processes: thousands would hold up other tests."""
    if not isinstance(step, SetLimits):
        return step
    return SetLimits(tuple((one[0], 60, 60) if one[0] == PROCESSES else one for one in step.limits))


@pytest.mark.parametrize("way", WAYS)
def test_without_a_limit_there_is_one_for_processes(way: Way, attack: Attacker) -> None:
    """Without `--pids-limit` and `--ulimit` a cell has a limit of 4096, which holds; the host's own root has none."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    if os.geteuid() != 0 and most != resource.RLIM_INFINITY and most < 5000:
        pytest.skip("this user may not have so many processes")
    host = way.name == "userns=host"
    limit = attack(process_limits, **way.options())
    assert host or limit == [4096, 4096]
    number, why = attack(crowd, 200, change=with_fewer, **way.options())
    if host:
        assert (number, why) == (200, "")
    else:
        assert number < 60
        assert why == "EAGAIN"


def take_memory(where: str) -> object:
    """Memory without end: its own, that of a file, or that of processes, each a little."""
    block, kept = b"x" * (1 << 20), []
    descriptor = os.memfd_create("full")
    while True:
        if where == "own":
            kept.append(bytearray(block))
        elif where == "processes":
            if os.fork() == 0:
                kept.append(bytearray(block) * 4)
                time.sleep(60)
        else:
            os.write(descriptor, block)


@pytest.mark.parametrize(("way", "where"), combinations(WAYS, ["own", "anonymous file", "processes"]))
def test_a_memory_bomb_comes_to_its_limit(way: Way, where: str, grouped: Callable[..., Outcome]) -> None:
    """`-m` holds for the memory of all its processes and files, and the outcome has the limit."""
    ended = grouped(take_memory, way, where, memory=64 * MIB)
    assert (ended.reason, ended.limit) == ("out of memory", 64 * MIB)


def fill(how: str) -> object:
    """Writes until it is refused: bytes, files, directories, or long links."""
    os.mkdir("/full")
    make: Any = {
        "files": lambda name: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)),
        "directories": os.mkdir,
        "links": lambda name: os.symlink("x" * 4000, name),
        "bytes": lambda name: os.posix_fallocate(os.open(name, os.O_CREAT | os.O_WRONLY), 0, 1 << 20),
    }[how]
    for number in range(100_000):
        refused = attempt(make, f"/full/{number}")
        if isinstance(refused, str):
            return number, refused
    return 100_000, ""


@pytest.mark.parametrize(
    ("way", "how"),
    combinations([way for way in WAYS if way.id != "userns=host"], ["files", "directories", "links", "bytes"]),
)
def test_a_disk_is_not_filled(way: Way, how: str, attack: Attacker) -> None:
    """`--storage` holds for whatever takes room: the cell is refused more, and the store has none of it."""
    done = attack.run(attack_script(fill, (how,)), storage=8 * MIB, **way.options())
    number, refused = done.answer
    assert refused == "ENOSPC"
    assert number < 10_000
    attack.engine.background.wait()
    left = sum(path.lstat().st_blocks * 512 for path in Path(attack.engine.store.path / "tmp").rglob("*"))
    assert left < MIB


def keep_descriptors_on_their_way() -> object:
    """Sends descriptors to sockets that nothing reads from, until they are refused, and waits for the end of input.

    Answers how many were sent.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    files = struct.pack("250i", *[0] * 250)
    pairs, sent, refused = [socket.socketpair()], 0, ""
    while refused != "ETOOMANYREFS" and sent <= most + 250:
        pairs[-1][0].setblocking(False)
        refused = str(attempt(pairs[-1][0].sendmsg, [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)]))
        if refused == "EAGAIN":
            pairs.append(socket.socketpair())
        sent += 250 if refused == "1" else 0
    os.write(1, b"ready\n")
    os.read(0, 1)
    return sent


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    """Attacks on a store of their own, whose containers have other user ids of the host than those of other tests: the
    kernel counts by them."""
    require_root()  # a plain user's notebook has that user's limit, as SECURITY.md says
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idmap, "ROOT_BASE", idmap.ROOT_BASE - (1 << 24))
        engine = Engine(tmp_path_factory.mktemp("apart") / "store")
    yield Attacker(engine, tmp_path_factory.mktemp("images"))
    engine.close()


SPARES: list[dict[str, Any]] = [{}, {"explain": True}]
"""Options of runs with the compiled init, where there is one, and with the interpreted one."""


@contextlib.contextmanager
def soft_limits(launcher: Launcher, soft: int) -> Iterator[None]:
    """The launcher and the helper's server may have as many descriptors open, and on their way, as before the fix."""
    helper = launcher.connection.helper
    pids = (launcher.pid,) if helper is None else (launcher.pid, helper.pid)
    before = [(pid, resource.prlimit(pid, resource.RLIMIT_NOFILE)) for pid in pids]
    for pid, (_, hard) in before:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        for pid, limits in before:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("way", WAYS)
def test_descriptors_on_their_way_hold_up_no_other_container(way: Way, apart: Attacker) -> None:
    """The kernel counts the descriptors in sockets that were not received, of all containers together, and refuses to
    send more than the limit on open files of the one who sends. A container's limit is below that of the launcher."""
    assert run_script(apart.engine, "echo mine").text == "mine"  # from now on, the image is there
    launcher = apart.engine.launcher
    pid = launcher.pid
    with apart.meanwhile(keep_descriptors_on_their_way, **way.options()) as sent:
        for options in SPARES:
            assert run_script(apart.engine, "echo mine", **options).text == "mine"
    assert launcher.pid == pid
    assert sent[0] > 1024 or way.name == "userns=host"


@pytest.mark.parametrize("options", SPARES, ids=["compiled", "interpreted"])
def test_an_answer_that_is_refused_is_an_error(options: dict[str, Any], apart: Attacker) -> None:
    """Without that limit, which another program of the user could exceed, a cell fails with an error: the notebook does
    not wait for ever, and the other containers go on."""
    assert run_script(apart.engine, "echo mine").text == "mine"  # from now on, the image is there
    launcher = apart.engine.launcher
    pid = launcher.pid
    with (
        apart.meanwhile(keep_descriptors_on_their_way) as sent,
        soft_limits(launcher, 1024),
        pytest.raises(SetupFailed, match=r"cannot make namespaces: Too many references.*; end the container"),
    ):
        run_script(apart.engine, "echo mine", shm_size=5 << 20, **options)  # no container waits that has this size
    assert launcher.pid == pid
    assert sent[0] > 1024
    assert run_script(apart.engine, "echo mine", shm_size=5 << 20, **options).text == "mine"


TRIED = """
touch /dev/nbcontainer/shown/first
while grep -q '^S.*Pnd:.*[1-9a-f].......$' /proc/1/status; do :; done  # until SIGIO (bit 28) is taken
echo tried
echo '<b>mine</b>' | display -t text/html
"""


@pytest.mark.parametrize("options", SPARES, ids=["compiled", "interpreted"])
def test_what_a_cell_displays_waits_for_descriptors_on_their_way(options: dict[str, Any], apart: Attacker) -> None:
    """Init cannot hand out the directory of `display` then, tries again every second, and loses nothing."""
    page, tried = Page(), threading.Event()

    def on_output(data: bytes) -> None:
        page.stdout(data)
        if b"tried" in page.out:
            tried.set()

    streams = Streams(on_output, page.stderr, display=page)
    if options:
        streams.on_explained = lambda _: None
    request = Request("busybox", script=TRIED, remove=True, options=run_options({"timeout": 60.0, **options}))
    thread = threading.Thread(target=running.run, args=(apart.engine, request, streams))
    with apart.meanwhile(keep_descriptors_on_their_way) as sent:
        thread.start()
        assert tried.wait(DEADLINE)
        assert page.data == []
    thread.join(DEADLINE)
    assert page.data == [("text/html", b"<b>mine</b>\n")]
    assert sent[0] > 1024


def test_a_command_in_a_job_waits_for_no_descriptors_on_their_way(apart: Attacker) -> None:
    """The first signal in a job is for the command, too: a directory that cannot be sent does not hold it up."""
    with nbcontainer.create("busybox", engine=apart.engine) as box:
        box.start(["sleep", "1000"])
        with apart.meanwhile(keep_descriptors_on_their_way) as sent:
            assert box.exec(["echo", "done"], timeout=DEADLINE).text == "done\n"
        box.stop()
    assert sent[0] > 1024
