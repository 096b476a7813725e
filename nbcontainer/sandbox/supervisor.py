"""Following a container to its end: its output as it comes, its time limit, an interrupt, its outcome."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.errors import SandboxError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.outcome import INTERRUPTED, KILLED, TIMEOUT, Outcome, from_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nbcontainer.sandbox.handle import ContainerHandle

GRACE = 0.4
"""Seconds between asking a cell to end and ending it."""

BRIEF = 0.005
"""Seconds in which a cell that shows nothing comes and goes without anybody being told."""

_CHUNK = 1 << 16
_PIPE_SIZE = 1 << 20  # bytes; fewer switches between a writing cell and the notebook
_DRAIN_ROUNDS = 1000  # a terminal gives out a page or less at a time, and holds some dozens of them


def output_pipe() -> tuple[int, int]:
    """A pipe for one stream: (read end, write end), close-on-exec; the caller closes both.

    Its mode lets every user of the container open /dev/stdout, which is /proc/self/fd/1: the pipe's owner is the
    notebook's user, who need not exist in there.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.fchmod(writer, 0o666)
    except OSError:
        protocol.close((reader, writer))
        raise
    with contextlib.suppress(OSError):  # the user's pipes take as much memory as they may (pipe(7))
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return reader, writer


def _lost(do: str, error: OSError) -> SandboxError:
    return SandboxError(f"cannot {do}: {error.strerror or error}", hint="it was ended: run it again")


