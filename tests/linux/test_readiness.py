"""`--wait-for` and HEALTHCHECK: when a job is ready."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.commit import commit
from nbcontainer.containers.jobs.following import list_jobs
from nbcontainer.containers.jobs.job import Health
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from nbcontainer.containers.options import RunOptions, run_options
from nbcontainer.errors import ContainerError, ContainerNotFound, UsageError
from nbcontainer.sandbox.networking import Network
from tests.running import DEADLINE, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job


@pytest.fixture
def job(engine: Engine) -> Iterator[Callable[..., Job]]:
    """Starts a job `slow`, and removes it at the end."""

    def run(script: str, wait_for: str | None = None, image: str = "busybox", **more: Any) -> Job:
        return start(engine, replace(Request(image, "slow", script=script), **more), wait_for=wait_for)

    yield run
    for one in list(engine.jobs.values()):
        one.kill()
        one.join()
    with contextlib.suppress(ContainerNotFound):  # a test that was skipped has started none
        get(engine, "slow").remove()


@pytest.fixture
def checked(engine: Engine) -> str:
    """An image with a health check that passes when /ready is there."""
    made = run_script(engine, "true", name="checked").container
    commit(made, "checked", changes=["HEALTHCHECK --interval=50ms --retries=2 CMD test -e /ready"])
    made.remove()
    return "checked"


def options(**fields: Any) -> RunOptions:
    return run_options(fields)


@pytest.mark.parametrize("remove", [True, False])
def test_a_job_without_a_thread_leaves_no_container(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, remove: bool
) -> None:
    """Neither its name nor anything of it is there, also with `--rm`, which is done by the job's own thread."""

    start_thread = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "nbcontainer-job":
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            start(engine, Request("busybox", "threadless", script="true", remove=remove))
    with pytest.raises(ContainerNotFound):
        get(engine, "threadless")
    assert "threadless" not in engine.jobs


def test_a_port_is_awaited(engine: Engine, job: Callable[..., Job]) -> None:
    """The start returns when the program listens, and not before."""
    started = job("sleep 0.3; touch /late; mkdir /www; exec httpd -f -p 8080 -h /www", "8080")
    assert started.age >= 0.3
    client = run_script(engine, "wget -qO- http://127.0.0.1:8080/none 2>&1", network="container:slow")
    assert "404" in client.text


def test_a_text_is_awaited_in_pieces(job: Callable[..., Job]) -> None:
    """A text may come in pieces, on either stream."""
    started = job("printf 'almost re' >&2; sleep 0.2; printf 'ady now' >&2; exec sleep 1000", "ready now")
    assert started.running
    assert started.age >= 0.2


def test_a_text_is_awaited_on_each_stream(job: Callable[..., Job]) -> None:
    """What the other stream has between the pieces does not part them."""
    assert job("printf 're'; sleep 0.1; echo between >&2; sleep 0.1; printf 'ady'; exec sleep 1000", "ready").running


def test_a_job_that_ends_before_is_an_error(engine: Engine, job: Callable[..., Job]) -> None:
    """The error has the outcome and the log's verb; the log stays."""
    for awaited, phrase in (("8080", "listened on port 8080"), ("ready", "wrote 'ready'")):
        with pytest.raises(ContainerError) as raised:
            job("echo no; exit 3", awaited)
        line = f"job 'slow' ended before it {phrase}: exit code 3; see `%container logs slow`"
        assert str(raised.value) == line


@pytest.mark.parametrize("word", ["0", "70000", "99999999999", ""])
def test_ports_are_checked_before_the_start(job: Callable[..., Job], engine: Engine, word: str) -> None:
    """An invalid port starts nothing."""
    with pytest.raises(UsageError):
        job("exec sleep 1000", word)
    assert "slow" not in engine.jobs
    job("true")


def test_the_health_check_of_an_image_runs_in_its_jobs(engine: Engine, job: Callable[..., Job], checked: str) -> None:
    """A job is starting or unhealthy, then healthy when the check passes, then unhealthy after some failures."""
    script = "trap 'touch /ready' USR1; trap 'rm /ready' USR2; echo up; while :; do sleep 0.01; done"
    started = job(script, "up", image=checked)
    assert started.health != Health.HEALTHY
    started.send(signal.SIGUSR1)
    reach(started, Health.HEALTHY)
    assert [facts.health for facts in list_jobs(engine)] == ["healthy"]
    started.send(signal.SIGUSR2)
    reach(started, Health.UNHEALTHY)
    started.stop(0)
    assert [facts.health for facts in list_jobs(engine)] == [""]


def reach(job: Job, health: Health) -> None:
    """Waits until a job has this health: a check says so, and nothing else."""
    deadline = time.monotonic() + DEADLINE
    while job.health != health:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_health_can_be_awaited(engine: Engine, job: Callable[..., Job]) -> None:
    """`--wait-for healthy` returns after the first check that passes."""
    made = run_script(engine, "true", name="checked").container
    commit(made, "well", changes=["HEALTHCHECK --interval=50ms CMD true"])
    made.remove()
    assert job("exec sleep 1000", "healthy", image="well").health == Health.HEALTHY


def test_an_unhealthy_job_is_not_awaited(engine: Engine, job: Callable[..., Job], checked: str) -> None:
    """When the check has failed as often as it may, that is an error, and the job ends: it, and the job, say so."""
    with pytest.raises(ContainerError, match="job 'slow' is unhealthy, and was ended; see `%container logs slow`"):
        job("echo up; exec sleep 1000", "healthy", image=checked)
    (facts,) = list_jobs(engine)
    assert facts.end is not None
    assert facts.end.describe() == "killed after `--wait-for` failed"
    job("true", image=checked)


@pytest.mark.parametrize("user", ["", "1000"])
def test_a_port_of_another_program_is_not_the_jobs(engine: Engine, job: Callable[..., Job], user: str) -> None:
    """In a network that a job shares, only its own sockets count, whichever user of the container has them."""
    if user and engine.single_id:
        pytest.skip("a single id has one user")
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as free:
        taken, port = other.getsockname()[1], free.getsockname()[1]
        free.close()
        with pytest.raises(ContainerError, match=f"ended before it listened on port {taken}"):
            job("sleep 0.1; exit 3", str(taken), options=options(network=Network.HOST, user=user))
        script = f"sleep 0.2; exec httpd -f -p 127.0.0.1:{port} -h /etc"
        assert job(script, str(port), options=options(network=Network.HOST, user=user)).age >= 0.2


@pytest.mark.parametrize("remove", [False, True])
def test_an_image_without_a_check_cannot_be_awaited(engine: Engine, job: Callable[..., Job], *, remove: bool) -> None:
    """`--wait-for healthy` is one line then, before anything starts: no job and no container is left."""
    with pytest.raises(UsageError, match="cannot wait for 'healthy': image 'busybox' has no HEALTHCHECK; write a port"):
        job("exec sleep 1000", "healthy", remove=remove)
    assert list_jobs(engine) == []
    with pytest.raises(ContainerNotFound):
        get(engine, "slow")
    job("true").join()
    with pytest.raises(UsageError):
        job("true", "healthy", remove=remove)
    assert get(engine, "slow").record.count == 1, "a container that was there before stays"
