"""A process that joins a running container, while the container attacks it."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.live.joining import run_inside
from nbcontainer.containers.live.live_container import LiveContainer, open_live
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerError, NbcontainerError, SetupFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine

FACTS = (
    "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Cpus_allowed_list)' /proc/self/status; cat /proc/self/limits; "
    "cat /proc/self/cgroup; for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done; umask"
)


class Output:
    """What a cell puts out."""

    def __init__(self) -> None:
        self.text = b""

    def stdout(self, data: bytes) -> None:
        self.text += data

    stderr = stdout

    def shown(self, mime: str, data: bytes) -> None:
        pass

    def cleared(self, wait: bool) -> None:
        pass


class Target:
    """A live container of the attacker's."""

    def __init__(self, live: LiveContainer) -> None:
        self.live = live

    def cell(self, code: str) -> str:
        """Runs a cell of the attacker's in the container's shell."""
        output = Output()
        self.live.run(code, output)
        return output.text.decode()

    def join(self, *command: str, script: str | None = None, **options: object) -> str:
        """Runs a process of the user's in the container."""
        output = Output()
        request = Request(name=self.live.name, command=command, script=script, options=run_options(options))
        run_inside(self.live, request, Streams(output.stdout, output.stderr))
        return output.text.decode()


@pytest.fixture(params=["", "-u 1000"], ids=["root", "user"])
def target(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Target]:
    """A live container of root, and one of another user."""
    if request.param and engine.single_id:
        pytest.skip("a single id has one user")
    options = run_options({"user": "1000"} if request.param else {})
    live = open_live(engine, Request("busybox", "target", options=options), "shell")
    yield Target(live)
    live.stop(0)
    from nbcontainer.containers.lookup import get

    get(engine, "target").remove()


def test_a_joined_process_has_all_of_the_containers_isolation(target: Target) -> None:
    """Ids, capabilities, filter, limits, control groups and all namespaces are those of the container's own shell."""
    own = target.cell(FACTS)
    assert target.join("sh", "-c", FACTS) == own
    assert "Seccomp:\t2" in own