@dataclass
class Supervisor:
    """One container being followed.

    `sinks` take what comes from each descriptor; the terminal's go to `terminal_sink`, and what is read from
    `keyboard` goes to the terminal. `on_control_directory` gets the control directory's descriptor and its terminal's,
    and returns more sinks. `timeout` in seconds, None for no limit. `started` is when the cell was sent off
    (time.monotonic()).
    `on_lasting` is called once there is something to see of the cell: before its first output or terminal is handed
    on, or when it has not ended within BRIEF. `on_alarm` is called when `alarm`, an eventfd, has been counted up.
    """

    running: ContainerHandle
    sinks: dict[int, Callable[[bytes], None]]
    timeout: float | None = None
    terminal_sink: Callable[[bytes], None] | None = None
    keyboard: int = -1
    on_terminal: Callable[[int], None] | None = None
    on_control_directory: Callable[[int, int], Mapping[int, Callable[[bytes], None]]] | None = None
    on_lasting: Callable[[], None] | None = None
    alarm: int = -1
    on_alarm: Callable[[], None] | None = None
    started: float = field(default_factory=time.monotonic)
    stopped: str = ""
    _wake: int = -1
    _waking: threading.Lock = field(default_factory=threading.Lock)
    _kill_at: float | None = None
    _init_dead: bool = False
    _typed: bytearray = field(default_factory=bytearray)

    def stop(self, reason: str, *, gently: bool = True) -> None:
        """Ends the container: its cell is sent SIGTERM (SIGINT for an interrupt), and everything dies after GRACE.

        From any thread: the one that follows is woken up to look at the clock.
        """
        self._stop(reason, gently=gently)
        with self._waking:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _stop(self, reason: str, *, gently: bool) -> None:
        if self.stopped or not gently:
            self._kill_at = time.monotonic()
            self.stopped = self.stopped or reason
            self.running.kill()
            return
        self.stopped = reason
        self._kill_at = time.monotonic() + GRACE
        self.running.signal(signal.SIGINT if reason == INTERRUPTED else signal.SIGTERM)

    def to_end(self) -> Outcome:
        """Reads until no process of the cell's is left; its outcome. Raises `SetupFailed` where it could not start.

        Init, which has said so, may still be busy dying, and its mounts with it: `ContainerHandle.wait` waits for that.

        A KeyboardInterrupt in here stops the container; a second one kills it at once. Any other exception, of a sink
        for one, kills it and comes out when it is dead.
        """
        poll = select.poll()
        try:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            for fd in (*self.sinks, self.running.channel.fileno(), self.running.pidfd, self._wake):
                poll.register(fd, select.POLLIN)
            if self.alarm >= 0:
                poll.register(self.alarm, select.POLLIN)
            while not self._init_dead and self.running.ended is None:
                try:
                    self._once(poll)
                except KeyboardInterrupt:
                    self.stop(INTERRUPTED)
            self._drain(poll)
        except BaseException as error:
            self.running.kill()
            self.running.wait()
            if isinstance(error, OSError) and self._wake < 0:
                raise _lost("follow the cell", error) from error
            raise
        finally:
            with self._waking:
                protocol.close((self._wake,))
                self._wake = -1
        return self._outcome()

    def _once(self, poll: select.poll) -> None:
        for fd, event in poll.poll(self._patience()):
            if event & select.POLLOUT:
                self._hand_over_typed(poll)
            if event == select.POLLOUT:
                continue
            if fd == self.running.pidfd:
                self._init_dead = True
            elif fd == self.running.channel.fileno():
                self._take_message(poll, fd)
            elif fd in (self._wake, self.alarm):
                os.eventfd_read(fd)
                if fd == self.alarm and self.on_alarm is not None:
                    self.on_alarm()
            elif fd == self.keyboard:
                self._type(poll)
            elif fd in self.sinks and (event == select.POLLHUP or not self._take_output(fd)):
                self._end_of_output(poll, fd)
        self._look_at_the_clock(time.monotonic())

    def _look_at_the_clock(self, now: float) -> None:
        if now - self.started >= BRIEF:
            self._lasts()
        if self._kill_at is not None and now >= self._kill_at:
            self.running.kill()
            self._kill_at = None
        elif self.timeout is not None and not self.stopped and now - self.started >= self.timeout:
            self.stop(TIMEOUT)

    def _patience(self) -> float | None:
        """Milliseconds to the next thing to do without being asked; None for none."""
        deadlines = [] if self._kill_at is None else [self._kill_at]
        if self.on_lasting is not None:
            deadlines.append(self.started + BRIEF)
        if self.timeout is not None and not self.stopped:
            deadlines.append(self.started + self.timeout)
        return max(0.0, (min(deadlines) - time.monotonic()) * 1000) + 1 if deadlines else None

    def _lasts(self) -> None:
        if self.on_lasting is not None and self.running.ended is None:
            tell, self.on_lasting = self.on_lasting, None
            tell()

    def _take_message(self, poll: select.poll, fd: int) -> None:
        had_terminal, had_control_directory = self.running.terminal >= 0, bool(self.running.control_directory)
        if not self._hear():
            poll.unregister(fd)
        if self.running.terminal >= 0 or self.running.control_directory:
            self._lasts()
        if self.running.terminal >= 0 and not had_terminal and self.terminal_sink is not None:
            os.set_blocking(self.running.terminal, False)
            self.sinks[self.running.terminal] = self.terminal_sink
            poll.register(self.running.terminal, select.POLLIN)
            if self.on_terminal is not None:
                self.on_terminal(self.running.terminal)
            if self.keyboard >= 0:
                poll.register(self.keyboard, select.POLLIN)
        if self.running.control_directory and not had_control_directory and self.on_control_directory is not None:
            directory, terminal = self.running.control_directory
            for more, sink in self.on_control_directory(directory, terminal).items():
                self.sinks[more] = sink
                poll.register(more, select.POLLIN)

    def _hear(self) -> bool:
        try:
            return self.running.read()
        except OSError as error:
            raise _lost("hear of the cell", error) from error

    def _take_output(self, fd: int) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO and os.isatty(fd):  # a terminal whose other end is closed
                return False
            raise _lost("read what the cell writes", error) from error
        if data:
            self._lasts()
            self.sinks[fd](data)
        return bool(data)

    def _end_of_output(self, poll: select.poll, fd: int) -> None:
        poll.unregister(fd)
        if fd == self.running.terminal and self.keyboard >= 0:  # nobody reads what is typed any more
            with contextlib.suppress(KeyError):
                poll.unregister(self.keyboard)
            self.keyboard = -1

    def _type(self, poll: select.poll) -> None:
        """Takes what was typed, and nothing more until the terminal has that: a cell need not read its input."""
        poll.unregister(self.keyboard)
        typed = os.read(self.keyboard, _CHUNK)
        if not typed:
            self.keyboard = -1
        self._typed += typed or b"\x04"
        poll.modify(self.running.terminal, select.POLLIN | select.POLLOUT)

    def _hand_over_typed(self, poll: select.poll) -> None:
        with contextlib.suppress(BlockingIOError):
            del self._typed[: os.write(self.running.terminal, self._typed)]
        if not self._typed:
            poll.modify(self.running.terminal, select.POLLIN)
            if self.keyboard >= 0:
                poll.register(self.keyboard, select.POLLIN)

    def _drain(self, poll: select.poll) -> None:
        """What the dead left in the pipes. Never waits, nor goes on for ever: one may be in the hands of the living."""
        for _ in range(_DRAIN_ROUNDS):
            ready = [fd for fd, _ in poll.poll(0) if fd in self.sinks or fd == self.running.channel.fileno()]
            if not ready:
                return
            for fd in ready:
                if not (self._take_output(fd) if fd in self.sinks else self._hear()):
                    poll.unregister(fd)

    def _outcome(self) -> Outcome:
        wall = time.monotonic() - self.started
        if self.running.failed is not None:
            raise setup_failed(self.running.failed)
        ended = self.running.ended
        if ended is None:
            return from_status(None, stopped=self.stopped or KILLED, wall_time=wall)
        return from_status(
            int(ended["ended"]),
            stopped=self.stopped,
            wall_time=wall,
            cpu_time=float(ended["cpu"]),
            peak_memory=int(ended["peak_memory"]),
        )
