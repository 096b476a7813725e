"""Supervising a container until it ends: its output, its time limit, interrupts, and its outcome."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Protocol

from nbcontainer.linux.signals import TURN, Terminated
from nbcontainer.outcome import Outcome, Reason, from_status
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.supervision.keyboard import Keyboard
from nbcontainer.sandbox.supervision.lent_outputs import Outputs, lost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.supervision.feed import Feed
    from nbcontainer.sandbox.supervision.lending import Lending

GRACE = 0.4
"""Seconds between the signal that asks a cell to end and SIGKILL."""

BRIEF = 0.005
"""Seconds after which a cell counts as lasting, even if it has shown nothing: no person sees a shorter one run."""

_DRAIN_ROUNDS = 1000  # a terminal returns at most a page per read, and holds some dozens of pages


class CellObserver(Protocol):
    """What happens in a cell, as calls from the thread that supervises it.

    An exception from any of these calls kills the container, and `Supervisor.to_end` raises it once init is dead.
    """

    def on_start(self, supervisor: Supervisor) -> None:
        """The supervision begins. Other threads may use `supervisor.stop` from now on."""

    def on_output(self, descriptor: int, data: bytes) -> None:
        """The cell wrote `data` to one of the supervised descriptors, or to its terminal."""

    def on_terminal(self, terminal: int) -> None:
        """The cell has a terminal; `terminal` is its controlling end, which the supervisor reads. Do not close it."""

    def on_control_directory(self, directory: int, terminal: int) -> Iterable[int]:
        """The cell has a control directory. Return more descriptors to read.

        `directory` is a descriptor of it, `terminal` the controlling end of its terminal. The supervisor reads only the
        descriptors that this returns. The container's handle closes both arguments.
        """

    def on_display(self, directory: int, supervisor: Supervisor) -> Iterable[int]:
        """A program of the cell shows data for the first time. Return more descriptors to read.

        `directory` is a descriptor of the directory of `OfferDisplay`. The container's handle closes it.
        """

    def on_values(self, values: Sequence[int]) -> None:
        """Init waits, with these descriptors of the files of `/in` and of `/out`; it continues when this returns.

        This takes the descriptors over, and closes them.
        """

    def on_lasting(self) -> None:
        """There is something to see of the cell. Called once at most.

        It comes before the first output, terminal or control directory, or when the cell has not ended within BRIEF.
        """

    def on_began(self) -> None:
        """The program of a container that other processes can join runs, and they can join from now on."""

    def on_explained(self, notes: str) -> None:
        """Init has sent more of what it called (`WatchedKernel.take_json`). The cell is started, or runs, meanwhile."""

    def on_alarm(self) -> None:
        """The eventfd `alarm` was counted up."""

    def on_glance(self) -> None:
        """`glance` seconds have passed since the last call, and all output that was there has been handed on."""


class Supervisor:
    """The supervision of one container. Everything but `stop` and `fail` runs in one thread, or in one that borrows."""

    def __init__(
        self,
        running: ContainerHandle,
        observer: CellObserver,
        outputs: Sequence[int] = (),
        *,
        timeout: float | None = None,
        keyboard: int | None = None,
        feed: Feed | None = None,
        alarm: int | None = None,
        started: float | None = None,
        glance: float | None = None,
    ) -> None:
        """Supervise `running`, read the descriptors `outputs`, and report to `observer`.

        What is read from the descriptor `keyboard` is typed into the cell's terminal, and `feed` is its standard input
        if that is another descriptor of the caller. `timeout` is in seconds; None for
        no limit. `alarm` is an eventfd. `started` is when the cell was sent (time.monotonic()); now by default.
        `glance` is the time between calls of `on_glance` in seconds; None for no calls.
        The caller closes all these descriptors.
        """
        self.running = running
        self.observer = observer
        self.timeout = timeout
        self.started = time.monotonic() if started is None else started
        self.stopped: Reason | None = None
        self.interrupted = False
        """Whether a KeyboardInterrupt came during `to_end`, also after the container was stopped for another reason."""
        self._alarm = alarm
        self._glance = glance
        self._next_glance = None if glance is None else self.started + glance
        self._poll = select.poll()
        self._outputs = Outputs(self._poll, outputs, self._hand_on)
        self._failure: BaseException | None = None
        self._keyboard = Keyboard(self._poll, keyboard)
        self._feed = feed
        self._wake: int | None = None
        self._wake_lock = threading.Lock()
        self._thread = 0
        self._kill_at: float | None = None
        self._init_dead = False
        self._lasting = False
        self._exchanged = False

    @property
    def outputs(self) -> list[int]:
        """The descriptors that are read, with those that came later: the terminal and the control directory's."""
        return self._outputs.fds

    def stop(self, reason: Reason, *, gently: bool = True) -> None:
        """End the container: send the cell SIGTERM (SIGINT if `reason` is an interrupt), and kill all after GRACE.

        May be called from any thread: it wakes the thread that supervises. A second call, or `gently=False`, kills at
        once. If the thread that supervises waits in the kernel, a timer kills in its place.
        """
        self._stop(reason, gently=gently)
        if self._kill_at is not None and threading.get_ident() != self._thread:
            timer = threading.Timer(2 * GRACE, self._kill_late)
            timer.daemon = True
            timer.start()
        with self._wake_lock:
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)

    def lend(self, lending: Lending) -> None:
        """Let another thread, when it has borrowed the outputs, hand them on by `take`. Call it in `on_start`.

        The caller closes `lending` after `to_end`.
        """
        self._outputs.lend(lending)

    def fail(self, error: BaseException) -> None:
        """Kill the container, and raise in `to_end` what `take` has raised in another thread."""
        self._failure = error
        self.running.kill()

    def _kill_late(self) -> None:
        if self._kill_at is not None:  # else the thread has killed, or seen the end
            self.running.kill()

    def _stop(self, reason: Reason, *, gently: bool) -> None:
        if self.stopped is not None or not gently:
            self._kill_at = time.monotonic()
            self.stopped = self.stopped or reason
            self.running.kill()
            return
        self.stopped = reason
        self._kill_at = time.monotonic() + GRACE
        self.running.signal(signal.SIGINT if reason is Reason.INTERRUPTED else signal.SIGTERM)

    def _terminate(self) -> None:
        """Ask the cell to end, since this process has to, and kill it after GRACE, or at once the second time."""
        if self._kill_at is None:
            self.running.note_end(Reason.STOPPED, GRACE)
            self.running.signal(signal.SIGTERM)
            self._kill_at = time.monotonic() + GRACE
        else:
            self._kill_at = time.monotonic()

    def to_end(self) -> Outcome:
        """Supervise until no process of the cell is left, and return its outcome.

        Init has then reported the end, but may still be dying, and with it its mounts and what it may not kill
        (`left`): use `ContainerHandle.wait` to
        wait for that.

        A KeyboardInterrupt in here stops the container; a second one kills it at once. So does `Terminated`. Any other
        exception, such as one from the observer, kills it and is raised when it is dead. Raises `SetupFailed` if the
        cell could not start.
        """
        self._thread = threading.get_ident()
        try:
            self._register()
            self.observer.on_start(self)
            while not self._init_dead and self.running.ended is None:
                try:
                    self._take_events()
                except KeyboardInterrupt:
                    self.interrupted = True
                    self.stop(Reason.INTERRUPTED)
                except Terminated:
                    self._terminate()
            self._outputs.end_lending()
            if self._failure is not None:
                raise self._failure
            self._drain()
        except BaseException as error:
            self.running.kill()
            self._outputs.end_lending()
            self.running.wait()
            if isinstance(error, OSError) and self._wake is None:
                raise lost("cannot supervise the container", error) from error
            raise
        finally:
            self._kill_at = None
            with self._wake_lock:
                if self._wake is not None:
                    os.close(self._wake)
                self._wake = None
        return self._outcome()

    def _register(self) -> None:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._outputs.register()
        for fd in (self.running.channel.fileno(), self.running.pidfd, self._wake):
            self._poll.register(fd, select.POLLIN)
        if self._alarm is not None:
            self._poll.register(self._alarm, select.POLLIN)
        if self._feed is not None:
            self._feed.connect(self._poll)

    def _take_events(self) -> None:
        """Wait for events or the next deadline, and handle what is there."""
        for fd, event in self._poll.poll(self._poll_timeout()):
            if self._feed is not None and self._feed.take(fd):
                continue
            if event & select.POLLOUT:
                self._keyboard.write()
            if event == select.POLLOUT:
                continue
            if fd == self.running.pidfd:
                self._init_dead = True
            elif fd == self.running.channel.fileno():
                self._take_message(fd)
            elif fd in (self._wake, self._alarm):
                os.eventfd_read(fd)
                if fd == self._alarm:
                    self.observer.on_alarm()
            elif fd == self._keyboard.source:
                self._keyboard.read()
            else:
                self.take(fd, event)
        self._check_deadlines(time.monotonic())

    def _check_deadlines(self, now: float) -> None:
        if now - self.started >= BRIEF:
            self._report_lasting()
        if self._kill_at is not None and now >= self._kill_at:
            self.running.kill()
            self._kill_at = None
        elif self.timeout is not None and self.stopped is None and now - self.started >= self.timeout:
            self.stop(Reason.TIMEOUT)
        if self._next_glance is not None and now >= self._next_glance:
            self._look(now)

    def _look(self, now: float) -> None:
        assert self._glance is not None
        self._next_glance = now + self._glance
        if self.stopped is None and not self._init_dead and self.running.ended is None:
            self.observer.on_glance()

    def _poll_timeout(self) -> float:
        """Return the milliseconds until the next deadline, or fewer."""
        deadlines = [] if self._kill_at is None else [self._kill_at]
        if not self._lasting:
            deadlines.append(self.started + BRIEF)
        if self.timeout is not None and self.stopped is None:
            deadlines.append(self.started + self.timeout)
        if self._next_glance is not None:
            deadlines.append(self._next_glance)
        left = min(deadlines) - time.monotonic() if deadlines else TURN
        return min(max(0.0, left), TURN) * 1000 + 1

    def _report_lasting(self) -> None:
        if not self._lasting and self.running.ended is None:
            self._lasting = True
            self.observer.on_lasting()

    def _take_message(self, fd: int) -> None:
        had_terminal, had_control_directory = self.running.terminal is not None, bool(self.running.control_directory)
        had_display, had_begun = self.running.display is not None, self.running.began
        if not self._read_message():
            self._poll.unregister(fd)
        terminal, control_directory = self.running.terminal, self.running.control_directory
        if terminal is not None or control_directory:
            self._report_lasting()
        if terminal is not None and not had_terminal:
            self._add_terminal(terminal)
        if control_directory and not had_control_directory:
            self._outputs.add(self.observer.on_control_directory(*control_directory))
        if self.running.display is not None and not had_display:
            self._outputs.add(self.observer.on_display(self.running.display, self))
        if self.running.values is not None and not self._exchanged:
            self._exchange(self.running.values)
        if self.running.began and not had_begun:
            self._report_lasting()
            self.observer.on_began()

    def _exchange(self, values: list[int]) -> None:
        self._exchanged, self.running.values = True, []
        self.observer.on_values(values)
        self.running.go_on()

    def _add_terminal(self, terminal: int) -> None:
        os.set_blocking(terminal, False)
        self.observer.on_terminal(terminal)
        self._outputs.add((terminal,))
        self._keyboard.connect(terminal)

    def _read_message(self) -> bool:
        """Read one message, and hand on what init called; return False at the end."""
        try:
            more = self.running.read()
        except OSError as error:
            raise lost("lost contact with the container", error) from error
        if (explained := self.running.explained) is not None:
            self.running.explained = None
            self.observer.on_explained(explained)
        return more

    def take(self, fd: int, event: int) -> None:
        """Hand on what can be read of an output now, for its event (poll(2))."""
        if self._outputs.stands_for_lent(fd):
            self._outputs.take_lent(self._end_of_output)
        elif fd in self.outputs and not self._outputs.take(fd, event):
            self._end_of_output(fd)

    def take_waiting(self, fds: Iterable[int]) -> None:
        """Hand on what is in these pipes now: it was written before the message that has just come."""
        self._outputs.take_waiting(fds)

    def _hand_on(self, fd: int, data: bytes) -> None:
        if not self._lasting:
            self._report_lasting()
        self.observer.on_output(fd, data)

    def _end_of_output(self, fd: int) -> None:
        self._outputs.remove(fd)
        if fd == self.running.terminal:  # nothing reads it any more
            self._keyboard.close()

    @property
    def typing(self) -> bool:
        """Whether there is, or may come, something from the keyboard that the terminal has not taken."""
        return self._keyboard.busy

    def type(self, data: bytes) -> None:
        """Type into the cell's terminal, as it takes it. Nothing happens if the cell has none. The own thread only."""
        self._keyboard.type(data)

    def _drain(self) -> None:
        """Hand on what the dead cell left in its pipes.

        It never waits and always ends: a process outside the container may hold a pipe and write to it for ever.
        """
        channel = self.running.channel.fileno()
        for _ in range(_DRAIN_ROUNDS):
            ready = [(fd, event) for fd, event in self._poll.poll(0) if fd == channel or self._is_output(fd)]
            if not ready:
                return
            for fd, event in ready:
                if fd != channel:
                    self.take(fd, event)
                elif not self._read_message():
                    self._poll.unregister(fd)

    def _is_output(self, fd: int) -> bool:
        return fd in self.outputs or self._outputs.stands_for_lent(fd)

    def _outcome(self) -> Outcome:
        wall_time = time.monotonic() - self.started
        if self.running.failed is not None:
            raise setup_failed(self.running.failed)
        ended = self.running.ended
        if ended is None:
            lost, grace = self.running.lost, self.running.grace
            return from_status(None, stopped=self.stopped or lost, wall_time=wall_time, grace=grace)
        return from_status(
            int(ended["ended"]),
            stopped=self.stopped,
            wall_time=wall_time,
            cpu_time=float(ended["cpu"]),
            peak_memory=int(ended["peak_memory"]),
        )
