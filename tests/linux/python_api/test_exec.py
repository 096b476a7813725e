"""`exec` of a container: more processes in what runs there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import CellFailed, ContainerError, SetupFailed, UsageError
from tests.running import all_dead, appear, marker, pidfds

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
    out: list[bytes] = []
    ran = box.exec(script="echo out; echo err >&2", stdout=out.append)
    assert (b"".join(out), ran.stdout, ran.stderr) == (b"out\n", b"", b"err\n")
    assert box.logs() == b""


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
