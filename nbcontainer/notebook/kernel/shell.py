"""The shell of a kernel: runs cells, answers questions, is interrupted, and comes back whatever becomes of it."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from nbcontainer.containers.run import Request, choose_container
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.images import library
from nbcontainer.notebook.kernel import contents, processes
from nbcontainer.notebook.kernel.life import INTERRUPT, OVER, STARTED, Life
from nbcontainer.sandbox.exchange import EXCHANGE
from nbcontainer.sandbox.outcome import EXITED, INTERRUPTED, TIMEOUT

if TYPE_CHECKING:
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.images.oci import Image
    from nbcontainer.images.progress import Listener as Progress
    from nbcontainer.notebook.kernel.exchange import Exchange
    from nbcontainer.notebook.kernel.life import Listener, Message
    from nbcontainer.notebook.kernel.processes import Wait

GRACE = 3.0
"""Seconds that an interrupted cell has to end before what it started is killed."""

_LAST_GRACE = 1.0  # seconds from there until the shell itself is
_FAREWELL = 0.5  # seconds that a shell has to end by itself
_INSIST = 0.1  # seconds between the signals of an interrupt, where they must not come together
_GLANCE = 0.05  # seconds between looks at who waits for input
_QUESTION_LIMIT = 4.0  # seconds that an answer may take

_HISTORY = 4000  # characters of the cells, as those of a cell in a record
_KEPT_OPTIONS = "aefuvxC"  # those that common.sh puts away between cells
_MAY_BE_STRICT = re.compile(r"\b(?:set|shopt)\b")
_MAY_END = re.compile(r"\b(?:exit|exec|kill)\b")


class Keyboard(Protocol):
    """A person who can be asked for a line."""

    def ask(self, secret: bool) -> None:
        """Asks for one; `secret` if it must not be seen."""

    def answer(self) -> str | None:
        """What was answered, without its line's end; None as long as nothing was."""


@dataclass(frozen=True)
class End:
    """How a cell ended: its exit status, `reason` as in an outcome, and what there is to say of the shell."""

    status: int
    reason: str = EXITED
    note: str = ""


