"""Verbs: a grammar and a function, and one invocation of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.progress import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Command, Words
    from nbcontainer.commands.views import Document, Note, Table
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener

    View = Table | Document | Note | Any


@dataclass(frozen=True)
class Invocation:
    """One use of a verb. `listener` gets the progress of long work, None for no progress."""

    engine: Engine
    words: Words
    listener: Listener | None = None

    def tracker(self, what: str, total: int = 0) -> Tracker:
        """Return a counter for the progress of long work."""
        return Tracker(what, self.listener, total=total)


@dataclass(frozen=True)
class Verb:
    """A verb: its grammar and its function."""

    command: Command
    run: Callable[[Invocation], View]


def count(number: int, what: str) -> str:
    """Return a count in words: `1 layer`, `2 layers`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def one_line(text: str, width: int = 48) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
