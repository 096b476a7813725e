"""`--bg`: jobs, their output, and their ends, in a real IPython."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer.containers.engine import Engine, default_engine
from nbcontainer.containers.jobs.job import Job
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.errors import ContainerBusy, ContainerError
from tests.running import DEADLINE, all_dead, appear, marker, pidfds, processes_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.notebook.conftest import Notebook

    Interrupted = Callable[[type, str], None]

JOB = "%%container busybox --bg --name db\n"


@pytest.fixture
def db(notebook: Notebook, engine: Engine) -> Iterator[Notebook]:
    """A notebook without a container `db`, before and after."""
    yield notebook
    for job in list(engine.jobs.values()):
        job.kill()
        job.join()
    notebook.run("%container rm -f db")


def output(notebook: Notebook, text: str, name: str = "db") -> str:
    """The log of a job, once it has a text."""
    deadline = time.monotonic() + DEADLINE
    while text not in (shown := str(notebook.run(f"logged = %container logs {name}\nlogged").value)):
        assert time.monotonic() < deadline, shown
    return shown


@pytest.mark.parametrize("flag", ["--bg", "-d", "--detach"])
def test_a_job_continues_while_other_cells_run(db: Notebook, flag: str) -> None:
    """The cell returns at once with one line; the job runs until `stop`, which saves what it wrote."""
    mark = marker()
    shown = db.good(f"%%container busybox {flag} --name db\necho up; echo bad >&2; echo made > /made; sleep {mark}")
    assert shown == "job db: running; see `%container logs db`, end it with `%container stop db`\n"
    fds = pidfds(appear(mark, 1))
    assert db.good("%%container busybox\necho other") == "other\n"
    assert sorted(output(db, "bad").split()) == ["bad", "up"]
    db.good("%container stop db")
    assert all_dead(fds)
    assert db.good("%%container --name db\ncat /made") == "made\n"


def test_jobs_lists_each_job_with_its_state(db: Notebook) -> None:
    """A running job, one that ended and one that was stopped have their states; `ps` lists the running one too."""
    db.good(JOB + "sleep 1000")
    db.good("%container run --bg --name db2 busybox sh -c 'exit 3'")
    db.good("%container wait db2")
    rows = {row.name: row for row in db.run("table = %container jobs\ntable").value}
    assert (rows["db"].state, rows["db2"].state) == ("running", "exit code 3")
    assert [row.state for row in db.run("table = %container ps\ntable").value if row.name == "db"] == ["running"]
    db.good("%container stop db")
    assert {row.name: row.state for row in db.run("table = %container jobs\ntable").value}["db"] == "ended by SIGTERM"
    db.good("%container rm db2")
    assert [row.name for row in db.run("table = %container jobs\ntable").value] == ["db"]


def test_wait_returns_how_jobs_ended(db: Notebook) -> None:
    """`wait` blocks until the job has ended; with `--timeout` it fails in one line and the job continues."""
    db.good(JOB + "while [ ! -e /dev/shm/go ]; do sleep 0.01; done; exit 7")
    assert db.fails("%container wait db --timeout 0.05").startswith("ContainerError: container 'db' still runs")
    db.good("%container exec --no-raise-error db touch /dev/shm/go")  # the end of the job may end it too
    assert str(db.run("ended = %container wait db\nended").value) == "db: exit code 7"
    assert db.run("ended = %container wait db --json\nended").value.value["db"]["outcome"]["exit_code"] == 7


def test_a_command_ends_with_its_container(db: Notebook) -> None:
    """A command that runs when its job ends is killed with it, and the error says so."""
    db.good(JOB + "while [ ! -e /dev/shm/go ]; do sleep 0.01; done")
    assert "ended with its container" in db.fails("%container exec db sh -c 'touch /dev/shm/go; sleep 1000'")


def test_a_job_without_a_name_gets_one(db: Notebook) -> None:
    """Its name is that of the other verbs; it ends by itself or by `stop`."""
    db.good("job = %container run --bg busybox sh -c 'echo up; sleep 1000'")
    name = db["job"].name
    assert output(db, "up", name) == "up"
    db.good(f"%container stop {name}")
    assert db["job"].wait().outcome.signal == signal.SIGTERM
    assert output(db, "up", name) == "up"


def test_a_job_without_a_name_can_be_stopped_twice_and_removed(db: Notebook) -> None:
    """What it was called is known until it is removed, though it left no files."""
    db.good("job = %container run --bg busybox sleep 1000")
    name = db["job"].name
    assert str(db.run(f"%container stop {name}").value) == f"{name} stopped"
    db.run(f"%container wait {name}")
    assert str(db.run(f"%container stop {name}").value) == f"{name} was not running"
    assert str(db.run(f"%container rm {name}").value) == f"removed {name}"
    assert "no such container" in db.fails(f"%container stop {name}")


@pytest.mark.parametrize("script", ["sleep 1000", "touch /made; sleep 1000"])
def test_a_job_without_a_name_is_removed_by_force(db: Notebook, script: str) -> None:
    """Without `-f`, what runs stays; with it, the job ends, and nothing of it is left."""
    db.good(f"job = %container run --bg busybox sh -c '{script}'")
    name, job = db["job"].name, default_engine().jobs[db["job"].name]
    assert f"container '{name}' is running" in db.fails(f"%container rm {name}")
    assert str(db.run(f"%container rm -f {name}").value) == f"removed {name}"
    assert job.join(0)
    assert "no such container" in db.fails(f"%container rm {name}")


@pytest.mark.parametrize("name", ["", "--name db "])
def test_the_value_of_run_bg_is_the_container(db: Notebook, name: str) -> None:
    """It has what a container of the Python API has, while the job runs and afterwards."""
    db.good(f"job = %container run --bg {name}--wait-for up busybox sh -c 'echo made > /made; echo up; sleep 1000'")
    job = db["job"]
    assert isinstance(job, nbcontainer.Container)
    assert next(job.logs(follow=True)).text == "up\n"
    assert job.exec(["cat", "/made"]).text == job.get("/made").decode() == "made\n"
    job.put(b"put", "/put")
    assert [str(change) for change in job.diff()] == ["A /made", "A /put"]
    for use in (job.run, job.start):
        with pytest.raises(ContainerBusy, match="a job is running in container"):
            use(["true"])
    with pytest.raises(ContainerError, match=r"still runs after 0\.01 s"):
        job.wait(0.01)
    assert job.stop()
    assert not job.stop()
    assert job.wait().outcome.signal == signal.SIGTERM
    assert job.logs() == b"up\n"
    assert job.run(["cat", "/put"]).text == "put"
    job.remove()


def test_the_value_is_that_of_the_restarted_job_too(db: Notebook) -> None:
    """After `restart`, the container's methods are about the job that runs now."""
    db.good("job = %container run --bg --name db --wait-for up busybox sh -c 'trap \"\" TERM; echo up; exec sleep 999'")
    db.good("%container restart -t 0 db")
    assert db["job"].exec(["true"]).exit_code == 0
    assert db["job"].stop(0)
    assert db["job"].wait().outcome.describe() == "killed when it was stopped"


