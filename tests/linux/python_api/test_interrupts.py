"""Ctrl-C during a call of the Python API: the container ends, and the caller gets `KeyboardInterrupt`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.cells.leftovers import Leftovers
from nbcontainer.outcome import Reason
from nbcontainer.sandbox import supervisor
from nbcontainer.sandbox.supervisor import Supervisor
from tests.running import DEADLINE, all_dead, appear, interrupt_beside, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine


@pytest.fixture
def interrupt(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], list[int]]]:
    """A function that sends this process SIGINT when `sleep MARK` runs; it returns a list for that process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    threads: list[threading.Thread] = []

    def later(mark: str) -> list[int]:
        fds: list[int] = []

        def work() -> None:
            fds.extend(pidfds(appear(mark, 1)))
            while not engine.active:  # it is when the run is supervised
                time.sleep(0.001)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return fds

    yield later
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("check", [True, False])
def test_an_interrupt_of_run_is_a_keyboard_interrupt(
    engine: Engine, interrupt: Callable[[str], list[int]], *, check: bool
) -> None:
    """A loop over runs that goes on after `CellFailed` ends at Ctrl-C, and the container has ended then."""
    mark, begun = marker(), []

    def loop() -> None:
        for number in range(3):
            begun.append(number)
            with contextlib.suppress(Exception):
                nbcontainer.run("busybox", ["sleep", mark], engine=engine, check=check)

    fds = interrupt(mark)
    with pytest.raises(KeyboardInterrupt):
        loop()
    assert begun == [0]
    assert all_dead(fds)


def test_a_program_that_ends_well_after_an_interrupt_was_interrupted(
    engine: Engine, interrupt: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code of the program does not matter, and what it wrote to the container is kept."""
    monkeypatch.setattr(supervisor, "GRACE", DEADLINE)
    mark = marker()
    with nbcontainer.create("busybox", engine=engine) as box:
        interrupt(mark)
        with pytest.raises(KeyboardInterrupt):
            box.run(script=f"trap 'echo saved > /saved; exit 0' INT; sleep {mark} & wait")
        assert box.get("/saved") == b"saved\n"
        assert box.record.last is not None
        assert box.record.last.outcome.reason is Reason.INTERRUPTED


def test_an_interrupt_after_the_time_limit_is_not_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a program ends by its time limit, Ctrl-C is still raised; what ended the run is its reason."""
    stop = Supervisor.stop

    def interrupted(supervisor: Supervisor, reason: Reason, *, gently: bool = True) -> None:
        stop(supervisor, reason, gently=gently)
        if reason is Reason.TIMEOUT:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Supervisor, "stop", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with nbcontainer.create("busybox", engine=engine) as box:
            with pytest.raises(KeyboardInterrupt):
                box.run(["sleep", "1000"], timeout=0.1)
            assert box.record.last is not None
            assert box.record.last.outcome.reason is Reason.TIMEOUT
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_of_exec_leaves_the_program(engine: Engine, interrupt: Callable[[str], list[int]]) -> None:
    """Ctrl-C ends what `exec` runs, and not what `start` began."""
    mark = marker()
    with nbcontainer.create("busybox", engine=engine).start(["sleep", "1000"]) as box:
        fds = interrupt(mark)
        with pytest.raises(KeyboardInterrupt):
            box.exec(["sleep", mark])
        assert all_dead(fds)
        assert box.exec(["echo", "works"]).text == "works\n"


def test_an_interrupt_of_a_stream_ends_its_run(engine: Engine, interrupt: Callable[[str], list[int]]) -> None:
    """Ctrl-C while an event is awaited ends the container, also if the stream is still referred to."""
    mark = marker()
    events = nbcontainer.stream("busybox", ["sleep", mark], engine=engine)
    fds = interrupt(mark)
    with pytest.raises(KeyboardInterrupt):
        next(events)
    assert all_dead(fds)
    assert list(events) == []


def test_a_run_that_is_stopped_from_elsewhere_is_a_failed_run(engine: Engine) -> None:
    """`stop` in another thread is no Ctrl-C: the run has an outcome."""
    mark = marker()
    with nbcontainer.create("busybox", engine=engine) as box:
        results: list[nbcontainer.Result] = []
        thread = threading.Thread(target=lambda: results.append(box.run(["sleep", mark], check=False)))
        thread.start()
        appear(mark, 1)
        box.stop()
        thread.join()
    assert not results[0].ok


def wait_for_run(engine: Engine, mark: str) -> None:
    """Runs a program."""
    nbcontainer.run("busybox", ["sleep", mark], engine=engine)


def wait_for_job(engine: Engine, mark: str) -> None:
    """Starts a program, and waits for its end."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(["sleep", mark]).wait()


def wait_for_command(engine: Engine, mark: str) -> None:
    """Runs a program beside another one."""
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(["sleep", "1000"])
        box.exec(["sleep", mark])


def wait_for_output(engine: Engine, mark: str) -> None:
    """Waits for the output of a program that writes none."""
    with nbcontainer.stream("busybox", ["sleep", mark], engine=engine) as events:
        next(events)


@pytest.mark.parametrize("wait", [wait_for_run, wait_for_job, wait_for_command, wait_for_output])
def test_an_interrupt_that_did_not_end_the_wait_is_seen(engine: Engine, wait: Callable[[Engine, str], None]) -> None:
    """A signal that comes just before a system call does not end it (signal(7)): it is seen a moment later."""
    mark = marker()
    with interrupt_beside(mark), pytest.raises(KeyboardInterrupt):
        wait(engine, mark)


def test_an_interrupt_before_the_changes_are_kept_is_noted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the run changed is lost, and the container says so."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Leftovers, "_remove_mount_points", interrupted)
    with nbcontainer.create("busybox", engine=engine) as box:
        with pytest.raises(KeyboardInterrupt):
            box.run(script="echo x > /file; echo 1 > /out/x.json", get=["x"])
        assert box.cells[-1].lost
