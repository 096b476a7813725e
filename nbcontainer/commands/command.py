"""What a verb is: its grammar, what it does, and one use of it."""

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
    """One use of a verb. `listener` hears how far long work is; None for quiet."""

    engine: Engine
    words: Words
    listener: Listener | None = None

    def tracker(self, what: str, total: int = 0) -> Tracker:
        """A count of long work that this verb does."""
        return Tracker(what, self.listener, total=total)


@dataclass(frozen=True)
class Verb:
    """A verb: its grammar and what it does."""

    command: Command
    run: Callable[[Invocation], View]


def count(number: int, what: str) -> str:
    """`1 layer`, `2 layers`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def one_line(text: str, width: int = 48) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
