"""`kill`, `restart`, `port`, and the options of `stop` for jobs, in a real IPython."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.following import own_job
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nbcontainer.containers.jobs.job import Job
    from tests.notebook.conftest import Notebook

TRAP = """%%container busybox --bg --name db --wait-for up
trap 'echo caught' USR1
echo up; while :; do sleep 0.02; done"""


@pytest.fixture
def db(notebook: Notebook, engine: Engine) -> Iterator[Notebook]:
    """A notebook without a container `db`, before and after."""
    yield notebook
    for job in list(engine.jobs.values()):
        job.kill()
        job.join()
    notebook.run("%container rm -f db")


def log(notebook: Notebook, text: str) -> str:
    """The log of the job, once it has a text."""
    deadline = time.monotonic() + DEADLINE
    while text not in (shown := str(notebook.run("logged = %container logs db\nlogged").value)):
        assert time.monotonic() < deadline, shown
    return shown


def test_kill_ends_a_job_at_once_or_sends_a_signal(db: Notebook) -> None:
    """A signal reaches the program, which continues; without one, SIGKILL ends all, and the name is free at once."""
    db.good(TRAP)
    db.good("%container kill -s USR1 db")
    assert log(db, "caught").startswith("up\n")  # the shell may say that the signal ended its `sleep`
    assert str(db.run("%container kill db").value) == "db got SIGKILL"
    assert db.run("ended = %container wait db --json\nended").value.value["db"]["outcome"]["signal"] == 9
    db.good("%container rm db")


DEAF = """%%container busybox --bg --name db --wait-for up
trap '' TERM
echo up; while :; do sleep 0.02; done"""


@pytest.mark.parametrize(
    ("line", "phrase"),
    [
        ("%container kill db", "killed by the verb `kill`"),
        ("%container stop -t 1 db", "killed 1 s after its stop signal"),
        ("%container stop -t 0 db", "killed when it was stopped"),
        ("", "killed from outside the container"),
    ],
)
def test_what_killed_a_job_is_shown(db: Notebook, engine: Engine, line: str, phrase: str) -> None:
    """`jobs`, `wait` and the container's last cell name the verb; the kill of another program is told from it."""
    db.good(DEAF)
    if line:
        db.good(line)
    else:
        handle = own(engine).handle
        assert handle is not None
        os.kill(handle.pid, signal.SIGKILL)
    assert str(db.run("ended = %container wait db\nended").value) == f"db: {phrase}"
    assert [row.state for row in db.run("table = %container jobs\ntable").value] == [phrase]
    last = get(engine, "db").record.last
    assert last is not None
    assert last.outcome.describe() == phrase


def own(engine: Engine) -> Job:
    """The job of this process."""
    job = own_job(engine, "db")
    assert job is not None
    return job


@pytest.mark.parametrize(
    ("verb", "phrase"),
    [("kill", "killed by the verb `kill`"), ("stop -t 0", "killed when it was stopped")],
)
def test_what_killed_a_live_container_is_in_its_history(db: Notebook, engine: Engine, verb: str, phrase: str) -> None:
    """It is named there as that of a job is."""
    db.good("%%container busybox --name db --live\ntrue")
    db.good(f"%container {verb} db")
    last = get(engine, "db").record.last
    assert last is not None
    assert last.outcome.describe() == phrase


def test_a_signal_that_cannot_be_sent_is_one_line(db: Notebook) -> None:
    """An unknown one, one that init does not forward, a container that does not run, and one that does not exist."""
    db.good(TRAP)
    assert db.fails("%container kill -s NOPE db").startswith("UsageError: unknown signal 'NOPE' for --signal")
    assert "init does not forward it; choose one of SIGKILL, SIGINT" in db.fails("%container kill -s SEGV db")
    db.good("%container stop --timeout 0 db")
    assert db.fails("%container kill db").startswith("ContainerNotFound: container 'db' does not run")
    assert db.fails("%container kill missing").startswith("ContainerNotFound: no such container")


def test_a_job_restarts_in_its_container(db: Notebook) -> None:
    """Its program runs again, with its files, options and log; the old processes are gone."""
    mark = marker()
    db.good(f"%%container busybox --bg --name db -e X=5 --wait-for up\necho $X >> /made; echo up; sleep {mark}")
    fds = pidfds(appear(mark, 1))
    db.good("%container restart -t 0 db")
    assert all_dead(fds)
    appear(mark, 1)
    assert db.good("%container exec db cat /made") == "5\n5\n"
    assert log(db, "up") == "up"


def test_a_job_that_ended_restarts(db: Notebook) -> None:
    """Also one that failed; an error at its start is the error of the verb."""
    db.good("%container run --bg --name db busybox sh -c 'echo x >> /made; wc -l < /made'")
    db.good("%container wait db")
    db.good("%container restart db")
    assert log(db, "2") == "2"
    db.good("%container wait db")
    db.good("%%container --name db\nrm /bin/sh; true")
    assert "cannot run sh" in db.fails("%container restart db")