def test_logs_follow_until_the_end(db: Notebook, tmp_path: Path) -> None:
    """`logs -f` shows output as it comes and returns when the job ends; streams stay apart."""
    job = JOB.replace("\n", f" -v {tmp_path}:/shared\n")
    db.good(job + "echo one; while [ ! -e /shared/go ]; do sleep 0.01; done; echo two; echo bad >&2")
    threading.Timer(0.2, (tmp_path / "go").touch).start()
    ran = db.run("%container logs -f db")
    assert (ran.stdout, ran.stderr, ran.error) == ("one\ntwo\n", "bad\n", None)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    """Has a method interrupt this process when it is called, as the stop button does while it waits."""

    def arrange(owner: type, name: str) -> None:
        method = getattr(owner, name)

        def interrupt(*arguments: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return method(*arguments, **options)

        monkeypatch.setattr(owner, name, interrupt)

    return arrange


CONTINUES = "job 'db' continues; end it with `%container stop db`"


def test_an_interrupt_ends_the_following_and_not_the_job(db: Notebook, interrupted: Interrupted) -> None:
    """Ctrl-C ends `logs -f` and `wait` with one line; the job continues."""
    mark = marker()
    db.good(JOB + f"echo up; sleep {mark}")
    appear(mark, 1)
    interrupted(LogReader, "records")
    assert db.fails("%container logs -f db") == "CellFailed: interrupted"
    interrupted(Job, "join")
    assert db.fails("%container wait db") == f"CellFailed: interrupted while waiting for the end: {CONTINUES}"
    assert processes_with(mark)


@pytest.mark.parametrize(
    ("word", "what", "cell"),
    [
        ("never", "'never'", "%container run --bg --name db --wait-for never busybox sleep {}"),
        ("1", "port 1", "%%container busybox --bg --name db --wait-for 1\nsleep {}"),
    ],
)
def test_an_interrupt_ends_the_wait_for_a_job_and_not_the_job(
    db: Notebook, interrupted: Interrupted, word: str, what: str, cell: str
) -> None:
    """The error says in one line that the job continues; it is listed, and the last container."""
    mark = marker()
    interrupted(*((Job, "join") if word == "1" else (LogReader, "follow")))
    assert db.fails(cell.format(mark)) == f"CellFailed: interrupted while waiting for {what}: {CONTINUES}"
    appear(mark, 1)
    assert [(row.name, row.state) for row in db.run("table = %container jobs\ntable").value] == [("db", "running")]
    last = default_engine().last
    assert last is not None
    assert last.name == "db"


def test_an_interrupt_before_a_job_runs_leaves_nothing(db: Notebook, interrupted: Interrupted) -> None:
    """It is one line; no job and no container is left."""
    interrupted(Job, "begin")
    assert db.fails("%container run --bg --name db busybox sleep 1000") == "CellFailed: interrupted"
    assert [*db.run("table = %container jobs\ntable").value] == []
    assert db.fails("%container inspect db").startswith("ContainerNotFound: no such container or image: 'db'")


@pytest.mark.parametrize("line", ["%container stop -t 60 db", "%container restart -t 60 db", "%container rm -f db"])
def test_an_interrupted_verb_is_one_line(db: Notebook, interrupted: Interrupted, line: str) -> None:
    """Whatever a verb waits for, its interrupt shows nothing of the program's internals."""
    db.good(JOB + "trap '' TERM; while :; do sleep 0.02; done")
    interrupted(Job, "join")
    assert db.fails(line) == "CellFailed: interrupted"


def test_a_job_that_cannot_start_is_the_cells_error(db: Notebook) -> None:
    """A missing program is one line with a hint at once, and no container and no job is left."""
    assert db.fails("%container run --bg --name db busybox no-such").startswith(
        "SetupFailed: cannot run no-such: No such file"
    )
    assert [row.name for row in db.run("table = %container ps\ntable").value if row.name == "db"] == []
    assert [*db.run("table = %container jobs\ntable").value] == []


def test_a_name_in_use_is_refused(db: Notebook) -> None:
    """A second job of the same name, and `--live` there, are one line with the next step; the first one continues."""
    db.good(JOB + "sleep 1000")
    assert db.fails(JOB + "true").startswith("ContainerBusy: container 'db' is running")
    assert "stop it first" in db.fails("%%container --name db --live\ntrue")
    assert db.fails("%container rm db").startswith("ContainerBusy:")
    assert "running" in str(db.run("table = %container jobs\ntable").value)


@pytest.mark.parametrize("option", ["--out x", "--err x", "--get x", "--live", "--explain"])
def test_options_that_need_the_end_of_a_cell_are_refused(db: Notebook, option: str) -> None:
    """They are one line that says why, and nothing starts."""
    assert "cannot be used with --bg" in db.fails(f"%%container busybox --bg --name db {option}\ntrue")
    assert [row.name for row in db.run("table = %container ps\ntable").value if row.name == "db"] == []


def test_options_of_a_run_apply_to_a_job(db: Notebook) -> None:
    """Variables, values, limits of time, `--rm`, an idle input and a terminal work as in a cell."""
    db["greeting"] = "hello"
    db.good(
        "%%container busybox --bg --name db --in greeting -e X=5 --timeout 8\ncat /in/greeting.txt; echo $X; sleep 99"
    )
    assert "time limit" in str(db.run("ended = %container wait db\nended").value)
    assert output(db, "5") == "hello5"
    db.good("%container run -dit --rm --name db2 busybox sh -c 'test -t 0 && echo terminal; cat'")
    assert "terminal" in output(db, "terminal", "db2")
    db.good("%container stop db2")
    assert "no such container or image: 'db2'" in db.fails("%container inspect db2")


def test_the_end_of_a_job_without_a_container_is_known(db: Notebook) -> None:
    """`wait` shows it after `--rm` has removed the container; of several names, a wrong one is refused at once."""
    db.good("%%container busybox --bg --rm --name db2\nexit 4")
    for _ in range(2):
        assert str(db.run("ended = %container wait db2\nended").value) == "db2: exit code 4"
    db.good("%%container busybox --bg --name db\nexec sleep 1000")
    assert "no such container: 'nosuch'" in db.fails("%container wait db2 db nosuch")
    late = db.fails("%container wait --timeout 0.01 db2 db")
    assert "container 'db' still runs after 0.01 s; db2: exit code 4" in late


def test_a_process_that_joins_has_the_name_of_the_container(db: Notebook) -> None:
    """HOSTNAME is what hostname(1) prints, in a container without a name of the user's too."""
    started = db.good("%%container busybox --bg\nexec sleep 1000")
    name = started.removeprefix("job ").partition(":")[0]
    host, variable = db.good(f"%container exec {name} sh -c 'hostname; echo $HOSTNAME'").split()
    assert (host, variable) == (name, name)


def test_a_cell_and_exec_join_a_job(db: Notebook) -> None:
    """`%container exec` and `%%container --name` run beside the job's program, in its files and its namespaces."""
    db.good(JOB + "echo 5 > /tmp5; exec sleep 1000")
    db.good("%container exec db sh -c 'until grep -q sleep /proc/2/comm; do :; done'")
    assert db.good("%container exec db cat /tmp5") == "5\n"
    assert db.good("%%container --name db\ncat /proc/2/cmdline | tr '\\0' ' '; echo; exit 0") == "sleep 1000 \n"
    assert db.fails("%container exec db sh -c 'exit 4'") == "CellFailed: exit code 4"
    user = "0" if default_engine().single_id else "1000"
    assert db.good(f"%container exec -u {user} db id -u") == f"{user}\n"
    assert db.good(f"%%container --name db -u {user}\nid -u") == f"{user}\n"
    assert "no user nobody-at-all in the image" in db.fails("%container exec -u nobody-at-all db true")
    assert "cannot run no-such" in db.fails("%container exec db no-such")


def test_the_log_of_an_earlier_notebook_can_be_read(db: Notebook, store_path: Path) -> None:
    """Another process of the user lists the job, reads and follows its log, waits for it, and stops it."""
    db.good(JOB + "echo up; sleep 1000")
    output(db, "up")
    from nbcontainer.containers.active import stop_running
    from nbcontainer.containers.jobs import following

    with contextlib.closing(Engine(store_path)) as other:
        assert [facts.name for facts in following.list_jobs(other) if facts.end is None] == ["db"]
        with following.open_log(other, "db") as log:
            follow = log.follow(following.runs(other, "db"))
            assert next(follow).data == b"up\n"
            assert stop_running(other.store, "db")
            assert [*follow] == []
        assert following.wait(other, "db").describe() == "ended by SIGTERM"


def test_the_end_of_the_notebook_ends_its_jobs_in_a_line(store_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All end at the same time, stubborn ones too; one line names them, and what they wrote is saved."""
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.jobs.starting import start

    engine, mark = Engine(store_path), marker()
    script = f"trap '' TERM; echo made > /made; sleep {mark} & wait; sleep {mark}"
    jobs = [start(engine, Request("busybox", f"end{number}", script=script)) for number in range(3)]
    fds = pidfds(appear(mark, 3))
    engine.close()
    assert all_dead(fds)
    assert capsys.readouterr().err == "nbcontainer: ended with the notebook: end0, end1, end2\n"
    with contextlib.closing(Engine(store_path)) as other:
        from nbcontainer.containers.lookup import get

        for job in jobs:
            assert len(get(other, job.name).layers) == 2
            get(other, job.name).remove()


def test_a_view_as_json(db: Notebook) -> None:
    """`jobs --json` and `logs --json` are documents."""
    db.good(JOB + "echo up")
    db.good("%container wait db")
    assert json.loads(repr(db.run("shown = %container jobs --json\nshown").value))[0]["name"] == "db"
    assert db.run("shown = %container logs --json db\nshown").value.value == "up\n"


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True], ids=["restart", "SIGKILL"])
def test_the_next_kernel_shows_once_which_jobs_ended(short_path: Path, store_path: Path, *, kill: bool) -> None:
    """After a restart, or the death of a kernel, the first cell of the notebook shows a line; of another one, none."""
    from tests.notebook.kernels import Kernel

    mine, other = ({"JPY_SESSION_NAME": f"/work/{marker()}.ipynb"} for _ in range(2))
    with Kernel(short_path, store_path, **mine) as kernel:
        kernel.run("%load_ext nbcontainer").good()
        for name in ("first", "second"):
            kernel.run(f"%%container busybox --bg --rm --name {name}\nsleep 1000").good()
        if kill:
            kernel.kill()
        kernel.manager.shutdown_kernel(now=kill)
    with Kernel(short_path, store_path, **other) as kernel:
        assert "notebook before" not in kernel.run("%load_ext nbcontainer").good().stderr
    shown = []
    for _ in range(2):
        with Kernel(short_path, store_path, **mine) as kernel:
            shown += [kernel.run("%load_ext nbcontainer").good().stderr, kernel.run("1").good().stderr]
    what = "killed" if kill else "ended"
    saved = ", and what they wrote is not saved" if kill else ""
    assert shown == [f"nbcontainer: {what} with the notebook before this one{saved}: first, second\n", "", "", ""]
    kept = store_path / "ended-jobs"  # other tests may have left some there
    assert not kept.exists() or mine["JPY_SESSION_NAME"] not in kept.read_text()
