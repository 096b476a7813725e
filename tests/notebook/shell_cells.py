"""Cells for the shell of a kernel, without Jupyter: run, heard, typed for."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.containers.live.cell_watch import CellEnd
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.live.session import ShellSession
    from nbcontainer.sandbox.prompts.asking import Keyboard

SHELLS = ("ash", "dash", "bash")


@dataclass
class Heard:
    """A listener that remembers."""

    out: list[bytes] = field(default_factory=list)
    err: list[bytes] = field(default_factory=list)
    things: list[tuple[str, bytes]] = field(default_factory=list)
    clears: list[bool] = field(default_factory=list)
    _word: bytes = b""
    _then: Callable[[], object] | None = None

    def when(self, word: str, then: Callable[[], object] | None) -> None:
        """Calls `then`, once, when `word` is heard."""
        self._word, self._then = word.encode(), then

    def stdout(self, data: bytes) -> None:
        self.out.append(data)
        self._call(data)

    def stderr(self, data: bytes) -> None:
        self.err.append(data)
        self._call(data)

    def _call(self, data: bytes) -> None:
        if self._then is not None and self._word in data:
            then, self._then = self._then, None
            then()

    def shown(self, mime: str, data: bytes) -> None:
        self.things.append((mime, data))

    def cleared(self, wait: bool) -> None:
        self.clears.append(wait)


class Typist:
    """A keyboard with its answers ready."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[bool] = []

    def ask(self, secret: bool) -> None:
        self.asked.append(secret)

    def answer(self) -> str | None:
        return self.answers.pop(0)


@dataclass(frozen=True)
class Ran:
    """A cell that ended: its end, and what it put out."""

    end: CellEnd
    out: str
    err: str
    heard: Heard

    @property
    def status(self) -> int:
        return self.end.status


class Cells:
    """Cells for one shell."""

    def __init__(self, shell: ShellSession, heard: Heard, name: str) -> None:
        self.shell = shell
        self.heard = heard
        self.name = name

    def __call__(self, code: str, keyboard: Keyboard | None = None) -> Ran:
        """Runs a cell."""
        for kept in (self.heard.out, self.heard.err):
            kept.clear()
        end = self.shell.run(code, keyboard)
        return Ran(end, b"".join(self.heard.out).decode(), b"".join(self.heard.err).decode(), self.heard)

    def good(self, code: str, keyboard: Keyboard | None = None) -> str:
        """Runs a cell that must end well, and without a note; its output."""
        ran = self(code, keyboard)
        assert ran.end == CellEnd(0), ran
        return ran.out


def wait_for(condition: Callable[[], object]) -> None:
    """Waits until something that nothing tells of is so."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()