def test_a_job_restarts_with_its_files_and_labels(db: Notebook) -> None:
    """Also with `--rm`: the container is removed when the job ends, and not between its end and its next start."""
    body = "echo x >> /data; wc -l /data; while :; do sleep 0.02; done"
    db.good(f"%%container busybox --bg --rm --label a=b --name db --wait-for /data\n{body}")
    db.good("%container restart -t 0 db")
    assert "2 /data" in log(db, "/data")
    db.good("%container stop -t 0 db")
    assert "no such container: 'db'" in db.fails("%container restart db")
    assert "no such container: 'db'" in db.fails("%container diff db")


def test_an_ended_job_hides_nothing_that_runs_under_its_name(db: Notebook, engine: Engine) -> None:
    """`kill` ends what runs now, here a live shell, and not the job that ended."""
    db.good("%%container busybox --bg --name db\ntrue")
    db.good("%container wait db")
    db.good("%%container --name db --live\nx=5")
    db.good("%container kill db")
    assert engine.live == {}
    assert db.good("%%container --name db --live\necho new$x") == "new\n"
    db.good("%container stop db")


def test_a_later_job_of_another_process_is_the_one_that_is_waited_for(
    db: Notebook, engine: Engine, store_path: Path
) -> None:
    """`wait` and `logs -f` of a notebook whose own job has ended follow the one that runs now elsewhere."""
    db.good("%%container busybox --bg --name db\nexit 3")
    db.good("%container wait db")
    with contextlib.closing(Engine(store_path)) as other:
        script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.02; done"
        job = start(other, Request("", "db", script=script), wait_for="up")
        assert "still runs" in db.fails("%container wait --timeout 0.1 db")
        followed: list[str] = []
        events = nbcontainer.get("db", engine=engine).logs(follow=True)
        reader = threading.Thread(target=lambda: followed.extend(event.text for event in events))
        reader.start()
        assert str(db.run("%container kill -s TERM db").value) == "db got SIGTERM"
        assert db.run("ended = %container wait db --json\nended").value.value["db"]["outcome"]["exit_code"] == 4
        reader.join(DEADLINE)
        assert followed[0] == "up\n"  # the shell may say that the signal ended its `sleep`
        assert job.join(DEADLINE)


def test_the_container_of_a_job_with_rm_is_not_the_last_one(db: Notebook) -> None:
    """`%container diff` and others mean the container before: that of the job is removed at its end."""
    db.good("%%container busybox --name kept\necho > /file")
    db.good("%%container busybox --bg --rm --name db\nexit 3")
    db.good("%container wait db")
    assert "/file" in db.good("print(get_ipython().run_line_magic('container', 'diff'))")
    db.good("%container rm kept")


def test_what_cannot_be_restarted_is_one_line(db: Notebook) -> None:
    """A job without a name, one with values, a container without a job, and a missing one."""
    db["value"] = "x"
    for cell, line in (
        ("job = %container run --bg busybox sleep 1000\nname = job.name", "cannot be restarted"),
        ("%%container busybox --bg --name db --in value\nsleep 1000", "cannot be restarted"),
    ):
        db.good(cell)
        name = db.run("name").value if "name = " in cell else "db"
        assert line in db.fails(f"%container restart {name}")
        db.good(f"%container stop -t 0 {name}")
    db.good("%container rm db")
    db.good("%%container busybox --name db\ntrue")
    assert "has no job of this notebook" in db.fails("%container restart db")
    assert "no such container" in db.fails("%container restart missing")


def test_port_shows_what_is_published(db: Notebook) -> None:
    """A job without ports has none; a port that is not published, and a container that does not run, are errors."""
    db.good(TRAP)
    assert str(db.run("shown = %container port db\nshown").value) == ""
    assert db.fails("%container port db 80").startswith("ContainerError: container 'db' does not publish port 80")
    db.good("%container stop -t 0 db")
    assert "does not run" in db.fails("%container port db")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("exec -d db true", "a command ends with the cell or the terminal that runs it"),
        ("logs --details db", "a log has no attributes"),
        ("stop -s INT db", "the stop signal is the container's; use `kill -s SIGNAL NAME`"),
        ("stop --all", "containers are named"),
        ("stats --format x", "the form of a table cannot be changed; use --json for a program"),
        ("attach db", "a job is never attached to a terminal; use `logs -f NAME`"),
        ("pause db", "containers are not paused"),
        ("start db", "a container runs only while its cell or its job runs"),
    ],
)
def test_what_docker_has_and_this_has_not_is_answered(notebook: Notebook, line: str, answer: str) -> None:
    """The error says why, and what to do instead."""
    assert answer in notebook.fails(f"%container {line}")
