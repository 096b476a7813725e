"""Following a container, with a process of the test's own for its init."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import SandboxError, SetupFailed
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import ContainerHandle
from nbcontainer.sandbox.supervisor import Supervisor, output_pipe

if TYPE_CHECKING:
    from collections.abc import Iterator


class Init:
    """Stands for an init: a process that waits to be killed, and the far end of its channel."""

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
    """What was written before init said that the cell has ended is all taken, and what it said is the outcome."""
    said: list[bytes] = []
    os.write(pipe[1], b"x" * 300_000)
    init.say(ended=3 << 8, cpu=0.5, peak_memory=4096)
    outcome = Supervisor(init.running, {pipe[0]: said.append}).to_end()
    assert len(b"".join(said)) == 300_000
    assert (outcome.exit_code, outcome.cpu_time, outcome.peak_memory) == (3, 0.5, 4096)


def test_an_init_that_dies_without_a_word(init: Init, pipe: tuple[int, int]) -> None:
    """What it had written is taken, and the outcome is that it was killed."""
    said: list[bytes] = []
    os.write(pipe[1], b"last words")
    init.process.kill()
    outcome = Supervisor(init.running, {pipe[0]: said.append}).to_end()
    assert (said, outcome.reason) == ([b"last words"], "killed")


def test_words_that_an_init_left_are_heard(init: Init) -> None:
    """Init may be dead before what it said is read: it counts all the same."""
    init.say(ended=0, cpu=0, peak_memory=0)
    init.process.kill()
    init.process.wait()
    init.channel.close()
    assert Supervisor(init.running, {}).to_end().ok


def test_a_failure_is_raised(init: Init) -> None:
    """What could not be set up is the error of its step."""
    init.say(failed={"step": "PivotRoot", "errno": 22, "error": "pivot_root: Invalid argument", "path": "."})
    init.process.kill()
    with pytest.raises(SetupFailed, match=r"cannot switch the root at \.: Invalid argument"):
        Supervisor(init.running, {}).to_end()


def test_a_brief_cell_is_told_to_nobody(init: Init, pipe: tuple[int, int]) -> None:
    """Of a cell that has shown nothing and is over, nobody hears; nor of what it left in its pipes."""
    told: list[str] = []
    init.say(ended=0, cpu=0, peak_memory=0)
    Supervisor(init.running, {}, on_lasting=lambda: told.append("lasts")).to_end()
    os.write(pipe[1], b"left")
    Supervisor(
        init.running, {pipe[0]: lambda _: told.append("shown")}, on_lasting=lambda: told.append("lasts")
    ).to_end()
    assert told == ["shown"]


def test_a_cell_is_told_before_it_is_seen(init: Init, pipe: tuple[int, int]) -> None:
    """Whoever has seen something of a cell finds it running: once, before its first output is handed on."""
    told: list[str] = []

    def shown(_: bytes) -> None:
        told.append("shown")
        init.say(ended=0, cpu=0, peak_memory=0)

    os.write(pipe[1], b"x")
    Supervisor(init.running, {pipe[0]: shown}, on_lasting=lambda: told.append("lasts")).to_end()
    assert told == ["lasts", "shown"]


def test_a_cell_that_goes_on_is_told(init: Init) -> None:
    """A cell that shows nothing and does not end is told by itself."""
    told = []

    def lasts() -> None:
        told.append("lasts")
        init.say(ended=0, cpu=0, peak_memory=0)

    Supervisor(init.running, {}, on_lasting=lasts).to_end()
    assert told == ["lasts"]


@pytest.mark.timeout(60)
def test_a_pipe_that_somebody_else_fills_does_not_hold_up(init: Init, pipe: tuple[int, int]) -> None:
    """Where a living process has got hold of the cell's output and writes without end, the cell ends all the same."""
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
        outcome = Supervisor(init.running, {pipe[0]: lambda _: None}).to_end()
    finally:
        stop.set()
        filler.join()
        os.close(other)
    assert outcome.ok


def test_a_sink_that_raises_kills(init: Init, pipe: tuple[int, int]) -> None:
    """An exception of a sink comes out when init is dead."""

    def refuse(_: bytes) -> None:
        raise ZeroDivisionError

    os.write(pipe[1], b"x")
    threading.Thread(target=init.die).start()
    with pytest.raises(ZeroDivisionError):
        Supervisor(init.running, {pipe[0]: refuse}).to_end()
    assert init.process.poll() is not None


def test_nonsense_from_an_init_is_an_error(init: Init) -> None:
    """What no init of ours would say ends the container with an error of ours."""
    init.channel.send(b"nonsense")
    threading.Thread(target=init.die).start()
    with pytest.raises(SandboxError, match="cannot hear of the cell: a message is no JSON"):
        Supervisor(init.running, {}).to_end()


def test_every_user_may_open_a_pipe_by_its_name(pipe: tuple[int, int]) -> None:
    """/dev/stdout is opened anew by who writes to it, who may be anybody in the container."""
    assert os.fstat(pipe[1]).st_mode & 0o777 == 0o666
    assert not os.get_inheritable(pipe[0])
    assert not os.get_inheritable(pipe[1])
