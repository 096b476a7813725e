"""Jobs of a notebook, from a terminal: `exec`, `jobs`, `logs`, `wait` and `stop`."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nbcontainer.commands.grammar import parse
from nbcontainer.commands.run import RUN, request_of
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live import exec_client
from nbcontainer.containers.live.exec_client import ExecRequest, RemoteProcess, run_there
from nbcontainer.containers.live.exec_server import ExecServer
from nbcontainer.errors import ContainerError
from nbcontainer.sandbox import protocol
from tests.cli.conftest import PROGRAM
from tests.requirements import require
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from nbcontainer.containers.active import ActiveCell
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job
    from tests.cli.conftest import Program

SCRIPT = "echo secret > /file; export X=job; trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done"


@pytest.fixture
def job(engine: Engine) -> Iterator[Job]:
    """A job `there` of a notebook that is this process."""
    started = start(engine, Request("busybox", "there", script=SCRIPT), wait_for="up")
    yield started
    started.stop(0)
    started.container.remove()


def test_a_command_runs_beside_the_job(program: Program, job: Job) -> None:
    """Its files, output, input, errors, exit code, variables and directory are those of a command in the container."""
    assert program.good("exec", "there", "cat", "/file") == "secret\n"
    assert program.good("exec", "-i", "there", "cat", stdin="typed\n") == "typed\n"
    done = program("exec", "-e", "Y=2", "-w", "/etc", "there", "sh", "-c", "echo $Y; pwd >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "2\n", "/etc\n")
    user = "0" if job.engine.single_id else "1000"
    assert program.good("exec", "-u", user, "there", "id", "-u") == f"{user}\n"
    assert job.running


def test_a_command_that_fails_is_one_line(program: Program, job: Job) -> None:
    """What `exec` itself fails on has the codes of `run`: no program of the container is mistaken for it."""
    assert program("exec", "there", "test", "-e", "/x").returncode == 1
    assert program.fails(127, "exec", "there", "no-such").startswith("cannot run no-such: No such file or directory")
    failed = program.fails(127, "exec", "-w", "/nope", "there", "true")
    assert failed.startswith("cannot enter the working directory /nope: No such file or directory")
    assert program.fails(126, "exec", "there", "/etc").startswith("cannot run /etc: Permission denied")
    assert program.fails(125, "exec", "-u", "nobody-at-all", "there", "true").startswith("cannot become the user at")
    assert program.fails(125, "exec", "missing", "true").startswith("no such container: 'missing'")
    assert program.fails(125, "debug", "missing", "true").startswith("no such container: 'missing'")
    assert program.fails(2, "exec", "there").startswith("exec: missing command; write `nbcontainer exec there")
    assert program.fails(2, "exec", "-it", "there", "sh", stdin="").startswith("-it requires a terminal")
    job.stop(0)
    assert program.fails(125, "exec", "there", "true").startswith(
        "container 'there' does not run; start it in a notebook"
    )


def test_a_cell_that_cannot_be_joined_says_so(program: Program, engine: Engine) -> None:
    """An ordinary cell has no shell or job that others may join."""
    mark = marker()
    cell = program.start("run", "--name", "plain", "busybox", "sleep", mark)
    while "plain" not in running_containers(engine.store):
        assert cell.poll() is None
    assert program.fails(125, "exec", "plain", "true").startswith("container 'plain' runs a cell that cannot be joined")
    cell.kill()
    cell.wait()
    program("rm", "-f", "plain")


def test_the_end_of_the_terminal_ends_the_command(program: Program, job: Job) -> None:
    """If `exec` is killed, its command ends, and the job continues; if the job ends, `exec` ends with one line."""
    mark = marker()
    command = program.start("exec", "there", "sleep", mark, stdout=subprocess.DEVNULL)
    fds = pidfds(set(appear(mark, 2)) - {command.pid})
    command.kill()
    command.wait()
    assert all_dead(fds)
    assert job.running
    mark = marker()
    command = program.start("exec", "there", "sleep", mark, stderr=subprocess.PIPE)
    appear(mark, 2)
    job.stop(0)
    _, errors = command.communicate(timeout=DEADLINE)
    assert command.returncode in (125, 137)
    assert errors.count(b"\n") == 1


def test_an_interrupt_ends_the_command(program: Program, job: Job) -> None:
    """Ctrl-C at `exec` is the command's signal; the job continues."""
    mark = marker()
    command = program.start("exec", "there", "sleep", mark, stderr=subprocess.DEVNULL)
    fds = pidfds(set(appear(mark, 2)) - {command.pid})
    command.send_signal(signal.SIGINT)
    assert all_dead(fds)
    assert command.wait(DEADLINE) == 130
    assert job.running


