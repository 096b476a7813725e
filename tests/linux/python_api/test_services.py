"""Services from Python: `start` with `wait_for`, and what a container says of what runs in it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import ContainerError, ContainerLost, SetupFailed, UsageError
from nbcontainer.containers.jobs.job import Job
from nbcontainer.outcome import Reason
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def checked(engine: Engine, name: str) -> Iterator[str]:
    """An image whose health check passes if `/ok` is there, and fails if `/bad` is."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(["true"])
        check = "until [ -e /ok ]; do if [ -e /bad ]; then exit 1; fi; sleep 0.01; done"
        box.commit(name, changes=[f"HEALTHCHECK --interval=50ms --retries=1 CMD {check}"])
    yield name
    nbcontainer.remove_image(name, engine=engine)


def test_start_waits_for_a_port(engine: Engine) -> None:
    """When `start` returns, a client reaches the server."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.put(b"hello\n", "/www/index.html")
        box.start(script="sleep 0.1; httpd -f -p 127.0.0.1:8000 -h /www", wait_for=8000)
        assert box.exec(["wget", "-q", "-O-", "http://127.0.0.1:8000/"]).text == "hello\n"


def test_start_waits_for_a_text(engine: Engine) -> None:
    """When `start` returns, the output has it, also if it came in pieces; a number as a text is a port."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(script="printf 'is re'; sleep 0.1; echo ady; sleep 1000", wait_for="ready")
        assert b"is ready" in box.logs()
        box.stop()
        box.put(b"hello\n", "/www/index.html")
        box.start(script="sleep 0.1; httpd -f -p 127.0.0.1:8000 -h /www", wait_for="8000")
        assert box.exec(["wget", "-q", "-O-", "http://127.0.0.1:8000/"]).text == "hello\n"


def test_start_waits_for_health(engine: Engine, checked: str) -> None:
    """`healthy` is the health check of the image; one that is unhealthy is ended."""
    with nbcontainer.create(checked, engine=engine) as box:
        box.start(script="touch /ok; sleep 1000", wait_for="healthy")
        assert box.health == "healthy"
        box.stop()
        assert box.health == ""
        box.run(["rm", "/ok"])
        with pytest.raises(ContainerError, match="is unhealthy, and was ended; see `logs`"):
            box.start(script="touch /bad; sleep 1000", wait_for="healthy")
        assert not box.running
        assert box.wait().outcome.reason is Reason.NOT_READY
        box.run(["rm", "/bad"])
        assert box.start(["sleep", "1000"]).health == "starting"


def test_what_ends_before_it_is_ready_is_an_error_with_logs(engine: Engine) -> None:
    """The error names the end, and the container can be used again."""
    with nbcontainer.create("busybox", engine=engine) as box:
        with pytest.raises(ContainerError, match=r"ended before it listened on port 8000: exit code 3; see `logs`"):
            box.start(script="echo why; exit 3", wait_for=8000)
        assert (box.logs(), box.wait().exit_code) == (b"why\n", 3)
        with pytest.raises(UsageError, match="has no HEALTHCHECK"):
            box.start(["sleep", "1000"], wait_for="healthy")
        assert not box.running
        assert box.run(["true"]).ok


@pytest.mark.parametrize(
    ("wait_for", "error", "message"),
    [
        (0, UsageError, "invalid port 0 for wait_for; write a number from 1 to 65535"),
        (-1, UsageError, "invalid port -1 for wait_for"),
        (1 << 16, UsageError, "invalid port 65536 for wait_for"),
        ("", UsageError, "missing value for --wait-for"),
        (b"up", TypeError, "wait_for must be a port or a text, not bytes"),
        (1.5, TypeError, "wait_for must be a port or a text, not float"),
        (True, TypeError, "wait_for must be a port or a text, not bool"),
    ],
)
def test_what_cannot_be_awaited_is_refused(engine: Engine, wait_for: Any, error: type[Exception], message: str) -> None:
    """Nothing is started."""
    with nbcontainer.create("busybox", engine=engine) as box:
        with pytest.raises(error, match=message):
            box.start(["sleep", "1000"], wait_for=wait_for)
        assert box.record.count == 0
        assert not box.running


