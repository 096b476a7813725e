"""The shell of a kernel: runs cells, answers questions, is interrupted, and comes back whatever becomes of it."""

from __future__ import annotations

import contextlib
import queue
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.cell import encode
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.images import library
from nbcontainer.notebook.kernel.shell import cell_watch, contents, processes
from nbcontainer.notebook.kernel.shell.process import INTERRUPT, OVER, STARTED, ShellProcess
from nbcontainer.sandbox.steps.control_directory import EXCHANGE

if TYPE_CHECKING:
    from nbcontainer.containers.cell import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.notebook.kernel.shell.cell_watch import CellEnd, Keyboard
    from nbcontainer.notebook.kernel.shell.channel import Channel
    from nbcontainer.notebook.kernel.shell.process import Message, ShellListener
    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Listener as Progress


_FAREWELL = 0.5  # seconds that a shell has to end by itself
_QUESTION_LIMIT = 4.0  # seconds that an answer may take

_HISTORY = 4000  # characters of the cells, as those of a cell in a record
_KEPT_OPTIONS = "aefuvxC"  # those that common.sh puts away between cells
_MAY_BE_STRICT = re.compile(r"\b(?:set|shopt)\b")
_MAY_END = re.compile(r"\b(?:exit|exec|kill)\b")


class ShellSession:
    """The shell of `request`'s container, chosen and started when it is first needed.

    `program` is its name in the image, empty for bash where there is one. Everything but `interrupt` is for one thread.
    """

    def __init__(self, engine: Engine, request: Request, listener: ShellListener, program: str = "") -> None:
        self.engine = engine
        self.container: Container | None = None
        self._image: Image | None = None
        self._listener = listener
        self._timeout = request.options.timeout
        options = replace(request.options, env=(*contents.ENVIRONMENT, *request.options.env), timeout=None)
        self._request = replace(request, script=contents.boot(program), options=options)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._life: ShellProcess | None = None
        self._number = 0
        self._busy = False
        self._options = ""
        self._told: list[str] = []
        self._lost = ""

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
            self._life = ShellProcess(
                self.engine, self.container, self._image, self._request, self._listener, self._messages
            )

    def _exchange(self) -> tuple[ShellProcess, Channel]:
        """The life that goes on, or a new one, when it can be talked to. Raises its error where it could not start."""
        while True:
            self.begin()
            life = self._life
            assert life is not None
            if life.control_directory is not None and not self._has_ended(life):
                return life, life.control_directory
            if life.control_directory is None:
                self._wait_for_start(life)

    def _has_ended(self, life: ShellProcess) -> bool:
        """Whether it ended while nobody looked; if so it is forgotten."""
        if not life.join(0):
            return False
        if life.outcome is not None:
            self._lost = f"the shell had ended before this cell ({life.outcome.describe()}): this is a new one"
        self._forget()
        return True

    def _wait_for_start(self, life: ShellProcess) -> None:
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

    def run(self, code: str, keyboard: Keyboard | None = None) -> CellEnd:
        """Runs a cell to its end. Without a keyboard, its standard input is empty.

        Raises `UsageError` for what is no text for a shell, and what a container that cannot start raises.
        """
        program = code.startswith("#!")
        text = encoded(code, program=program)
        self._number += 1
        self._busy = True
        try:
            life, control_directory = self._exchange()
            if not program:
                text = (f"set -{self._options}; ".encode() if self._options else b"") + text
            while not control_directory.put(contents.CELL, text):
                life, control_directory = self._exchange()
            stdin = f"{EXCHANGE}/keyboard" if keyboard else "/dev/null"
            line = f"run {self._number} {stdin} {'program' if program else 'source'} {self._hints(code)}"
            watched = cell_watch.CellWatch(self._number, line, life, self._messages, keyboard, self._timeout)
            end = watched.to_end()
        finally:
            self._busy = False
        self._told.append(code)
        if watched.signalled and not watched.over:
            watched.over = not self._let_signals_pass(control_directory)
            watched.interrupt_rest()
        if watched.over:
            life.join()
            self._forget()
        elif watched.options is not None:
            self._options = "".join(letter for letter in watched.options if letter in _KEPT_OPTIONS)
        notes, self._lost = [self._lost, end.note], ""
        return replace(end, note="; ".join(filter(None, notes)))

    def _let_signals_pass(self, control_directory: Channel) -> bool:
        """Waits until the shell has behind it what it was sent to end a cell, or the next cell would have it; whether.

        A signal that was sent before a line is taken before that line is answered.
        """
        self._number += 1
        number = str(self._number)
        while True:
            control_directory.tell(f"sync {number}")
            message = self._next(cell_watch.REPEAT)
            while message is not None:
                if message == ("synced", number):
                    return True
                if message == (OVER,):
                    return False
                message = self._next(cell_watch.REPEAT)

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
        life, control_directory = self._exchange()
        if cell:
            control_directory.put(contents.CELL, encoded(cell))
        self._number += 1
        number = str(self._number)
        since = processes.now()
        control_directory.put(contents.QUESTION, encoded(script))
        deadline = time.monotonic() + _QUESTION_LIMIT
        control_directory.tell(f"ask {number}")
        while (left := deadline - time.monotonic()) > 0:
            message = self._next(min(left, cell_watch.REPEAT))
            if message == ("asked", number):
                return control_directory.answer().decode("utf-8", "replace")
            if message == (OVER,):
                life.join()
                self._forget()
                return ""
            if message is None:
                control_directory.tell(f"ask {number}")
        processes.kill_since(life.init, since, life.find_shell())
        while (message := self._next(cell_watch.LAST_GRACE)) is not None:
            if message == ("asked", number):
                return ""
        life.kill()
        return ""

    def _next(self, patience: float) -> Message | None:
        with contextlib.suppress(queue.Empty):
            return self._messages.get(timeout=patience)
        return None

    # The end

    def close(self) -> None:
        """Ends the shell, which may end by itself if it does so at once, and everything in its container."""
        life, self._life = self._life, None
        if life is None:
            return
        if life.control_directory is not None and not self._busy:
            with contextlib.suppress(OSError):
                life.control_directory.tell(f"end {self._number + 1}")
            life.join(_FAREWELL)
        life.kill()
        life.join()


def encoded(text: str, *, program: bool = False) -> bytes:
    """A cell as it is written to its file. Raises `UsageError` for what no shell takes: NUL, and half characters."""
    if not program and "\0" in text:
        position = text.index("\0")
        raise UsageError(
            f"the cell has a NUL character, at position {position}, which no shell takes", hint="remove it"
        )
    return encode(text)
