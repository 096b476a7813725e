"""The process of the program: its standard files, and its end by a signal."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

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