def test_a_wait_that_is_interrupted_ends_the_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during `start` is a plain interrupt: nothing says that something continues. The outcome is known."""
    mark, join = marker(), Job.join
    fds: list[int] = []

    def interrupted(job: Job, seconds: float | None = None) -> bool:
        if not fds:
            fds.extend(pidfds(appear(mark, 1)))
            os.kill(os.getpid(), signal.SIGINT)
        return join(job, seconds)

    monkeypatch.setattr(Job, "join", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    box = nbcontainer.create("busybox", engine=engine)
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            box.start(["sleep", mark], wait_for=8000)
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.type is KeyboardInterrupt
    assert all_dead(fds)
    assert not box.running
    assert box.wait().outcome.reason is Reason.INTERRUPTED


@pytest.mark.parametrize("named", [True, False])
def test_a_container_says_whether_something_runs_in_it(engine: Engine, name: str, *, named: bool) -> None:
    """`running`, the text and the page say so for a run of another thread and for a job, and for another object."""
    mark = marker()
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        objects = [box, nbcontainer.get(name, engine=engine)] if named else [box]

        def says(*, running: bool) -> bool:
            texts = [repr(one).endswith(", running>") for one in objects]
            pages = ["<td>running" in one._repr_html_() or ">running<" in one._repr_html_() for one in objects]
            return [one.running for one in objects] == texts == pages == [running for _ in objects]

        assert says(running=False)
        thread = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
        thread.start()
        appear(mark, 1)
        deadline = time.monotonic() + DEADLINE
        while not all(one.running for one in objects):  # another object finds it when it is noted that it lasts
            assert time.monotonic() < deadline
        assert says(running=True)
        box.stop()
        thread.join()
        assert says(running=False)
        box.start(["sleep", "1000"])
        assert says(running=True)
        box.stop()
        assert says(running=False)


@pytest.mark.parametrize("named", [True, False])
def test_a_callback_can_stop_its_run(engine: Engine, name: str, *, named: bool) -> None:
    """`stop` in the thread of the run does not wait for that thread, also when nothing runs any more."""
    answers: list[bool] = []

    def stop(_: bytes) -> None:
        while box.stop():
            answers.append(True)

    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        result = box.run(script="echo up; exec sleep 1000", stdout=stop, check=False)
        assert answers
        assert result.outcome.signal == signal.SIGTERM
        assert box.run(["echo", "works"]).text == "works\n"


@pytest.mark.parametrize("error", [ContainerLost("of another cell"), SetupFailed("of another cell", step="SetUser")])
def test_an_error_of_a_callback_starts_no_run_again(engine: Engine, name: str, error: Exception) -> None:
    """Also one that says that a cell has not begun: that is a cell of the callback's own."""
    calls: list[bytes] = []

    def broken(data: bytes) -> None:
        calls.append(data)
        raise error

    with nbcontainer.create("busybox", name, engine=engine) as box:
        with pytest.raises(type(error), match="of another cell"):
            box.run(script="echo ran; exec sleep 1000", stdout=broken)
        assert calls == [b"ran\n"]


def test_another_object_can_start_the_next_job(engine: Engine, name: str) -> None:
    """What an object says is about the last job in its container, and not about the one that it began itself."""
    with nbcontainer.create("busybox", name, engine=engine) as box:
        assert box.start(script="echo first").wait().ok
        other = nbcontainer.get(name, engine=engine).start(script="echo second; exec sleep 1000", wait_for="second")
        assert box.logs() == b"second\n"
        assert box.exec(["true"]).ok
        with pytest.raises(ContainerError, match="still runs"):
            box.wait(0.01)
        assert box.stop()
        assert not other.running
        assert box.wait().outcome.signal == other.wait().outcome.signal == signal.SIGTERM


@pytest.mark.parametrize("named", [True, False])
def test_a_text_for_people_reads_no_files_of_other_processes(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """A `repr`, which a list calls for each element, and the removal of an anonymous container read no files."""
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        result = box.run(["true"])

        def refuse(*_: object) -> dict[str, object]:
            raise AssertionError("the sessions were read")

        with monkeypatch.context() as patch:
            patch.setattr("nbcontainer.runs.running_container.running_containers", refuse)
            assert "running" not in repr(box) + repr(result) + box._repr_html_()
            if not named:
                assert not box.running
                box.remove()