def test_another_user_in_a_running_container_has_less_and_nothing_more(target: Target) -> None:
    """With a user of its own, it has no capability left, and the rest of the container's isolation."""
    target.cell("true")
    if target.live.options.process.user or target.live.engine.single_id:
        with pytest.raises(NbcontainerError, match="cannot become the user"):
            target.join("true", user="7:7")
        return
    own, other = (text.splitlines() for text in (target.cell(FACTS), target.join("sh", "-c", FACTS, user="1000:7")))
    differing = {line.partition(":")[0] for line in set(own) ^ set(other)}
    assert differing == {"Uid", "Gid", "CapPrm", "CapEff"}
    facts = dict(line.partition(":")[::2] for line in other)
    assert facts["Uid"].split() == ["1000"] * 4
    assert facts["Gid"].split() == ["7"] * 4
    assert facts["Groups"].split() == []
    assert {facts[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert target.join("sh", "-c", "ls /proc/$$/fd; true", user="1000:7") == "0\n1\n2\n"


STOPS = "echo up; while :; do kill -STOP -1; done"


def _exec_often(box: nbcontainer.Container, user: str = "") -> None:
    """Run commands until one was stopped early, which is an error: how soon depends on the machine."""
    for _ in range(1000):
        box.exec(["true"], user=user, timeout=0.2, check=False)


def test_no_container_takes_the_place_of_a_script(target: Target) -> None:
    """The file of a script has a name that the container cannot know before."""
    target.cell("for number in $(seq 2000); do : > /dev/nbcontainer/shown/cell.$number; done")
    assert target.join(script="echo ran from $0").startswith("ran from /dev/nbcontainer/shown/cell.")


def test_a_process_that_the_container_stops_holds_up_nothing(engine: Engine) -> None:
    """Stopped before it is its program, it holds up init; the time limit ends the container then, and the call."""
    with nbcontainer.create("busybox", engine=engine).start(script=STOPS) as box:
        while not box.logs():
            pass
        with pytest.raises(ContainerError):
            _exec_often(box)


TRACES = """
import ctypes, os
libc = ctypes.CDLL(None)
print("up", flush=True)
while True:
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) > 2:
            libc.ptrace(0x4206, int(name), None, None)  # PTRACE_SEIZE
"""


def test_a_process_that_the_container_traces_holds_up_nothing(engine: Engine) -> None:
    """Its tracer alone could reap it (ptrace(2)), and does not: init says that it is dead, once it has killed it."""
    with nbcontainer.create("host", engine=engine).start(["/usr/bin/python3", "-c", TRACES]) as box:
        while box.logs() != b"up\n":
            pass
        began = time.monotonic()
        for _ in range(3):
            assert box.exec(["sleep", "1000"], timeout=0.2, check=False).outcome.reason == "timeout"
        assert time.monotonic() - began < 60
        assert box.stop()


def test_a_process_that_is_stopped_before_it_is_another_user_fails(engine: Engine) -> None:
    """Init waits for it for 5 s, kills it, and says so; what runs in the container continues."""
    if engine.single_id:
        pytest.skip("a single id has one user")
    with nbcontainer.create("busybox", engine=engine).start(script=STOPS) as box:
        while not box.logs():
            pass
        with pytest.raises(SetupFailed, match="a process of the container may have stopped it"):
            _exec_often(box, user="1000")
        assert box.stop()


def test_a_joined_process_brings_nothing_along(target: Target) -> None:
    """It has three descriptors and no file of the host's; its directory is in the container (CVE-2024-21626)."""
    target.cell("true")
    assert target.join("sh", "-c", "ls /proc/$$/fd; true") == "0\n1\n2\n"
    assert target.join("pwd") == "/\n"
    for number in range(3, 14):
        for way in (f"/proc/self/fd/{number}", f"/proc/1/fd/{number}", f"/proc/thread-self/fd/{number}"):
            with pytest.raises(NbcontainerError):
                target.join("ls", workdir=way)
    for way in ("/proc/1/cwd", "/proc/self/root", "/proc/self/cwd/.."):
        assert target.join("ls", workdir=way) == target.join("ls", "/")


def test_a_container_that_watches_sees_nothing_of_the_host(target: Target) -> None:
    """While processes join, no descriptor, program or memory of init or of them leads out (CVE-2016-9962)."""
    watch = (
        "( while [ ! -e /tmp/stop ]; do for p in /proc/[0-9]*; do "
        "for f in $p/exe $p/cwd $p/root $p/fd/*; do readlink $f; done; "
        "head -c 1 $p/environ >/dev/null && head -c 1 $p/mem; done; done ) >/tmp/seen 2>/dev/null & "
    )
    target.cell("mkdir -p /tmp; chmod 1777 /tmp; " if target.live.options.process.user == "" else "true")
    target.cell(watch)
    others = [""] if target.live.options.process.user or target.live.engine.single_id else ["", "1000", "nobody"]
    if len(others) > 1:  # a watcher that is the user which the processes become
        target.join("sh", "-c", f"exec >/dev/null 2>&1; {watch}".replace("/tmp/seen", "/tmp/more"), user="1000")
    for number in range(30):
        target.join("true", user=others[number % len(others)])
        target.join(script="true", user=others[number % len(others)])
    seen = set(target.cell("touch /tmp/stop; wait; cat /tmp/seen /tmp/more 2>/dev/null | sort -u").splitlines())
    assert "/bin/busybox" in seen
    out = [one for one in seen if "python" in one or "socket:" in one or "pidfd" in one or str(Path.cwd()) in one]
    assert out == []


def test_the_interpreter_of_the_host_cannot_be_written(target: Target) -> None:
    """A program that is a link to /proc/self/exe, or a script for it, changes no file of the host (CVE-2019-5736)."""
    program = Path(os.path.realpath(sys.executable))
    before = hashlib.sha256(program.read_bytes()).hexdigest()
    write = "for i in $(seq 300); do for p in /proc/[0-9]*; do ( : >>$p/exe ) 2>/dev/null && echo wrote $p; done; done"
    target.cell(
        "mkdir -p /tmp; cd /dev/shm; ln -s /proc/self/exe trap; printf '#!/proc/self/exe\\n' >script; chmod 755 script"
    )
    target.cell(f"( {write} ) >/dev/shm/log &")
    for _ in range(10):
        for name in ("/proc/self/exe", "/dev/shm/trap"):
            with pytest.raises(NbcontainerError):  # the image has no loader for it
                target.join(name, "-c", "pass")
    assert "wrote /proc/1\n" not in target.cell("cat /dev/shm/log")
    assert hashlib.sha256(program.read_bytes()).hexdigest() == before
