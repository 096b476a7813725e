"""The standard files of this process, `-` in place of a file, and the end of the program by a signal."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.errors import UsageError
from nbcontainer.linux.signals import Terminated

if TYPE_CHECKING:
    from collections.abc import Callable


def open_standard_files() -> None:
    """Open the standard files that this process was started without: the number would be that of a file of the store.

    Nothing can be read from the new ones. What is written to standard output is an error, so that no loss is silent.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)  # it has the lowest free number
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def check_stream(fd: int, line: str) -> None:
    """Raise `UsageError` if standard input (`fd` 0) or output (1) is a terminal's or a notebook's, which take no tar.

    `line` is what the user wrote, from the verb on.
    """
    if _is_in_notebook():
        raise not_in_notebook(line)
    if os.isatty(fd):
        hint = f"use a pipe or a file, as in `{line} {'<' if fd == 0 else '>'} FILE.tar`"
        raise UsageError(f"{line.partition(' ')[0]}: `-` is a tar, and this is a terminal", hint=hint)


def not_in_notebook(line: str) -> UsageError:
    """Return the error for a line with `-` in a notebook."""
    hint = f"use a terminal, as in `nbcontainer {line}` with a pipe or a file, or write a path in place of `-`"
    return UsageError(f"{line.partition(' ')[0]}: a notebook has no standard input and output for a tar", hint=hint)


def _is_in_notebook() -> bool:
    """Return whether this process runs IPython: it is imported then."""
    shell: Any = sys.modules.get("IPython.core.getipython")
    return shell is not None and shell.get_ipython() is not None


class Ending:
    """The end of the program by a signal, in good order: what runs in a container gets SIGTERM, and is kept.

    A second signal of the same number ends the program at once.
    """

    def __init__(self) -> None:
        self._number = 0

    def begin(self, number: int, _frame: object) -> NoReturn:
        """Handle the signal."""
        signal.signal(number, signal.SIG_DFL)
        self._number = self._number or number
        raise Terminated(number)

    def code_of(self, work: Callable[[], int]) -> int:
        """Return the exit code of the program, whose work this calls: as a shell has it, if a signal ended it."""
        try:
            code = work()
        except Terminated:
            code = 0
        return 128 + self._number if self._number else code