@pytest.mark.parametrize(("options", "user", "sign"), [((), "0", "#"), (("-u", "1000"), "1000", "$")])
def test_a_shell_on_a_terminal(program: Program, job: Job, options: tuple[str, ...], user: str, sign: str) -> None:
    """`exec -it` has a terminal of the container's own, as large as this one, which belongs to its user."""
    require("pexpect", available=importlib.util.find_spec("pexpect") is not None)
    import pexpect

    if options and job.engine.single_id:
        pytest.skip("a single id has one user")

    name, *words = PROGRAM
    child = pexpect.spawn(
        name,
        [*words, "exec", "-it", *options, "there", "sh"],
        env=program.env,
        encoding="utf-8",
        timeout=DEADLINE,
        dimensions=(33, 99),
    )
    child.expect_exact(f"/ {sign} ")
    mark = marker()
    child.sendline(f"stty size; tty; echo $TERM; cat /file; stat -c %u $(tty); echo ours >/dev/tty; sleep {mark}")
    for text in ("33 99\r\n", "/dev/pts/0\r\n", "xterm-256color\r\n", "secret\r\n", f"{user}\r\n", "ours\r\n"):
        child.expect_exact(text)
    appear(mark, 1)  # an interrupt between two commands is the shell's, which may start the next one all the same
    child.sendintr()
    child.expect_exact(f"/ {sign} ")
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7
    assert job.running


def test_an_untrusted_job_controls_no_terminal(program: Program, engine: Engine) -> None:
    """What its programs write to `exec` on a terminal is inert, with `-t` too; to a pipe it is as it is."""
    require("pexpect", available=importlib.util.find_spec("pexpect") is not None)
    import pexpect

    script = r"printf '\033]0;title\007done' > /tmp/f; echo up; while :; do sleep 0.02; done"
    request = request_of(parse(RUN, ["--untrusted", "--name", "wild", "busybox"]), script=script)
    job = start(engine, request, wait_for="up")
    try:
        for option in ("-e=X=1", "-t"):
            name, *arguments = [*PROGRAM, "exec", option, "wild", "cat", "/tmp/f"]
            child = pexpect.spawn(name, arguments, env=program.env, encoding="utf-8", timeout=DEADLINE)
            child.expect(pexpect.EOF)
            assert child.before == "\ufffd]0;title\ufffddone"
            child.close()
        assert program.good("exec", "wild", "cat", "/tmp/f") == "\x1b]0;title\x07done"
    finally:
        job.stop(0)
        job.container.remove()


