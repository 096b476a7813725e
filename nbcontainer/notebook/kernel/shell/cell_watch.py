"""One cell: from before the shell is told of it to its end, which it may have to be brought to."""

from __future__ import annotations

import queue
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.linux.procfs import descendants
from nbcontainer.notebook.kernel.shell import processes
from nbcontainer.notebook.kernel.shell.process import INTERRUPT, OVER
from nbcontainer.sandbox.outcome import Reason

if TYPE_CHECKING:
    from nbcontainer.notebook.kernel.shell.process import Message, ShellProcess
    from nbcontainer.notebook.kernel.shell.processes import Wait

GRACE = 3.0
"""Seconds that an interrupted cell has to end before what it started is killed."""
_INSIST = 0.1  # seconds until an interrupt is sent again, to those that it did not reach
REPEAT = 0.25  # seconds until a shell that says nothing is told once more
_GLANCE = 0.05  # seconds between looks at who waits for input
LAST_GRACE = 1.0  # seconds from there until the shell itself is


class Keyboard(Protocol):
    """A person who can be asked for a line."""

    def ask(self, secret: bool) -> None:
        """Asks for one; `secret` if it must not be seen."""

    def answer(self) -> str | None:
        """What was answered, without its line's end; None as long as nothing was."""


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended: its exit status, `reason` as in an outcome, and what there is to say of the shell."""

    status: int
    reason: Reason = Reason.EXITED
    note: str = ""


class CellWatch:
    """One cell, from before the shell is told of it to its end."""

    def __init__(
        self,
        number: int,
        line: str,
        life: ShellProcess,
        messages: queue.SimpleQueue[Message],
        keyboard: Keyboard | None,
        timeout: float | None,
    ) -> None:
        self.options: str | None = None
        self.over = False
        self.signalled = False
        self._number = str(number)
        self._line = line
        self._tell_at: float | None = 0.0
        self._life = life
        self._messages = messages
        self._keyboard = keyboard
        self._since = processes.now()
        self._times_out = None if timeout is None else time.monotonic() + timeout
        self._begun = False
        self._gently = False
        self._insist: float | None = None
        self._seen: set[int] = set()
        self._reason = Reason.EXITED
        self._stage = 0
        self._asked_to_stop = 0
        self._deadline: float | None = None
        self._killed = False
        self._asked: Wait | None = None
        self._answered: Wait | None = None
        self._end: CellEnd | None = None

    def to_end(self) -> CellEnd:
        """Sees the cell through."""
        self._tell()
        while self._end is None:
            try:
                message = self._messages.get(timeout=self._patience())
            except queue.Empty:
                self._look_around()
            else:
                self._take(message)
        return self._end

    def _tell(self) -> None:
        """Tells the shell, which may lose what it reads to a signal of the last cell's."""
        assert self._life.control_directory is not None
        self._life.control_directory.tell(self._line)
        self._tell_at = time.monotonic() + REPEAT

    def _patience(self) -> float | None:
        moments = [
            moment for moment in (self._deadline, self._times_out, self._insist, self._tell_at) if moment is not None
        ]
        wait = max(0.0, min(moments) - time.monotonic()) if moments else None
        if self._keyboard is not None:
            wait = _GLANCE if wait is None else min(wait, _GLANCE)
        return wait

    def _take(self, message: Message) -> None:
        match message:
            case ("begun", self._number, how):
                self._begin(how)
            case ("done", self._number, status, *options):
                self.options = options[0] if options else ""
                self._finish(_number(status), "the cell did not end when it was told to: it was killed")
            case ("fell", status):
                self._finish(
                    _number(status),
                    "the shell has ended: variables and functions are as they were before this cell",
                    always=True,
                )
            case (first, *_) if first == OVER:
                self._is_over()
            case (first, self._number) if first == INTERRUPT:
                self._stop(Reason.INTERRUPTED)

    def _finish(self, status: int, note: str, *, always: bool = False) -> None:
        reason = self._reason if status else Reason.EXITED
        self._end = CellEnd(status, reason, note if always or self._killed else "")

    def _is_over(self) -> None:
        self.over = True
        if self._life.error is not None:
            raise self._life.error
        outcome = self._life.outcome
        assert outcome is not None
        stopped = self._reason != Reason.EXITED
        how = "was killed, since it did not end the cell" if stopped else f"has ended ({outcome.describe()})"
        note = f"the shell {how}: the next cell begins in a new one; files are kept, variables and background jobs not"
        self._end = CellEnd(outcome.exit_code, self._reason if stopped else outcome.reason, note)

    def _look_around(self) -> None:
        now = time.monotonic()
        if self._tell_at is not None and now >= self._tell_at:
            self._tell()
        elif self._insist is not None and now >= self._insist:
            self._insist = now + _INSIST
            self._life.interrupt((signal.SIGURG,))
            self.interrupt_rest()
        elif self._deadline is not None and now >= self._deadline:
            self._go_further()
        elif self._times_out is not None and now >= self._times_out:
            self._times_out = None
            self._stop(Reason.TIMEOUT)
        elif self._keyboard is not None and not self._stage:
            self._look_for_input(self._keyboard)

    # Ending it

    def _stop(self, reason: Reason) -> None:
        if self._reason == Reason.EXITED:
            self._reason = reason
        self._asked_to_stop += 1
        if self._begun or self._stage == 0:
            self._go_further()

    def _begin(self, how: str) -> None:
        """The shell is at the cell now. What it was to be told before, it is told now."""
        self._begun, self._tell_at = True, None
        self._gently = how == "one"
        asked, self._stage = self._asked_to_stop, 0
        for _ in range(asked):
            self._go_further()

    def _go_further(self) -> None:
        """Interrupts the cell; if that was of no use, kills what it started; and at last the shell."""
        self._stage += 1
        if self._stage == 1:
            self._deadline = time.monotonic() + GRACE
            if self._begun:
                self._interrupt()
        elif self._stage == 2 and self._begun:
            self._deadline = time.monotonic() + LAST_GRACE
            self._killed = bool(processes.kill_since(self._life.init, self._since, self._life.find_shell()))
        else:
            self._deadline = None
            self._life.kill()

    def _interrupt(self) -> None:
        self.signalled = True
        self._insist = time.monotonic() + _INSIST
        self._seen = set(descendants(self._life.init))
        self._life.interrupt((signal.SIGINT,) if self._gently else (signal.SIGURG, signal.SIGINT))

    def interrupt_rest(self) -> None:
        """Interrupts what the cell started and an interrupt has missed: it may be alive when the cell has ended."""
        self._life.interrupt_rest(self._since, self._seen)

    # Its input

    def _look_for_input(self, keyboard: Keyboard) -> None:
        control_directory = self._life.control_directory
        assert control_directory is not None
        if self._asked is not None:
            answer = keyboard.answer()
            if answer is not None:
                control_directory.type(answer)
                self._answered, self._asked = self._asked, None
            return
        wait = self._life.asks
        if wait is not None and wait != self._answered:
            self._asked = wait
            keyboard.ask(control_directory.echo().secret)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 1
