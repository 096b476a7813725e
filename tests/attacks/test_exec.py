"""`nbcontainer exec` into a job that attacks it."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live import exec_server
from nbcontainer.containers.live.exec_client import ExecRequest, run_there
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerError, NbcontainerError
from nbcontainer.sandbox import protocol
from tests.attacks.test_joining import FACTS
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job

WAIT = "; echo ready >/dev/shm/ready; exec sleep 1000"


@pytest.fixture
def jobs(engine: Engine) -> Iterator[list[Job]]:
    """Jobs that the test starts."""
    started: list[Job] = []
    yield started
    for job in started:
        job.stop(0)
        job.container.remove()


def attacked(engine: Engine, jobs: list[Job], script: str, **options: Any) -> Job:
    """A job that has prepared its attack."""
    job = start(engine, Request("busybox", "attacker", script=script + WAIT, options=run_options(options)))
    jobs.append(job)
    run(engine, "sh", "-c", "while [ ! -e /dev/shm/ready ]; do sleep 0.01; done")
    return job


def run(engine: Engine, *command: str, terminal: int = 0, workdir: str = "") -> str:
    """What a command of the user's in the container of the attacker puts out."""
    out: list[bytes] = []
    request = ExecRequest("attacker", command, workdir=workdir, terminal=terminal)
    run_there(engine, request, Streams(out.append, out.append))
    return b"".join(out).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("terminal", [0, 3])
def test_a_command_from_a_terminal_has_all_of_the_jobs_isolation(
    engine: Engine, jobs: list[Job], terminal: int
) -> None:
    """Ids, capabilities, filter, limits, groups and namespaces are those of the job (CVE-2016-9962)."""
    attacked(engine, jobs, f"( {FACTS} ) >/dev/shm/facts 2>&1")
    facts = run(engine, "cat", "/dev/shm/facts")
    assert "Seccomp:\t2" in facts
    assert run(engine, "sh", "-c", FACTS, terminal=terminal) == facts


@pytest.mark.parametrize("terminal", [0, 3])
def test_a_command_from_a_terminal_brings_nothing_along(engine: Engine, jobs: list[Job], terminal: int) -> None:
    """It has three descriptors of the container, and no directory of the host (CVE-2024-21626)."""
    attacked(engine, jobs, "true")
    assert run(engine, "sh", "-c", "ls /proc/$$/fd; true", terminal=terminal).split() == ["0", "1", "2"]
    seen = run(engine, "sh", "-c", "readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/cwd /proc/$$/exe", terminal=terminal)
    assert str(os.getcwd()) not in seen
    assert "python" not in seen
    for number in range(3, 14):
        with pytest.raises(NbcontainerError):
            run(engine, "ls", workdir=f"/proc/self/fd/{number}", terminal=terminal)
        with pytest.raises(NbcontainerError):
            run(engine, "ls", workdir=f"/proc/1/fd/{number}", terminal=terminal)


@pytest.mark.parametrize(
    "place",
    [
        "mount -t tmpfs none /dev/pts; ln -s /dev/null /dev/pts/ptmx",
        "mount -t tmpfs none /dev/pts; ln -s /proc/1/fd/10 /dev/pts/ptmx",
        "mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx; (cat </dev/pts/ptmx >/dev/null &)",
        "mount -t tmpfs none /dev/pts; echo >/dev/pts/ptmx",
        "mount --bind /dev/null /dev/pts/ptmx",
        "mount -t tmpfs none /dev/pts",
    ],
)
def test_a_terminal_that_the_container_replaced_is_refused(engine: Engine, jobs: list[Job], place: str) -> None:
    """With SYS_ADMIN a container puts something else in the place of its terminals: `exec -t` is a one-line error."""
    job = attacked(engine, jobs, f"{place} 2>/dev/shm/error", capabilities=("SYS_ADMIN", "CHOWN", "DAC_OVERRIDE"))
    if run(engine, "cat", "/dev/shm/error"):
        pytest.skip("this kernel lets no container mount")
    with pytest.raises(NbcontainerError) as raised:
        run(engine, "tty", terminal=3)
    assert "\n" not in str(raised.value)
    assert run(engine, "echo", "again") == "again\n"
    assert job.running


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"name": "attacker"},
        {"name": "attacker", "command": [], "env": [], "workdir": "", "terminal": 0},
        {"name": "attacker", "command": ["true"], "env": ["x"], "workdir": "x", "user": "", "terminal": 0},
        {"name": "attacker", "command": ["true"], "env": [], "workdir": "", "user": "root:x:y\n", "terminal": 0},
        {"name": "attacker", "command": ["true"], "env": [], "workdir": "", "terminal": 9},
        {"name": "../x", "command": ["true"], "env": [], "workdir": "", "terminal": 0},
        {"name": "attacker", "command": "true", "env": None, "workdir": 1, "terminal": "x"},
    ],
)
def test_a_request_of_another_form_is_refused(engine: Engine, jobs: list[Job], message: dict[str, Any]) -> None:
    """The notebook answers or hangs up, and serves the next request."""
    attacked(engine, jobs, "true")
    assert engine.exec_server is not None
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(20)
        channel.connect(str(engine.store.path / engine.exec_server.path))
        protocol.send(channel, message, [0, 1, 2])
        answer = protocol.receive(channel)
        assert answer is None or "refused" in answer or "failed" in answer
    assert run(engine, "echo", "again") == "again\n"


def test_a_command_that_the_job_stops_holds_up_no_terminal(engine: Engine, jobs: list[Job]) -> None:
    """Stopped before it is its program, it holds up init: the time limit of the command ends the job then, and both."""
    job = attacked(engine, jobs, "( while [ ! -e /dev/shm/go ]; do :; done; while :; do kill -STOP -1; done ) & true")
    began, request = time.monotonic(), ExecRequest("attacker", ("touch", "/dev/shm/go"))
    for _ in range(1000):
        try:
            run_there(engine, request, Streams(_ignored, _ignored), timeout=0.5)
        except ContainerError:  # it has ended
            break
    assert time.monotonic() - began < 2 * DEADLINE
    assert job.join(DEADLINE)


def test_a_terminal_of_another_user_needs_no_capability_to_give_it_away(engine: Engine, jobs: list[Job]) -> None:
    """Without CHOWN the terminal stays root's, and the command has it open nevertheless."""
    if engine.single_id:
        pytest.skip("a single id has one user")
    attacked(engine, jobs, "true", capabilities=("SETUID", "SETGID"))
    out: list[bytes] = []
    request = ExecRequest("attacker", ("sh", "-c", "id -u; stat -c %u $(tty)"), user="1000", terminal=3)
    run_there(engine, request, Streams(out.append, out.append))
    assert b"".join(out).split() == [b"1000", b"0"]


def _ignored(_: bytes) -> None:
    pass


def test_another_user_cannot_run_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports the user of a connection: one of another user is refused, root's is not."""
    if os.getuid() == 0:
        os.seteuid(12345)  # the kernel notes the effective user who makes the pair
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    with ours, theirs:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        assert not exec_server.is_of_this_user(theirs)
        monkeypatch.setattr(os, "geteuid", lambda: 12345 if os.getuid() == 0 else os.getuid())
        assert exec_server.is_of_this_user(theirs)
