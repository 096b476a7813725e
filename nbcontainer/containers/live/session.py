"""The shell session of a kernel: runs cells, answers questions, and starts a new shell if one has ended."""

from __future__ import annotations

import contextlib
import queue
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.cell import encode
from nbcontainer.containers.live import cell_watch, contents, processes
from nbcontainer.containers.live.process import INTERRUPT, OVER, STARTED, ShellProcess
from nbcontainer.containers.run import choose_container
from nbcontainer.errors import ContainerError, UsageError
from nbcontainer.images import library
from nbcontainer.sandbox.steps.control_directory import EXCHANGE

if TYPE_CHECKING:
    from nbcontainer.containers.cell import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.live.cell_watch import CellEnd
    from nbcontainer.containers.live.channel import Channel
    from nbcontainer.containers.live.process import Message, ShellListener
    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import Listener as Progress
    from nbcontainer.sandbox.prompts.asking import Keyboard


_FAREWELL = 0.5  # seconds for an idle shell to exit by itself
_QUESTION_LIMIT = 4.0  # seconds for the answer to a question

_HISTORY = 4000  # characters of the cells, as those of a cell in a record
_KEPT_OPTIONS = "aefuvxC"  # those that common.sh puts away between cells
_MAY_BE_STRICT = re.compile(r"\b(?:set|shopt)\b")
_MAY_END = re.compile(r"\b(?:exit|exec|kill)\b")