class Shell:
    """The shell of `request`'s container, chosen and started when it is first needed.

    `program` is its name in the image, empty for bash where there is one. Everything but `interrupt` is for one thread.
    """

    def __init__(self, engine: Engine, request: Request, listener: Listener, program: str = "") -> None:
        self.engine = engine
        self.container: Container | None = None
        self._image: Image | None = None
        self._listener = listener
        self._timeout = request.options.timeout
        options = replace(request.options, env=(*contents.ENVIRONMENT, *request.options.env), timeout=None)
        self._request = replace(request, script=contents.boot(program), options=options)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._life: Life | None = None
        self._number = 0
        self._busy = False
        self._options = ""
        self._told: list[str] = []

    @property
    def init(self) -> int:
        """Host pid of the container's init; 0 where nothing runs."""
        return 0 if self._life is None else self._life.init

    @property
    def told(self) -> str:
        """The cells that were run in it, as an image's history has them."""
        return "\n".join(self._told)[-_HISTORY:]

    def begin(self, progress: Progress | None = None, *, here: bool = False) -> None:
        """Starts the shell, without waiting for it; with `here`, only from an image that the store has.

        Raises this package's errors where there is no such container.
        """
        if self.container is None:
            request = self._request
            if here:
                request = replace(request, options=replace(request.options, pull=library.NEVER))
            self.container, self._image = choose_container(self.engine, request, progress)
        assert self._image is not None
        if self._life is None:
            self.engine.launcher_for(self._request.options.userns).start()  # it dies with the thread that starts it
            self._options = ""
            self.engine.last = self.container
            self._life = Life(self.container, self._image, self._request, self._listener, self._messages)

    def _exchange(self) -> tuple[Life, Exchange]:
        """The life that goes on, or a new one, when it can be talked to. Raises its error where it could not start."""
        while True:
            self.begin()
            life = self._life
            assert life is not None
            if life.exchange is not None and not self._has_ended(life):
                return life, life.exchange
            if life.exchange is None:
                self._wait_for_start(life)

    def _has_ended(self, life: Life) -> bool:
        """Whether it ended while nobody looked; if so it is forgotten."""
        if not life.join(0):
            return False
        self._forget()
        return True

    def _wait_for_start(self, life: Life) -> None:
        while True:
            word, *_ = self._messages.get()
            if word == STARTED:
                return
            if word == OVER:
                self._forget()
                raise life.error or ContainerError("the shell's container ended before the shell could begin")

    def _forget(self) -> None:
        self._life = None
        self._messages = queue.SimpleQueue()

    # Cells

    def run(self, code: str, keyboard: Keyboard | None = None) -> End:
        """Runs a cell to its end. Without a keyboard, its standard input is empty.

        Raises `UsageError` for what is no text for a shell, and what a container that cannot start raises.
        """
        program = code.startswith("#!")
        text = encoded(code, program=program)
        self._number += 1
        self._busy = True
        try:
            life, exchange = self._exchange()
            if not program:
                text = (f"set -{self._options}; ".encode() if self._options else b"") + text
            exchange.put(contents.CELL, text)
            watch = _Watch(self._number, life, self._messages, keyboard, self._timeout)
            stdin = f"{EXCHANGE}/keyboard" if keyboard else "/dev/null"
            exchange.tell(f"run {self._number} {stdin} {'program' if program else 'source'} {self._hints(code)}")
            end = watch.to_end()
        finally:
            self._busy = False
        self._told.append(code)
        if watch.over:
            life.join()
            self._forget()
        elif watch.options is not None:
            self._options = "".join(letter for letter in watch.options if letter in _KEPT_OPTIONS)
        return end

    def _hints(self, code: str) -> str:
        """What the shells want to know: whether the cell may end them (r), by `set -e` (e), or may trap signals (t)."""
        strict = "e" in self._options or _MAY_BE_STRICT.search(code)
        risky = strict or _MAY_END.search(code)
        return "".join(letter for letter, given in (("r", risky), ("e", strict), ("t", "trap" in code)) if given) or "-"

    def interrupt(self) -> None:
        """Ends the cell that runs now, if one does; called again, at once. From any thread, and in a signal handler."""
        if self._busy:
            self._messages.put((INTERRUPT, str(self._number)))

    # Questions

    def ask(self, script: str, *, cell: str = "") -> str:
        """What a script writes to its standard output in a subshell of the shell, which is idle.

        `cell` is in the file of the cell meanwhile. Empty for one that takes too long. Raises what a container that
        cannot start raises.
        """
        life, exchange = self._exchange()
        if cell:
            exchange.put(contents.CELL, encoded(cell))
        self._number += 1
        number = str(self._number)
        since = processes.now()
        exchange.put(contents.QUESTION, encoded(script))
        exchange.tell(f"ask {number}")
        for patience in (_QUESTION_LIMIT, _LAST_GRACE):
            with contextlib.suppress(queue.Empty):
                while True:
                    message = self._messages.get(timeout=patience)
                    if message == ("asked", number):
                        answer = exchange.answer() if patience == _QUESTION_LIMIT else b""
                        return answer.decode("utf-8", "replace")
                    if message[0] == OVER:
                        life.join()
                        self._forget()
                        return ""
            processes.kill_since(life.init, since, life.find_shell())
        life.kill()
        return ""

    # The end

    def close(self) -> None:
        """Ends the shell, which may end by itself if it does so at once, and everything in its container."""
        life, self._life = self._life, None
        if life is None:
            return
        if life.exchange is not None and not self._busy:
            with contextlib.suppress(OSError):
                life.exchange.tell("end")
            life.join(_FAREWELL)
        life.kill()
        life.join()


