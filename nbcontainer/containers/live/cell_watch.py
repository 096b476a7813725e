"""One cell in a live session: sent, watched, and ended if it is interrupted or takes too long."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.containers.live import processes
from nbcontainer.containers.live.messages import INTERRUPT, OVER
from nbcontainer.linux.procfs import descendants
from nbcontainer.linux.signals import TURN
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox.prompts.asking import GLANCE, Prompter

if TYPE_CHECKING:
    from nbcontainer.containers.live.messages import Message
    from nbcontainer.containers.live.process import ShellProcess
    from nbcontainer.sandbox.prompts.asking import Keyboard

GRACE = 3.0
"""Seconds for an interrupted cell to end before its processes are killed, and then for the shell to answer."""
_INSIST = 0.1  # seconds until an interrupt is sent again to the processes that missed it
REPEAT = 0.25  # seconds until a line that the shell has not answered is sent again
LAST_GRACE = 1.0  # seconds from there until the shell is killed

KEPT = "the next cell runs in a new one; files are kept, variables and background jobs are not"
"""What a person has to know if the interpreter was killed."""


@dataclass(frozen=True)
class CellEnd:
    """How a cell ended: its exit status, `reason` as in an outcome, and a note about the shell for the person.

    `interpreter` is the outcome of the interpreter, if that is why the cell ended.
    """

    status: int
    reason: Reason = Reason.EXITED
    note: str = ""
    interpreter: Outcome | None = None

    def outcome(self, wall_time: float = 0.0) -> Outcome:
        """Return the outcome of the cell, which took `wall_time` seconds."""
        if self.interpreter is not None:
            return replace(self.interpreter, wall_time=wall_time)
        return Outcome(self.reason, self.status, wall_time=wall_time)


class CellWatch:
    """One cell, from before it is sent to the shell to its end."""

    def __init__(
        self,
        number: int,
        line: str,
        process: ShellProcess,
        keyboard: Keyboard | None,
        timeout: float | None,
    ) -> None:
        self.options: str | None = None
        self.over = False
        self.signalled = False
        self._number = str(number)
        self._line = line
        self._send_at: float | None = 0.0
        self.process = process
        self._prompter = None if keyboard is None else self._make_prompter(keyboard)
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
        self._glance = 0.0
        self._killed = False
        self._end: CellEnd | None = None

    @property
    def unseen(self) -> bool:
        """Whether the interpreter ended before it began the cell, and not for an interrupt."""
        return self.over and not self._begun and not self._asked_to_stop

    def to_end(self) -> CellEnd:
        """Send the cell, and return how it ended."""
        if self._prompter is None:  # which waits for the person, while output comes
            self.process.borrow()
        try:
            self._send()
            while self._end is None:
                message = self.process.next_message(self._patience())
                if message is not None:
                    self._take(message)
                # Messages without an end put off no deadline, and none is left when the cell has ended.
                if self._end is None and (message is None or self._patience() == 0):
                    self._look_around()
        finally:
            self.process.give_back()
        return self._end

    def _send(self) -> None:
        """Send the cell's line, which the shell may lose to a signal of the last cell: it is sent until answered."""
        assert self.process.channel is not None
        self.process.channel.send(self._line)
        self._send_at = time.monotonic() + REPEAT

    def _patience(self) -> float:
        glance = None if self._prompter is None else self._glance
        moments = [
            moment
            for moment in (self._deadline, self._times_out, self._insist, self._send_at, glance)
            if moment is not None
        ]
        return min(max(0.0, min(moments) - time.monotonic()), TURN) if moments else TURN

    def _take(self, message: Message) -> None:
        match message:
            case ("begun", self._number, how):
                self._begin(how)
            case ("done", self._number, status, *options):
                self.options = options[0] if options else ""
                self._finish(_number(status), "the cell was killed, since it ignored the interrupt")
            case ("fell", status):
                self._finish(
                    _number(status),
                    "the cell ended the shell; variables and functions are as before this cell",
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
        if self.process.error is not None:
            raise self.process.error
        outcome = self.process.outcome
        assert outcome is not None
        stopped = self._reason != Reason.EXITED
        how = "was killed, since the cell did not end" if stopped else f"ended ({outcome.describe()})"
        note = f"the {self.process.noun} {how}: {KEPT}"
        self._end = (
            CellEnd(outcome.exit_code, self._reason, note)
            if stopped
            else CellEnd(outcome.exit_code, outcome.reason, note, outcome)
        )

    def _look_around(self) -> None:
        """Do the first thing that is due: an end before all that is done again and again."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self._go_further()
        elif self._times_out is not None and now >= self._times_out:
            self._times_out = None
            self._stop(Reason.TIMEOUT)
        elif self._send_at is not None and now >= self._send_at:
            self._send()
        elif self._insist is not None and now >= self._insist:
            self.process.interrupt((signal.SIGURG,))
            self.interrupt_rest()
            self._insist = time.monotonic() + _INSIST
        elif self._prompter is not None:
            if not self._stage:
                self._prompter.look()
            self._glance = time.monotonic() + GLANCE

    # Ending it

    def _stop(self, reason: Reason) -> None:
        if self._reason == Reason.EXITED:
            self._reason = reason
        self._asked_to_stop += 1
        if self._begun or self._stage == 0:
            self._go_further()

    def _begin(self, how: str) -> None:
        """Note that the shell runs the cell now, and send the interrupts that were asked for before."""
        self._begun, self._send_at = True, None
        self._gently = how == "one"
        asked, self._stage = self._asked_to_stop, 0
        for _ in range(asked):
            self._go_further()

    def _go_further(self) -> None:
        """Interrupt the cell; the next time, kill the processes it started; the third time, kill the shell."""
        self._stage += 1
        if self._stage == 1:
            self._deadline = time.monotonic() + GRACE
            if self._begun:
                self._interrupt()
        elif self._stage == 2 and self._begun:
            self._deadline = time.monotonic() + LAST_GRACE
            self._killed = bool(processes.kill_since(self.process.init, self._since, self.process.find_shell()))
        else:
            self._deadline = None
            self.process.kill(self._reason)

    def _interrupt(self) -> None:
        self.signalled = True
        self._insist = time.monotonic() + _INSIST
        self._seen = set(descendants(self.process.init))
        self.process.interrupt((signal.SIGINT,) if self._gently else (signal.SIGURG, signal.SIGINT))

    def interrupt_rest(self) -> None:
        """Interrupt the cell's processes that missed an interrupt: they may outlive the cell."""
        self.process.interrupt_rest(self._since, self._seen)

    # Its input

    def _make_prompter(self, keyboard: Keyboard) -> Prompter:
        process, channel = self.process, self.process.channel
        assert channel is not None
        return Prompter(keyboard, lambda: process.input_wait, lambda: channel.secret, channel.type)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 1
