"""Where the answers to a cell's prompts come from: an input box, a terminal, or nowhere."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.prompts.asking import Keyboard

_LINE = 1 << 16


@contextlib.contextmanager
def keyboard_of(shell: Any) -> Iterator[Keyboard]:
    """Yield the keyboard of the frontend that sent the current cell. Raises `UsageError` if there is none."""
    kernel = getattr(shell, "kernel", None)
    if kernel is not None and getattr(kernel, "_allow_stdin", False):
        from nbcontainer.notebook.prompts.input_requests import InputRequests

        yield InputRequests(kernel, flush)
    elif kernel is None and has_terminal():
        with contextlib.closing(TerminalLines(0)) as lines:
            yield lines
    else:
        where = "this program has no terminal" if kernel is None else "stdin is not allowed in this frontend"
        hint = "pass the input with `--stdin TEXT` or `--stdin @FILE`"
        raise UsageError(f"-i cannot ask for input: {where}", hint=hint)


def has_terminal() -> bool:
    """Return whether this process's standard input and output are a terminal."""
    return os.isatty(0) and os.isatty(1)


def flush() -> None:
    """Send the output so far, so that it appears before a question."""
    sys.stdout.flush()
    sys.stderr.flush()


class EndOfInput:
    """A keyboard that types ^D whenever a program reads: the end of the input."""

    def ask(self, secret: bool) -> None:
        """Do nothing."""

    def answer(self) -> str | None:
        """Return ^D."""
        return "\x04"


class TerminalLines:
    """Lines that a person types on this process's own terminal, which edits them. `close` restores its echo."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._mode: list[Any] | None = None

    def ask(self, secret: bool) -> None:
        """Show the output so far, and turn the echo off for a secret (termios(3))."""
        flush()
        if secret and self._mode is None:
            self._mode = termios.tcgetattr(self._terminal)
            hidden = [*self._mode]
            hidden[3] &= ~termios.ECHO
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, hidden)

    def answer(self) -> str | None:
        """Return the line, ^D for the end of the input; None if nothing is typed yet."""
        if not select.select((self._terminal,), (), (), 0)[0]:
            return None
        data = os.read(self._terminal, _LINE)
        self.close()
        return data.decode("utf-8", "surrogateescape").removesuffix("\n") if data else "\x04"

    def close(self) -> None:
        """Restore the terminal's echo. Idempotent."""
        mode, self._mode = self._mode, None
        if mode is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, mode)