def test_jobs_of_notebooks_in_a_terminal(program: Program, job: Job) -> None:
    """`jobs` lists it, `logs` shows and follows its output, `stop` ends it, and `wait` shows how it ended."""
    rows = json.loads(program.good("--json", "jobs"))
    assert [(row["name"], row["running"]) for row in rows] == [("there", True)]
    assert program.good("logs", "there") == "up\n"
    follow = program.start("logs", "-f", "there", stdout=subprocess.PIPE)
    assert follow.stdout is not None
    assert os.read(follow.stdout.fileno(), 100) == b"up\n"
    assert program.good("stop", "there") == "there stopped\n"
    assert follow.communicate(timeout=DEADLINE)[0] == b""
    assert program.good("wait", "there") == "there: exit code 5\n"
    assert program("logs", "--tail", "9", "there").stdout == "up\n"


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("kill", "deaf"), "killed by the verb `kill`"),
        (("stop", "-t", "1", "deaf"), "killed 1 s after its stop signal"),
    ],
)
def test_the_owner_of_a_job_has_the_reason_of_a_kill_from_a_terminal(
    program: Program, engine: Engine, words: tuple[str, ...], phrase: str
) -> None:
    """The notebook and the terminal both show what ended the job, and not that it was killed from outside."""
    script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    started = start(engine, Request("busybox", "deaf", script=script), wait_for="up")
    try:
        program.good(*words)
        assert started.wait(DEADLINE).describe() == phrase
        assert program.good("wait", "deaf") == f"deaf: {phrase}\n"
        assert not [*(engine.store.path / "tmp").glob("*.end")]
    finally:
        started.kill()
        started.join()
        started.container.remove()


def test_a_terminal_starts_no_job(program: Program) -> None:
    """`-d` is refused with the reason and the next step."""
    for flag in ("-d", "--detach", "--bg"):
        line = program.fails(2, "run", flag, "busybox", "true")
        assert line.startswith(f"run: unsupported option '{flag}': in a terminal, no process would own the job")


def _nowhere(_: bytes) -> None:
    pass


def test_a_notebook_that_answers_nothing_holds_up_no_command(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the notebook closes the connection, the command has failed in one line, and the job continues."""
    monkeypatch.setattr(ExecServer, "_serve", lambda _, connection: connection.close())
    with pytest.raises(ContainerError, match="the notebook has closed the connection"):
        run_there(job.engine, ExecRequest("there", ("true",)), Streams(_nowhere, _nowhere))
    assert job.running


def test_a_notebook_that_is_stopped_holds_up_no_command(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is heard of the notebook after the time limit, the command has failed in one line."""
    connections: list[socket.socket] = []
    monkeypatch.setattr(ExecServer, "_serve", lambda _, connection: connections.append(connection))
    monkeypatch.setattr(exec_client, "_ANSWER", 0.1)
    with pytest.raises(ContainerError, match="the notebook does not answer; see whether it is stopped or busy"):
        run_there(job.engine, ExecRequest("there", ("true",)), Streams(_nowhere, _nowhere), timeout=0.1)
    assert job.running
    connections.pop().close()


def test_the_wait_for_the_end_of_a_killed_command_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is heard of the notebook, and the command counts as ended."""
    monkeypatch.setattr(exec_client, "_ANSWER", 0.1)
    ours, theirs = protocol.pair()
    cell = SimpleNamespace(pid=os.getpid())
    with theirs, RemoteProcess(ours, cast("ActiveCell", cell)) as remote:
        remote.kill()
        remote.wait()
        assert remote.refused is not None


def test_a_notebook_without_descriptors_says_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refuses the notebook is the reason in the terminal."""

    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(ExecServer, "_run", full)
    with pytest.raises(ContainerError, match="the notebook cannot start the command: Too many open files; raise the"):
        run_there(job.engine, ExecRequest("there", ("true",)), Streams(_nowhere, _nowhere))
    assert job.running


def test_a_notebook_without_threads_serves_the_next_command(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection for which there was no thread is closed, and the next one is accepted."""
    request, nowhere = ExecRequest("there", ("true",)), Streams(_nowhere, _nowhere)
    start_thread = threading.Thread.start
    refused: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        if thread.name == "nbcontainer-exec" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ContainerError, match="the notebook has closed the connection"):
        run_there(job.engine, request, nowhere)
    assert run_there(job.engine, request, nowhere).ok


def test_a_container_that_ends_just_now_says_so(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at what runs and the request, the container or its notebook may end."""

    def broken(*_: object) -> None:
        job.stop(0)
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr("nbcontainer.containers.live.exec_client.protocol.send", broken)
    with pytest.raises(ContainerError, match="container 'there' has just ended"):
        run_there(job.engine, ExecRequest("there", ("true",)), Streams(_nowhere, _nowhere))
