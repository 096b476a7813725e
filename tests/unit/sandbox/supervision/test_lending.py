"""Outputs that another thread reads in the place of the one that supervises."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.pipes import output_pipe
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable
from nbcontainer.sandbox.silent_observer import SilentObserver
from nbcontainer.sandbox.supervision.lending import Lending
from nbcontainer.sandbox.supervisor import Supervisor
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watcher(SilentObserver):
    """Lends the outputs; notes which thread hands on which data, and fails for `bad`."""

    def __init__(self, lending: Lending) -> None:
        self.lending = lending
        self.taken: list[tuple[int, bytes]] = []
        self.started = threading.Event()
        self.had = threading.Event()

    def on_start(self, supervisor: Supervisor) -> None:
        supervisor.lend(self.lending)
        self.started.set()

    def on_output(self, descriptor: int, data: bytes) -> None:
        if data == b"bad":
            raise ZeroDivisionError
        self.taken.append((threading.get_ident(), data))
        self.had.set()


class Supervised:
    """A container that a thread supervises, with a process of the test's own as its init."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        ours, self.channel = protocol.pair()
        self.pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
        self.running = ContainerHandle(ours, self.pid, os.pidfd_open(self.pid))
        self.reader, self.writer = output_pipe()
        self.lending = Lending()
        self.watcher = Watcher(self.lending)
        self.supervisor = Supervisor(self.running, self.watcher, [self.reader])
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._supervise, daemon=True)
        self.thread.start()
        for end in (self.running.close, self.channel.close, self.lending.close, self._close_pipe, self.end):
            stack.callback(end)
        assert self.watcher.started.wait(DEADLINE)

    def _close_pipe(self) -> None:
        protocol.close((self.reader, self.writer))

    def _supervise(self) -> None:
        try:
            self.supervisor.to_end()
        except Exception as error:
            self.error = error

    def end(self) -> None:
        """Let init report its end, and wait until the supervision has ended."""
        with contextlib.suppress(OSError):  # closed
            protocol.send(self.channel, {"ended": 0, "cpu": 0, "peak_memory": 0})
        self.running.kill()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def take(self, patience: float = DEADLINE) -> None:
        """Hand on, as a borrower does."""
        for fd, event in self.lending.ready(patience):
            self.supervisor.take(fd, event)

    @property
    def taken(self) -> list[tuple[str, bytes]]:
        """What was handed on, and by whom."""
        mine = threading.get_ident()
        return [("borrower" if ident == mine else "supervisor", data) for ident, data in self.watcher.taken]


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    with contextlib.ExitStack() as stack:
        yield Supervised(stack)


def test_the_borrower_hands_on_what_comes_while_it_has_the_outputs(supervised: Supervised) -> None:
    """Output comes from the borrower's thread alone until it gives the outputs back, and from the supervisor's then."""
    assert supervised.lending.borrow()
    supervised.write(b"one")
    assert readable(supervised.reader)
    assert not readable(supervised.lending.gate)  # which the supervisor polls
    assert supervised.taken == []
    supervised.take()
    supervised.lending.give_back()
    supervised.write(b"two")
    assert supervised.watcher.had.wait(DEADLINE)
    supervised.end()
    assert supervised.taken == [("borrower", b"one"), ("supervisor", b"two")]


def test_what_a_borrower_leaves_is_not_lost(supervised: Supervised) -> None:
    """Output that came while the outputs were borrowed, and was not taken, is handed on by the supervisor."""
    assert supervised.lending.borrow()
    supervised.write(b"left")
    supervised.lending.give_back()
    assert supervised.watcher.had.wait(DEADLINE)
    assert supervised.taken == [("supervisor", b"left")]


def test_events_come_in_the_order_of_the_descriptors() -> None:
    """What was added first comes first, whichever was written first: output before the messages that follow it."""
    lending = Lending()
    pipes = [output_pipe() for _ in range(3)]
    try:
        for reader, _ in pipes:
            lending.register(reader, select.POLLIN)
        for _, writer in reversed(pipes):
            os.write(writer, b"x")
        assert lending.ready(DEADLINE) == [(reader, select.POLLIN) for reader, _ in pipes]
    finally:
        lending.close()
        protocol.close([end for pipe in pipes for end in pipe])


def test_a_bell_wakes_the_borrower(supervised: Supervised) -> None:
    """A ring ends the borrower's wait early, without an event, and also one that came before it waits."""
    assert supervised.lending.borrow()
    for ring in (supervised.lending.ring, lambda: threading.Timer(0.05, supervised.lending.ring).start()):
        ring()
        began = time.monotonic()
        assert supervised.lending.ready(DEADLINE) == []
        assert time.monotonic() - began < DEADLINE
    supervised.lending.give_back()


def test_the_end_of_the_container_takes_the_outputs_from_a_borrower(supervised: Supervised) -> None:
    """The supervision waits at its end for the borrower, reads what is left, and lends nothing more."""
    assert supervised.lending.borrow()
    ending = threading.Thread(target=supervised.end)
    ending.start()
    while not supervised.lending.over:
        assert supervised.lending.ready(DEADLINE) == []
    assert supervised.thread.is_alive()
    supervised.write(b"last")
    supervised.lending.give_back()
    ending.join(DEADLINE)
    assert supervised.taken == [("supervisor", b"last")]
    assert not supervised.lending.borrow()


def test_an_error_of_the_borrower_is_that_of_the_supervision(supervised: Supervised) -> None:
    """What the observer raises in the borrower's thread kills the container, and `to_end` raises it."""
    assert supervised.lending.borrow()
    supervised.write(b"bad")
    with pytest.raises(ZeroDivisionError) as raised:
        supervised.take()
    supervised.supervisor.fail(raised.value)
    supervised.lending.give_back()
    os.waitpid(supervised.pid, 0)
    supervised.channel.close()
    supervised.thread.join(DEADLINE)
    assert supervised.error is raised.value


def test_a_closed_bell_can_be_rung(supervised: Supervised) -> None:
    """A late ring does nothing: it writes to no descriptor that has the number now."""
    supervised.end()
    reader, writer = os.pipe2(os.O_NONBLOCK)
    number = supervised.lending._bell
    supervised.lending.close()
    os.dup2(writer, number)
    try:
        supervised.lending.ring()
        with pytest.raises(BlockingIOError):
            os.read(reader, 8)
    finally:
        protocol.close((reader, writer, number))
