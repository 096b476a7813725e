"""The standard input of a cell is a file or a terminal of the user's, which the cell attacks."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import run as running
from nbcontainer.containers.cells import cell_files
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live import joined_streams
from nbcontainer.containers.live.exec_client import ExecRequest, run_there
from nbcontainer.containers.live.joining import run_inside
from nbcontainer.containers.options import StandardInput, run_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job

CHANGE = "cat; echo changed >/proc/self/fd/0; chmod 4777 /proc/self/fd/0; true"
"""Reads the input, writes to the file behind it, and makes that file a setuid program."""

KEEP = """exec 3<&0
(until [ -e /dev/shm/first ]; do sleep 0.01; done
read line <&3; echo $line >/dev/shm/new; mv /dev/shm/new /dev/shm/taken) >/dev/null 2>&1 &
read first
echo >/dev/shm/first
echo $first"""
"""Leaves a process behind that takes the second line of the input."""


def run(engine: Engine, script: str, stdin: int | None = None, given: StandardInput | None = None) -> bytes:
    """What a cell writes that has this input."""
    out: list[bytes] = []
    request = Request("busybox", script=script, stdin=given, remove=True)
    running.run(engine, request, Streams(out.append, lambda _: None, stdin=stdin))
    return b"".join(out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the user's."""
    path = tmp_path / "file"
    path.write_text("mine\n")
    path.chmod(0o600)
    return path


def is_unchanged(path: Path) -> bool:
    return path.read_text() == "mine\n" and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def job(engine: Engine) -> Iterator[Job]:
    """A container that other processes can join."""
    job = start(engine, Request("busybox", "attacker", script="exec sleep 1000", options=run_options({})))
    yield job
    job.stop(0)
    job.container.remove()


def run_in(job: Job, way: str, script: str, stdin: int) -> bytes:
    """What a process that joins a job writes: one of the notebook's, or one that a terminal asks for."""
    out: list[bytes] = []
    streams = Streams(out.append, lambda _: None, stdin=stdin)
    if way == "notebook":
        run_inside(job, Request(name="attacker", command=("sh", "-c", script)), streams)
    else:
        run_there(job.engine, ExecRequest("attacker", ("sh", "-c", script)), streams)
    return b"".join(out)


def test_a_file_that_is_a_cells_input_stays_as_it_is(engine: Engine, file: Path) -> None:
    """`-i` with a file of the shell, and `--stdin @FILE`: the cell reads it, and changes neither content nor mode."""
    with file.open("rb") as opened:
        assert run(engine, CHANGE, stdin=opened.fileno()) == b"mine\n"
    assert run(engine, CHANGE, given=StandardInput(path=file)) == b"mine\n"
    assert is_unchanged(file)


@pytest.mark.parametrize("way", ["notebook", "terminal"])
def test_a_file_that_is_the_input_of_a_joined_process_stays_as_it_is(job: Job, file: Path, way: str) -> None:
    """`exec -i` with a file of the shell, by the notebook and by `nbcontainer exec`."""
    with file.open("rb") as opened:
        assert run_in(job, way, CHANGE, opened.fileno()) == b"mine\n"
    assert is_unchanged(file)


def test_the_descriptor_itself_would_change_the_file(
    engine: Engine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the pipe, the cell writes the user's file. Root's containers have other ids: theirs is open to all."""
    monkeypatch.setattr(cell_files, "feed_of", lambda *_: None)
    file.chmod(0o666)
    with file.open("rb") as opened:
        run(engine, CHANGE, stdin=opened.fileno())
    assert file.read_text() == "changed\n"


@pytest.mark.parametrize("way", ["notebook", "terminal"])
@pytest.mark.parametrize("protected", [True, False])
def test_a_terminal_that_is_the_input_is_not_kept(
    job: Job, way: str, protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stays in the container reads nothing of what is typed after the command has ended."""
    if not protected:
        monkeypatch.setattr(joined_streams, "feed_of", lambda _: None)
    with contextlib.ExitStack() as stack:
        typist, terminal = os.openpty()
        for fd in (typist, terminal):
            stack.callback(os.close, fd)
        os.write(typist, b"first\n")
        assert run_in(job, way, KEEP, terminal) == b"first\n"
        os.write(typist, b"secret\n")
        with Path(os.devnull).open("rb") as null:
            waits = "until [ -e /dev/shm/taken ]; do sleep 0.01; done; cat /dev/shm/taken"
            taken = run_in(job, way, waits, null.fileno())
        assert (b"secret" in taken) != protected
