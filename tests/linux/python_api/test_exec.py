"""`exec` of a container: more processes in what runs there."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

import nbcontainer
from nbcontainer import CellFailed, ContainerError, SetupFailed, UsageError
from nbcontainer.containers.live import joining
from tests.running import all_dead, appear, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def box(engine: Engine) -> Iterator[nbcontainer.Container]:
    """A container in which a program sleeps."""
    with nbcontainer.create("busybox", engine=engine).start(
        ["sleep", "1000"], env={"OWN": "1"}, workdir="/etc"
    ) as made:
        yield made


def test_a_command_runs_beside_the_program(box: nbcontainer.Container) -> None:
    """It sees the processes, the files, the variables and the directory of the container."""
    ran = box.exec(script="pwd; echo $OWN $MORE; ps | grep -c '[s]leep 1000'; echo kept > /srv/kept", env={"MORE": "2"})
    assert (ran.text, ran.exit_code, ran.container) == ("/etc\n1 2\n1\n", 0, box)
    assert box.exec(["cat", "/srv/kept"]).text == "kept\n"
    assert box.exec(["pwd"], workdir="/srv").text == "/srv\n"
    box.stop()
    assert [str(change) for change in box.diff()] == ["C /srv", "A /srv/kept"]


def test_its_input_and_its_streams_are_its_own(box: nbcontainer.Container) -> None:
    """`input` is read to its end; output and errors are apart, and go to sinks as they come."""
    data = bytes(range(256)) * 4096
    assert box.exec(["cat"], input=data).stdout == data
    assert box.exec(["cat"]).stdout == b""
    gaps = [os.open(os.devnull, os.O_RDONLY) for _ in range(9)]
    for fd in gaps[::2]:  # lower numbers are free, as in a notebook that has run for long
        os.close(fd)
    assert box.exec(["cat"]).stdout == b""
    for fd in gaps[1::2]:
        os.close(fd)
    out: list[bytes] = []
    ran = box.exec(script="echo out; echo err >&2", stdout=out.append)
    assert (b"".join(out), ran.stdout, ran.stderr) == (b"out\n", b"", b"err\n")
    assert box.logs() == b""


def test_it_runs_as_another_user(box: nbcontainer.Container) -> None:
    """`user` is a name or numbers, as at the start: its ids, home, streams and rights are those of that user alone."""
    facts = "id -u; id -g; echo $HOME; echo to >/dev/stdout; echo own >/tmp/own; : >/root/x"
    if cast("Engine", box.workspace).single_id:
        with pytest.raises(SetupFailed, match=r"cannot become the user: .*that id is not mapped"):
            box.exec(["true"], user="1000")
        assert box.exec(script=facts, user="0").text == "0\n0\n/root\nto\n"
        return
    box.exec(["chmod", "1777", "/tmp"])
    ran = box.exec(script=facts, user="1000:7", check=False)
    assert (ran.text, ran.exit_code) == ("1000\n7\n/\nto\n", 1)
    assert b"/root/x: Permission denied" in ran.stderr
    assert box.exec(["stat", "-c", "%u:%g", "/tmp/own"]).text == "1000:7\n"
    assert box.exec(["grep", "^CapEff", "/proc/self/status"], user="nobody").text == "CapEff:\t0000000000000000\n"
    assert box.exec(["id", "-u"]).text == "0\n"
    assert box.exec(["sh", "-c", "exit 3"], user="1000", check=False).exit_code == 3
    assert box.exec(["sleep", "1000"], user="1000", timeout=0.2, check=False).outcome.reason == "timeout"


@pytest.mark.parametrize(
    ("command", "user", "message"),
    [
        ("true", "missing", r"cannot become the user at /etc/passwd: no user missing in the image; use .* number"),
        ("true", ":missing", r"cannot become the user at /etc/passwd: no group missing in the image"),
        (
            "true",
            "9999999999",
            "cannot become the user at 9999999999: .*; the highest id of a user or a group is 4294967294",
        ),
        ("nope", "0:0", "cannot run nope: No such file or directory; the image has no such program"),
    ],
)
def test_a_user_that_cannot_be(box: nbcontainer.Container, command: str, user: str, message: str) -> None:
    """The error is that of a start, and what runs there continues."""
    with pytest.raises(SetupFailed, match=message):
        box.exec([command], user=user)
    assert box.exec(["echo", "works"]).text == "works\n"


@pytest.mark.parametrize("user", ["", "0:0"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nope", "No such file or directory; choose"), ("/etc/passwd", "Not a directory; it is a file in the image")],
)
def test_a_working_directory_that_cannot_be_entered_is_named(
    box: nbcontainer.Container, path: str, reason: str, user: str
) -> None:
    """The error is about the directory, and not about the program, which is there."""
    with pytest.raises(SetupFailed, match=f"cannot enter the working directory {path}: {reason}.* with -w"):
        box.exec(["true"], workdir=path, user=user)


def test_only_root_becomes_another_user(engine: Engine) -> None:
    """A container of another user, or one without the capability, keeps its user; the error says why."""
    if engine.single_id:
        pytest.skip("a single id has one user")
    for options in ({"cap_drop": ["SETUID"]}, {"user": "1000"}):
        with nbcontainer.create("busybox", engine=engine).start(["sleep", "1000"], **options) as box:
            own = options.get("user", "0")
            assert box.exec(["id", "-u"], user=str(own)).text == f"{own}\n"
            with pytest.raises(SetupFailed, match="only root of a container, with the capabilities SETUID and SETGID"):
                box.exec(["true"], user="7:7")


def test_the_user_of_the_image_is_the_containers(engine: Engine, name: str) -> None:
    """A command that names it stays what it is; the hint for another user says how to start as root."""
    if engine.single_id:
        pytest.skip("a single id has one user")
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(["true"])
        box.commit(name, changes=["USER nobody"])
    with nbcontainer.create(name, engine=engine).start(["sleep", "1000"]) as box:
        assert box.exec(["id", "-un"], user="nobody").text == "nobody\n"
        with pytest.raises(SetupFailed, match="start the container with --user root"):
            box.exec(["id"], user="root")


def test_it_fails_as_a_run_does(box: nbcontainer.Container) -> None:
    """A bad exit is `CellFailed`, unless it is not checked; the program that runs there goes on."""
    with pytest.raises(CellFailed, match="exit code 3: bad"):
        box.exec(script="echo bad >&2; exit 3")
    assert box.exec(["sh", "-c", "exit 3"], check=False).exit_code == 3
    assert box.exec(["sleep", "1000"], timeout=0.2, check=False).outcome.reason == "timeout"
    with pytest.raises(SetupFailed, match="cannot run nope"):
        box.exec(["nope"])
    assert box.exec(["echo", "works"]).text == "works\n"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, UsageError, r"exec: missing command; write it as in exec\(\["),
        ({"command": "ls"}, TypeError, "command must be a list of strings"),
        ({"command": ["ls"], "script": "ls", "input": "x"}, UsageError, "both `script` and `input`"),
        ({"command": ["ls"], "input": 3}, TypeError, "input must be bytes or a string"),
        ({"command": ["ls"], "env": "A=1"}, TypeError, "env must be a list of strings"),
        ({"command": ["ls"], "timeout": "soon"}, UsageError, "invalid time limit 'soon'"),
        ({"command": ["ls"], "timeout": 0}, UsageError, "invalid time limit '0'"),
        ({"command": ["ls"], "env": ""}, TypeError, "env must be a list of strings"),
        ({"command": ["ls"], "user": 0}, TypeError, "user must be a string"),
        ({"command": ["ls"], "workdir": 0}, TypeError, "workdir must be a string"),
    ],
)
def test_bad_arguments(
    box: nbcontainer.Container, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    """They are refused before anything runs."""
    with pytest.raises(error, match=message):
        box.exec(**arguments)


def test_nothing_runs_where_nothing_was_started(engine: Engine) -> None:
    """Before `start` and after the end there is nothing to run beside, and the error says what to do."""
    with nbcontainer.create("busybox", engine=engine) as box:
        with pytest.raises(ContainerError, match=r"nothing runs in container .*; start something in it with `start`"):
            box.exec(["true"])
        box.start(["true"]).wait()
        with pytest.raises(ContainerError, match="nothing runs in container"):
            box.exec(["true"])


def test_its_processes_end_with_the_container(box: nbcontainer.Container) -> None:
    """`stop` ends a command that runs beside the program, and its error says so."""
    mark = marker()
    errors: list[CellFailed] = []

    def run() -> None:
        with pytest.raises(CellFailed) as caught:
            box.exec(["sleep", mark])
        errors.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    fds = pidfds(appear(mark, 1))
    box.stop()
    assert all_dead(fds)
    thread.join()
    assert errors[0].outcome.reason in ("container ended", "killed", "signal"), errors


def test_a_job_of_this_notebook_takes_commands(engine: Engine, name: str) -> None:
    """A named container that another object of this process started is joined as well."""
    with nbcontainer.create("busybox", name, engine=engine).start(["sleep", "1000"]):
        assert nbcontainer.get(name, engine=engine).exec(["hostname"]).text == f"{name}\n"


def test_an_error_of_a_callback_is_the_callers(box: nbcontainer.Container) -> None:
    """It is not taken for the end of the container, which runs on."""

    def broken(_: bytes) -> None:
        raise BrokenPipeError("of the caller")

    with pytest.raises(BrokenPipeError, match="of the caller"):
        box.exec(["echo", "x"], stdout=broken)
    assert box.exec(["echo", "next"]).text == "next\n"


def test_a_process_that_an_interrupt_meets_before_it_is_supervised_ends(
    box: nbcontainer.Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it runs on in the container, and the container runs on."""
    mark = marker()

    def interrupted(*_: object, **__: object) -> None:
        appear(mark, 1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(joining, "Supervisor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            box.exec(["sleep", mark])
    assert all_dead(pidfds(processes_with(mark)))
    assert box.exec(["echo", "next"]).text == "next\n"