class _Watch:
    """One cell, from before the shell is told of it to its end."""

    def __init__(
        self,
        number: int,
        life: Life,
        messages: queue.SimpleQueue[Message],
        keyboard: Keyboard | None,
        timeout: float | None,
    ) -> None:
        self.options: str | None = None
        self.over = False
        self._number = str(number)
        self._life = life
        self._messages = messages
        self._keyboard = keyboard
        self._since = processes.now()
        self._times_out = None if timeout is None else time.monotonic() + timeout
        self._begun = False
        self._gently = False
        self._insist: float | None = None
        self._reason = EXITED
        self._stage = 0
        self._deadline: float | None = None
        self._killed = False
        self._asked: Wait | None = None
        self._answered: Wait | None = None
        self._end: End | None = None

    def to_end(self) -> End:
        """Sees the cell through."""
        while self._end is None:
            try:
                message = self._messages.get(timeout=self._patience())
            except queue.Empty:
                self._look_around()
            else:
                self._take(message)
        return self._end

    def _patience(self) -> float | None:
        moments = [moment for moment in (self._deadline, self._times_out, self._insist) if moment is not None]
        wait = max(0.0, min(moments) - time.monotonic()) if moments else None
        if self._keyboard is not None:
            wait = _GLANCE if wait is None else min(wait, _GLANCE)
        return wait

    def _take(self, message: Message) -> None:
        match message:
            case ("begun", self._number, how):
                self._begun = True
                self._gently = how == "one"
                if self._stage:
                    self._interrupt()
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
                self._stop(INTERRUPTED)

    def _finish(self, status: int, note: str, *, always: bool = False) -> None:
        reason = self._reason if status else EXITED
        self._end = End(status, reason, note if always or self._killed else "")

    def _is_over(self) -> None:
        self.over = True
        if self._life.error is not None:
            raise self._life.error
        outcome = self._life.outcome
        assert outcome is not None
        stopped = self._reason != EXITED
        how = "was killed, since it did not end the cell" if stopped else f"has ended ({outcome.describe()})"
        note = f"the shell {how}: the next cell begins in a new one; files are kept, variables and background jobs not"
        self._end = End(outcome.exit_code, self._reason if stopped else outcome.reason, note)

    def _look_around(self) -> None:
        now = time.monotonic()
        if self._insist is not None and now >= self._insist:
            self._insist = None
            self._life.interrupt((signal.SIGURG,))
        elif self._deadline is not None and now >= self._deadline:
            self._go_further()
        elif self._times_out is not None and now >= self._times_out:
            self._times_out = None
            self._stop(TIMEOUT)
        elif self._keyboard is not None and not self._stage:
            self._look_for_input(self._keyboard)

    # Ending it

    def _stop(self, reason: str) -> None:
        if self._reason == EXITED:
            self._reason = reason
        self._go_further()

    def _go_further(self) -> None:
        """Interrupts the cell; if that was of no use, kills what it started; and at last the shell."""
        self._stage += 1
        if self._stage == 1:
            self._deadline = time.monotonic() + GRACE
            if self._begun:
                self._interrupt()
        elif self._stage == 2 and self._begun:
            self._deadline = time.monotonic() + _LAST_GRACE
            self._killed = bool(processes.kill_since(self._life.init, self._since, self._life.find_shell()))
        else:
            self._deadline = None
            self._life.kill()

    def _interrupt(self) -> None:
        # bash may lose the second one where a trap of the cell's own takes the first.
        self._insist = time.monotonic() + _INSIST
        self._life.interrupt((signal.SIGINT,) if self._gently else (signal.SIGURG, signal.SIGINT))

    # Its input

    def _look_for_input(self, keyboard: Keyboard) -> None:
        exchange = self._life.exchange
        assert exchange is not None
        if self._asked is not None:
            answer = keyboard.answer()
            if answer is not None:
                exchange.type(answer)
                self._answered, self._asked = self._asked, None
            return
        wait = self._life.asks
        if wait is not None and wait != self._answered:
            self._asked = wait
            keyboard.ask(exchange.echo().secret)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 1


def encoded(text: str, *, program: bool = False) -> bytes:
    """A cell as it is written to its file. Raises `UsageError` for what no shell takes: NUL, and half characters."""
    if not program and "\0" in text:
        position = text.index("\0")
        raise UsageError(
            f"the cell has a NUL character, at position {position}, which no shell takes", hint="remove it"
        )
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"the cell has a character that is no Unicode text, at position {error.start}", hint="remove it"
        ) from None
