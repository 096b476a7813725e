"""Supervising a container, with a process of the test's own as its init."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import SandboxError, SetupFailed
from nbcontainer.linux.pipes import output_pipe
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import ContainerHandle
from nbcontainer.sandbox.silent_observer import SilentObserver
from nbcontainer.sandbox.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Log(SilentObserver):
    """Notes the events, and calls `lasting` and `output` for two of them."""

    def __init__(
        self, *, lasting: Callable[[], None] = lambda: None, output: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self.events: list[str] = []
        self.written: list[bytes] = []
        self._lasting = lasting
        self._output = output

    def on_output(self, descriptor: int, data: bytes) -> None:
        self.events.append("output")
        self.written.append(data)
        self._output(data)

    def on_lasting(self) -> None:
        self.events.append("lasting")
        self._lasting()

    def on_explained(self, notes: str) -> None:
        self.events.append(notes)


class Init:
    """A stand-in for init: a process that waits to be killed, and the far end of its channel."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "1000"])
        ours, self.channel = protocol.pair()
        self.running = ContainerHandle(ours, self.process.pid, os.pidfd_open(self.process.pid))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self.running.close()

    def die(self) -> None:
        """Waits until it is killed; its end of the channel goes with it."""
        self.process.wait()
        self.channel.close()

    def say(self, **message: object) -> None:
        protocol.send(self.channel, message)


@pytest.fixture
def init() -> Iterator[Init]:
    made = Init()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = output_pipe()
    yield ends
    protocol.close(ends)


def test_output_and_outcome(init: Init, pipe: tuple[int, int]) -> None:
    """All output written before init reported the end is handed on; the outcome is what init reported."""
    log = Log()
    os.write(pipe[1], b"x" * 300_000)
    init.say(ended=3 << 8, cpu=0.5, peak_memory=4096)
    outcome = Supervisor(init.running, log, pipe[:1]).to_end()
    assert len(b"".join(log.written)) == 300_000
    assert (outcome.exit_code, outcome.cpu_time, outcome.peak_memory) == (3, 0.5, 4096)


def test_an_init_that_dies_without_a_word(init: Init, pipe: tuple[int, int]) -> None:
    """Its output is handed on, and the outcome is that the container was killed."""
    log = Log()
    os.write(pipe[1], b"last words")
    init.process.kill()
    outcome = Supervisor(init.running, log, pipe[:1]).to_end()
    assert (log.written, outcome.reason) == ([b"last words"], "killed")


def test_words_that_an_init_left_are_heard(init: Init) -> None:
    """If init is dead before its message is read, the message still counts."""
    init.say(ended=0, cpu=0, peak_memory=0)
    init.process.kill()
    init.process.wait()
    init.channel.close()
    assert Supervisor(init.running, SilentObserver()).to_end().ok


def test_what_a_dead_init_called_is_handed_on(init: Init) -> None:
    """All parts of the explanation are handed on, also those that are read after init is dead."""
    for notes in ("ahead", "then", "last"):
        init.say(explained=notes)
    init.say(ended=0, cpu=0, peak_memory=0)
    init.process.kill()
    init.process.wait()
    init.channel.close()
    log = Log()
    assert Supervisor(init.running, log).to_end().ok
    assert log.events == ["ahead", "then", "last"]


def test_a_failure_is_raised(init: Init) -> None:
    """If a step failed, `to_end` raises the error of that step."""
    init.say(failed={"step": "PivotRoot", "errno": 22, "error": "pivot_root: Invalid argument", "path": "."})
    init.process.kill()
    with pytest.raises(SetupFailed, match=r"cannot switch the root at \.: Invalid argument"):
        Supervisor(init.running, SilentObserver()).to_end()


def test_a_brief_cell_is_told_to_nobody(init: Init, pipe: tuple[int, int]) -> None:
    """A cell that has shown nothing before its end is never reported as lasting, even if output is left in its pipe."""
    log = Log()
    init.say(ended=0, cpu=0, peak_memory=0)
    Supervisor(init.running, log).to_end()
    os.write(pipe[1], b"left")
    Supervisor(init.running, log, pipe[:1]).to_end()
    assert log.events == ["output"]


def test_a_cell_is_told_before_it_is_seen(init: Init, pipe: tuple[int, int]) -> None:
    """A cell is reported as lasting once, before its first output is handed on."""
    log = Log(output=lambda _: init.say(ended=0, cpu=0, peak_memory=0))
    os.write(pipe[1], b"x")
    Supervisor(init.running, log, pipe[:1]).to_end()
    assert log.events == ["lasting", "output"]


def test_a_cell_that_goes_on_is_told(init: Init) -> None:
    """A cell that shows nothing and does not end is reported as lasting after a moment."""
    log = Log(lasting=lambda: init.say(ended=0, cpu=0, peak_memory=0))
    Supervisor(init.running, log).to_end()
    assert log.events == ["lasting"]


@pytest.mark.timeout(60)
def test_a_pipe_that_somebody_else_fills_does_not_hold_up(init: Init, pipe: tuple[int, int]) -> None:
    """If a process outside the container holds the cell's pipe and writes without end, the supervision still ends."""
    stop = threading.Event()

    def fill() -> None:
        while not stop.is_set():
            try:
                os.write(other, b"y" * 65536)
            except BlockingIOError:
                continue

    other = os.dup(pipe[1])
    os.set_blocking(other, False)
    filler = threading.Thread(target=fill)
    filler.start()
    init.say(ended=0, cpu=0, peak_memory=0)
    try:
        outcome = Supervisor(init.running, SilentObserver(), pipe[:1]).to_end()
    finally:
        stop.set()
        filler.join()
        os.close(other)
    assert outcome.ok


def test_a_sink_that_raises_kills(init: Init, pipe: tuple[int, int]) -> None:
    """An exception from the observer is raised when init is dead."""

    def refuse(_: bytes) -> None:
        raise ZeroDivisionError

    os.write(pipe[1], b"x")
    threading.Thread(target=init.die).start()
    with pytest.raises(ZeroDivisionError):
        Supervisor(init.running, Log(output=refuse), pipe[:1]).to_end()
    assert init.process.poll() is not None


def test_nonsense_from_an_init_is_an_error(init: Init) -> None:
    """A message that is not JSON ends the container and raises `SandboxError`."""
    init.channel.send(b"nonsense")
    threading.Thread(target=init.die).start()
    with pytest.raises(SandboxError, match="lost contact with the container: a message is not valid JSON"):
        Supervisor(init.running, SilentObserver()).to_end()


def test_every_user_may_open_a_pipe_by_its_name(pipe: tuple[int, int]) -> None:
    """Any user of the container can open /dev/stdout, which opens the pipe again."""
    assert os.fstat(pipe[1]).st_mode & 0o777 == 0o666
    assert not os.get_inheritable(pipe[0])
    assert not os.get_inheritable(pipe[1])
