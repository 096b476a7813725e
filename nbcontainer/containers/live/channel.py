"""The notebook's end of a live container's control directory: pipes, files and a terminal."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from typing import TYPE_CHECKING

from nbcontainer.containers.live.contents import ANSWER, CELL, CONTROL, INPUT, QUESTION, turn
from nbcontainer.errors import ContainerError
from nbcontainer.sandbox.display_channel import DisplayChannel
from nbcontainer.sandbox.prompts.line_terminal import LineTerminal
from nbcontainer.sandbox.steps.exchange.display import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Callable

_SPARE_TURNS = 3  # lines that wait on `input`: each turn reads one, and must never find the pipe empty


class Channel(DisplayChannel):
    """The notebook's end. `close` closes its pipes; the caller closes `directory` and `terminal`.

    `control` and `input` are written, `replies` is read.
    """

    def __init__(self, directory: int, terminal: int, *, turns: bool = True) -> None:
        """Open the pipes; with `turns`, write the shell's own commands.

        Raises `OSError`, and `ContainerError` if one is not a pipe any more.
        """
        super().__init__(directory)
        self.terminal = terminal
        self._lock = threading.Lock()
        self._closed = False
        self._last_turn = 0
        self._typed = LineTerminal(terminal)
        try:
            self.control, self.input = self.open_pipe(CONTROL), self.open_pipe(INPUT)
            self._open_cell, self._open_question = (
                self.opener(name, os.O_WRONLY, stat.S_ISREG) for name in (CELL, QUESTION)
            )
        except BaseException:
            self.close()
            raise
        if turns:
            self._begin_turns()

    def _begin_turns(self) -> None:
        self._write(self.input, f"case $BASH_VERSION in '') . {EXCHANGE}/ash ;; esac\n")
        self.add_turns(0)

    def close(self) -> None:
        """Close the pipes; later writes do nothing. Idempotent. From any thread."""
        with self._lock:
            self._closed = True
            super().close()

    def add_turns(self, number: int) -> None:
        """Write more turns of the shell's loop, after it has read turn `number`; 0 if it can read none of them."""
        last = (number or self._last_turn) + _SPARE_TURNS
        self._write(self.input, "".join(turn(more) for more in range(self._last_turn + 1, last + 1)))
        self._last_turn = max(self._last_turn, last)

    def send(self, line: str) -> None:
        """Write a line for the shell, which waits for one."""
        self._write(self.control, line + "\n")

    def wake(self) -> None:
        """Write an empty line, which the shell reads and ignores: the processor has its code and data then."""
        self.send("")

    def _write(self, fd: int, text: str) -> None:
        # If the pipe is full, the container has filled it.
        with self._lock, contextlib.suppress(BlockingIOError):
            if not self._closed:
                os.write(fd, text.encode())

    def write_cell(self, text: bytes) -> bool:
        """Write the file of a cell; return False if the channel is closed. Raises `ContainerError`."""
        return self._write_file(self._open_cell, text)

    def write_question(self, text: bytes) -> bool:
        """Write the file of a question; return False if the channel is closed. Raises `ContainerError`."""
        return self._write_file(self._open_question, text)

    def _write_file(self, open_file: Callable[[], int], text: bytes) -> bool:
        """Write a file, and close it: a file that is open for writing cannot be executed."""
        with self._lock:
            if self._closed:
                return False
            fd = open_file()
        try:
            view = memoryview(text)
            while view:
                view = view[os.write(fd, view) :]
            os.ftruncate(fd, len(text))
        except OSError as error:
            raise ContainerError(
                f"cannot write the cell to the container: {error.strerror}", hint="make it smaller: /dev holds 64 MiB"
            ) from error
        finally:
            os.close(fd)
        return True

    def answer(self) -> bytes:
        """Return what the shell wrote into the answer's file."""
        return self.read(ANSWER)

    # The terminal

    @property
    def secret(self) -> bool:
        """Whether a program reads a line that must not be shown."""
        return self._typed.mode.secret

    def type(self, text: str) -> None:
        """Type a line. `without_echo` removes its echo from the output."""
        os.write(self.terminal, self._typed.keys(text))

    def without_echo(self, data: bytes) -> bytes:
        """Return the terminal's output without the echo of the line that was typed."""
        return self._typed.without_echo(data)
