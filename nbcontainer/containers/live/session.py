"""A live session: runs cells in one container, answers questions, and starts a new interpreter if one has ended."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import time
from dataclasses import replace
from select import PIPE_BUF
from typing import TYPE_CHECKING

from nbcontainer.containers.cells.request import encode
from nbcontainer.containers.live import cell_watch, contents, processes
from nbcontainer.containers.live.interpreter import SHELL
from nbcontainer.containers.live.messages import INTERRUPT, OVER, STARTED, Messages
from nbcontainer.containers.live.process import ShellProcess
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import CellFailed, ContainerError, UsageError
from nbcontainer.images import library
from nbcontainer.outcome import Reason, from_status
from nbcontainer.sandbox.steps.exchange.display import EXCHANGE

if TYPE_CHECKING:
    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.live.cell_watch import CellEnd
    from nbcontainer.containers.live.channel import Channel
    from nbcontainer.containers.live.interpreter import Interpreter
    from nbcontainer.containers.live.messages import Message
    from nbcontainer.containers.live.process import ShellListener
    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Listener as Progress
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.prompts.asking import Keyboard


_FAREWELL = 0.5  # seconds for an idle shell to exit by itself
_QUESTION_LIMIT = 4.0  # seconds for the answer to a question

_HISTORY = 4000  # characters of the cells, as those of a cell in a record
_KEPT_OPTIONS = "aefuvxC"  # those that common.sh puts away between cells
_MAY_BE_STRICT = re.compile(r"\b(?:set|shopt)\b")
_MAY_END = re.compile(r"\b(?:exit|exec|kill)\b")


class ShellSession:
    """The interpreter in `request`'s container, which is chosen and started when it is first needed.

    `program` is the shell's name in the image; if empty, bash, or sh if there is no bash. The first cell shows `notice`
    if it is not empty. `timeout`, in seconds, is that of the next cell. Call everything but
    `interrupt` from one thread.
    """

    def __init__(
        self,
        engine: Engine,
        request: Request,
        listener: ShellListener,
        program: str = "",
        notice: str = "",
        interpreter: Interpreter = SHELL,
    ) -> None:
        self.engine = engine
        self.request = request
        self.container: Container | None = None
        self._image: Image | None = None
        self._listener = listener
        self.timeout = request.options.timeout
        self.interpreter = interpreter
        self._request = interpreter.starting(request, contents.boot(program) if interpreter is SHELL else "")
        self._messages = Messages()
        self._process: ShellProcess | None = None
        self._number = 0
        self._busy = False
        self._options = ""
        self._cells: list[str] = []
        self._notice = notice
        self.lost_note = ""
        """How the interpreter before ended, for the next cell to show; empty if there is nothing to show."""
        self._error: Exception | None = None
        """What failed at its end, for `close` to return if no cell has shown it."""

    @property
    def init(self) -> int:
        """Host pid of the container's init; 0 if no shell runs."""
        return 0 if self._process is None else self._process.init

    @property
    def handle(self) -> ContainerHandle | None:
        """The handle of the container; None if it has not started or has ended."""
        return None if self._process is None else self._process.handle

    @property
    def image(self) -> Image:
        """The image of the container, which has been chosen."""
        assert self._image is not None
        return self._image

    @property
    def opened(self) -> Container:
        """The container, which has been chosen."""
        assert self.container is not None
        return self.container

    @property
    def running(self) -> bool:
        """Whether the interpreter runs now. If it has ended, the next cell says so."""
        return self._process is not None and not self._has_ended(self._process)

    @property
    def cells_text(self) -> str:
        """The text of the cells that ran, for an image's history."""
        return "\n".join(self._cells)[-_HISTORY:]

    def choose(self, progress: Progress | None = None, *, here: bool = False) -> None:
        """Choose the container, if it has not been; with `here`, only by an image that the store has. Start nothing.

        An interrupt may end it. Raises this package's errors if the container cannot be chosen.
        """
        if self.container is not None:
            return
        request = self._request
        if here:
            selection = replace(request.options.selection, pull=library.NEVER)
            request = replace(request, options=replace(request.options, selection=selection))
        self.container, self._image = choose_container(self.engine, request, progress)

    def begin(self) -> None:
        """Start the interpreter in the container, which has been chosen, if none runs, and do not wait for it.

        No exception of a signal handler may interrupt this: the thread would run without an owner.
        """
        if self._process is None:
            self.engine.launcher_for(
                self._request.options.privileges.userns
            ).start()  # the launcher ends with the thread that starts it
            self._options = ""
            self.engine.last = self.container
            self._process = ShellProcess(
                self.engine,
                self.opened,
                self.image,
                self._request,
                self._listener,
                self._messages,
                self.interpreter,
                lambda: self.cells_text,
            )

    def wake(self) -> None:
        """Wake the interpreter, if it runs and waits, for a cell that comes within a millisecond."""
        if self._process is not None and self._process.channel is not None:
            self._process.channel.wake()

    def _ready_shell(self) -> tuple[ShellProcess, Channel]:
        """Return the running shell, or a new one, and its channel. Raises the error of a shell that cannot start."""
        while True:
            self.choose()
            self.begin()
            process = self._process
            assert process is not None
            if process.channel is not None and not self._has_ended(process):
                return process, process.channel
            if process.channel is None:
                self._wait_for_start(process)

    def _has_ended(self, process: ShellProcess) -> bool:
        """Return whether the shell ended between cells; if so, the next call starts a new one."""
        if not process.join(0):
            return False
        if process.outcome is not None:
            ended = f"ended before this cell ({process.outcome.describe()})"
            self.lost_note = f"the {self.interpreter.noun} {ended}; this cell runs in a new one"
        elif process.error is not None:
            self.lost_note = f"the {self.interpreter.noun} ended before this cell: {process.error}"
        self._forget()
        return True

    def _wait_for_start(self, process: ShellProcess) -> None:
        """Wait until the interpreter has its channel. Interrupts meanwhile are those of the cell that waits.

        One ends the wait for a cell of another notebook: it raises `CellFailed`.
        """
        interrupts = []
        while True:
            word, *rest = self._messages.get()
            if (word, *rest) == (INTERRUPT, str(self._number)):
                interrupts.append((word, *rest))
                process.end_wait()
            if word == STARTED:
                for interrupt in interrupts:
                    self._messages.put(interrupt)
                return
            if word == OVER:
                process.join()
                self._forget()
                if process.gave_up:
                    outcome = from_status(None, stopped=Reason.INTERRUPTED, wall_time=0.0)
                    raise CellFailed(outcome.describe(), outcome=outcome)
                problem = f"the container ended before its {self.interpreter.noun} started"
                raise process.error or ContainerError(problem, hint="run the cell again")

    def _forget(self) -> None:
        """Forget the process, which has ended, and its messages, but not an interrupt of the cell that waits."""
        if self._process is not None:
            self._error = self._process.error
        messages, self._process, self._messages = self._messages, None, Messages()
        while (message := messages.next()) is not None:
            if message == (INTERRUPT, str(self._number)):
                self._messages.put(message)

    # Cells

    def run(self, code: str, keyboard: Keyboard | None = None) -> CellEnd:
        """Run a cell to its end. Without a keyboard, its standard input is empty.

        Raises `UsageError` for text that a shell cannot read, and the errors of a container that cannot start.
        """
        self._number += 1
        self._busy = True
        try:
            program = code.startswith("#!")
            text: bytes | None = encoded(code, program=program)
            self._cells.append(code)
            stdin = f"{EXCHANGE}/keyboard" if keyboard else "/dev/null"
            line = f"run {self._number} {stdin} {'program' if program else 'source'} {self._hints(code)}"
            if self.interpreter.inline and not program and len(whole := f"{line} {json.dumps(code)}") < PIPE_BUF:
                line, text = whole, None
            watched = self._watch(line, text, keyboard)
            end = watched.to_end()
            if watched.unseen:  # the interpreter had ended before it saw the cell
                watched.process.join()
                self._has_ended(watched.process)
                watched = self._watch(line, text, keyboard)
                end = watched.to_end()
        finally:
            self._busy = False
        if watched.signalled and not watched.over:
            watched.over = not self._let_signals_pass(watched.process)
            watched.interrupt_rest()
            if watched.over and watched.process.error is not None:  # the cell itself had ended before that
                self.lost_note = "; ".join(filter(None, (self.lost_note, str(watched.process.error))))
        if watched.over:
            watched.process.join()
            self._forget()
        elif watched.options is not None:
            self._options = "".join(letter for letter in watched.options if letter in _KEPT_OPTIONS)
        notes, self.lost_note, self._notice = [self._notice, self.lost_note, end.note], "", ""
        self._error = None
        note = "; ".join(filter(None, notes))
        return end if note == end.note else replace(end, note=note)

    def _watch(self, line: str, text: bytes | None, keyboard: Keyboard | None) -> cell_watch.CellWatch:
        """Write the cell's file for the running interpreter, or for a new one; return the cell, which is not sent.

        Without `text`, the line has it all.
        """
        process, channel = self._ready_shell()
        if text is not None:
            if self._options and self.interpreter is SHELL and not text.startswith(b"#!"):
                text = f"set -{self._options}; ".encode() + text
            while not channel.write_cell(text):
                process, channel = self._ready_shell()
        return cell_watch.CellWatch(self._number, line, process, keyboard, self.timeout)

    def _let_signals_pass(self, process: ShellProcess) -> bool:
        """Wait until the shell has handled an interrupt's signals, which would end the next cell; False if it ended.

        The shell handles a signal that was sent before a line before it answers that line. One that does not answer is
        killed.
        """
        self._number += 1
        number, deadline = str(self._number), time.monotonic() + cell_watch.GRACE
        asked, killed = 0.0, False
        while True:  # whatever else comes: a process of the container can write messages without an end
            now = time.monotonic()
            if now >= deadline and not killed:
                killed = True
                how = "was killed, since it did not answer after the interrupt"
                self.lost_note = f"the {self.interpreter.noun} {how}: {cell_watch.KEPT}"
                process.kill(Reason.INTERRUPTED)
            if now >= asked + cell_watch.REPEAT and process.channel is not None:
                asked = now
                process.channel.send(f"sync {number}")
            message = self._next(cell_watch.REPEAT)
            if message == ("synced", number) and not killed:
                return True
            if message == (OVER,):
                return False

    def _hints(self, code: str) -> str:
        """Return hints for the shells: whether the cell may end them (r), by `set -e` (e), or may trap signals (t)."""
        if self.interpreter is not SHELL:
            return "-"
        strict = "e" in self._options or _MAY_BE_STRICT.search(code)
        risky = strict or _MAY_END.search(code)
        return "".join(letter for letter, given in (("r", risky), ("e", strict), ("t", "trap" in code)) if given) or "-"

    def interrupt(self) -> bool:
        """End the cell that runs now; a second call does it at once. Return whether one runs.

        From any thread or signal handler.
        """
        busy = self._busy
        if busy:
            self._messages.put((INTERRUPT, str(self._number)))
        return busy

    # Questions

    def ask(self, script: str, *, cell: str = "") -> str:
        """Return the standard output of a script that runs in a subshell of the shell, which must be idle.

        `cell` is in the cell's file meanwhile. The result is empty if the script takes too long. It pulls no image, and
        `interrupt` ends its wait for a cell of another notebook. Raises the errors of a container that cannot start.
        """
        self.choose(here=True)
        self._number += 1
        number = str(self._number)
        self._busy = True
        try:
            process, channel = self._ready_shell()
        finally:
            self._busy = False
        if cell:
            channel.write_cell(encoded(cell))
        since = processes.now()
        channel.write_question(encoded(script))
        deadline = time.monotonic() + _QUESTION_LIMIT
        channel.send(f"ask {number}")
        while (left := deadline - time.monotonic()) > 0:
            message = self._next(min(left, cell_watch.REPEAT))
            if message == ("asked", number):
                return channel.answer().decode("utf-8", "replace")
            if message == (OVER,):
                process.join()
                self._has_ended(process)
                return ""
            if message is None:
                channel.send(f"ask {number}")
        processes.kill_since(process.init, since, process.find_shell())
        deadline = time.monotonic() + cell_watch.LAST_GRACE
        while (left := deadline - time.monotonic()) > 0:
            if self._next(left) == ("asked", number):
                return ""
        process.kill(Reason.INTERRUPTED)
        return ""

    def _next(self, patience: float) -> Message | None:
        with contextlib.suppress(queue.Empty):
            return self._messages.get(timeout=patience)
        return None

    # The end

    def close(self, grace: float = _FAREWELL, reason: Reason = Reason.STOPPED) -> Exception | None:
        """End the interpreter and everything in its container. An idle one has `grace` seconds to exit by itself.

        Without any, it is not asked to. One that is killed has `reason` in its outcome. Return what failed at the end,
        such as the error of changes that are lost.
        """
        process, self._process = self._process, None
        if process is None:
            error, self._error = self._error, None
            return error
        asked = 0.0
        if grace > 0 and process.channel is not None and not self._busy:
            with contextlib.suppress(OSError):
                process.channel.send(f"end {self._number + 1}")
            process.join(grace)
            asked = grace
        process.kill(reason, asked)
        process.join()
        return process.error


def encoded(text: str, *, program: bool = False) -> bytes:
    """Return a cell's bytes for its file. Raises `UsageError` for NUL, which shells drop, and for half characters."""
    if not program and "\0" in text:
        position = text.index("\0")
        raise UsageError(f"invalid cell: NUL character at position {position}", hint="remove it")
    return encode(text)