class ShellSession:
    """The shell of `request`'s container, which is chosen and started when it is first needed.

    `program` is the shell's name in the image; if empty, bash, or sh if there is no bash. The first cell shows `notice`
    if it is not empty. Call everything but
    `interrupt` from one thread.
    """

    def __init__(
        self, engine: Engine, request: Request, listener: ShellListener, program: str = "", notice: str = ""
    ) -> None:
        self.engine = engine
        self.request = request
        self.container: Container | None = None
        self._image: Image | None = None
        self._listener = listener
        self._timeout = request.options.timeout
        process = request.options.process
        process = replace(process, env=(*contents.ENVIRONMENT, *process.env))
        options = replace(request.options, process=process, timeout=None)
        self._request = replace(request, script=contents.boot(program), options=options)
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._process: ShellProcess | None = None
        self._number = 0
        self._busy = False
        self._options = ""
        self._cells: list[str] = []
        self._notice = notice
        self._lost_note = ""

    @property
    def init(self) -> int:
        """Host pid of the container's init; 0 if no shell runs."""
        return 0 if self._process is None else self._process.init

    @property
    def cells_text(self) -> str:
        """The text of the cells that ran, for an image's history."""
        return "\n".join(self._cells)[-_HISTORY:]

    def begin(self, progress: Progress | None = None, *, here: bool = False) -> None:
        """Start the shell if none runs, and do not wait for it; with `here`, only from an image that the store has.

        Raises this package's errors if the container cannot be chosen.
        """
        if self.container is None:
            request = self._request
            if here:
                selection = replace(request.options.selection, pull=library.NEVER)
                request = replace(request, options=replace(request.options, selection=selection))
            self.container, self._image = choose_container(self.engine, request, progress)
        assert self._image is not None
        if self._process is None:
            self.engine.launcher_for(
                self._request.options.privileges.userns
            ).start()  # the launcher ends with the thread that starts it
            self._options = ""
            self.engine.last = self.container
            self._process = ShellProcess(
                self.engine, self.container, self._image, self._request, self._listener, self._messages
            )

    def _ready_shell(self) -> tuple[ShellProcess, Channel]:
        """Return the running shell, or a new one, and its channel. Raises the error of a shell that cannot start."""
        while True:
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
            self._lost_note = (
                f"the shell ended before this cell ({process.outcome.describe()}); this cell runs in a new one"
            )
        self._forget()
        return True

    def _wait_for_start(self, process: ShellProcess) -> None:
        while True:
            word, *_ = self._messages.get()
            if word == STARTED:
                return
            if word == OVER:
                self._forget()
                raise process.error or ContainerError("the container ended before its shell started")

    def _forget(self) -> None:
        self._process = None
        self._messages = queue.SimpleQueue()

    # Cells

    def run(self, code: str, keyboard: Keyboard | None = None) -> CellEnd:
        """Run a cell to its end. Without a keyboard, its standard input is empty.

        Raises `UsageError` for text that a shell cannot read, and the errors of a container that cannot start.
        """
        program = code.startswith("#!")
        text = encoded(code, program=program)
        self._number += 1
        self._busy = True
        try:
            process, channel = self._ready_shell()
            if not program:
                text = (f"set -{self._options}; ".encode() if self._options else b"") + text
            while not channel.write_file(contents.CELL, text):
                process, channel = self._ready_shell()
            stdin = f"{EXCHANGE}/keyboard" if keyboard else "/dev/null"
            line = f"run {self._number} {stdin} {'program' if program else 'source'} {self._hints(code)}"
            watched = cell_watch.CellWatch(self._number, line, process, self._messages, keyboard, self._timeout)
            end = watched.to_end()
        finally:
            self._busy = False
        self._cells.append(code)
        if watched.signalled and not watched.over:
            watched.over = not self._let_signals_pass(channel)
            watched.interrupt_rest()
        if watched.over:
            process.join()
            self._forget()
        elif watched.options is not None:
            self._options = "".join(letter for letter in watched.options if letter in _KEPT_OPTIONS)
        notes, self._lost_note, self._notice = [self._notice, self._lost_note, end.note], "", ""
        return replace(end, note="; ".join(filter(None, notes)))

    def _let_signals_pass(self, channel: Channel) -> bool:
        """Wait until the shell has handled an interrupt's signals, which would end the next cell; False if it ended.

        The shell handles a signal that was sent before a line before it answers that line.
        """
        self._number += 1
        number = str(self._number)
        while True:
            channel.send(f"sync {number}")
            message = self._next(cell_watch.REPEAT)
            while message is not None:
                if message == ("synced", number):
                    return True
                if message == (OVER,):
                    return False
                message = self._next(cell_watch.REPEAT)

    def _hints(self, code: str) -> str:
        """Return hints for the shells: whether the cell may end them (r), by `set -e` (e), or may trap signals (t)."""
        strict = "e" in self._options or _MAY_BE_STRICT.search(code)
        risky = strict or _MAY_END.search(code)
        return "".join(letter for letter, given in (("r", risky), ("e", strict), ("t", "trap" in code)) if given) or "-"

    def interrupt(self) -> None:
        """End the cell that runs now, if any; a second call does it at once. From any thread or signal handler."""
        if self._busy:
            self._messages.put((INTERRUPT, str(self._number)))

    # Questions

    def ask(self, script: str, *, cell: str = "") -> str:
        """Return the standard output of a script that runs in a subshell of the shell, which must be idle.

        `cell` is in the cell's file meanwhile. The result is empty if the script takes too long. Raises the errors of a
        container that cannot start.
        """
        process, channel = self._ready_shell()
        if cell:
            channel.write_file(contents.CELL, encoded(cell))
        self._number += 1
        number = str(self._number)
        since = processes.now()
        channel.write_file(contents.QUESTION, encoded(script))
        deadline = time.monotonic() + _QUESTION_LIMIT
        channel.send(f"ask {number}")
        while (left := deadline - time.monotonic()) > 0:
            message = self._next(min(left, cell_watch.REPEAT))
            if message == ("asked", number):
                return channel.answer().decode("utf-8", "replace")
            if message == (OVER,):
                process.join()
                self._forget()
                return ""
            if message is None:
                channel.send(f"ask {number}")
        processes.kill_since(process.init, since, process.find_shell())
        while (message := self._next(cell_watch.LAST_GRACE)) is not None:
            if message == ("asked", number):
                return ""
        process.kill()
        return ""

    def _next(self, patience: float) -> Message | None:
        with contextlib.suppress(queue.Empty):
            return self._messages.get(timeout=patience)
        return None

    # The end

    def close(self) -> None:
        """End the shell and everything in its container. An idle shell has half a second to exit by itself."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.channel is not None and not self._busy:
            with contextlib.suppress(OSError):
                process.channel.send(f"end {self._number + 1}")
            process.join(_FAREWELL)
        process.kill()
        process.join()


def encoded(text: str, *, program: bool = False) -> bytes:
    """Return a cell's bytes for its file. Raises `UsageError` for NUL, which shells drop, and for half characters."""
    if not program and "\0" in text:
        position = text.index("\0")
        raise UsageError(f"invalid cell: NUL character at position {position}", hint="remove it")
    return encode(text)
