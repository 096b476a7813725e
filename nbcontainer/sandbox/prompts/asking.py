"""Asking a person for a line each time a program waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.prompts.waits import Wait

GLANCE = 0.05
"""Seconds between checks for a program that waits for input."""


class Keyboard(Protocol):
    """Asks a person for lines."""

    def ask(self, secret: bool) -> None:
        """Ask for a line; with `secret`, it must not be shown."""

    def answer(self) -> str | None:
        """Return the answer, without its newline; None if there is none yet."""


class Prompter:
    """Asks once for each wait, and types the answer.

    `find` returns the thread that waits now, None if there is none. `secret` is whether the terminal shows what is
    typed, and `type_line` types an answer.
    """

    def __init__(
        self,
        keyboard: Keyboard,
        find: Callable[[], Wait | None],
        secret: Callable[[], bool],
        type_line: Callable[[str], None],
    ) -> None:
        self._keyboard = keyboard
        self._find = find
        self._secret = secret
        self._type_line = type_line
        self._asked: Wait | None = None
        self._answered: Wait | None = None

    def look(self) -> None:
        """Ask if a program waits, or type the answer if it has come. Never waits."""
        if self._asked is not None:
            answer = self._keyboard.answer()
            if answer is not None:
                self._type_line(answer)
                self._answered, self._asked = self._asked, None
            return
        wait = self._find()
        if wait is not None and wait != self._answered:
            self._asked = wait
            self._keyboard.ask(self._secret())
