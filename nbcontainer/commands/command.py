"""Verbs: a grammar and a function, and one invocation of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nbcontainer.commands.docker_answers import OPTION_ANSWERS
from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Option
from nbcontainer.commands.views.simple import Document
from nbcontainer.progress import Tracker
from nbcontainer.rendering.text import one_line as one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Command, Words
    from nbcontainer.commands.views import Changes, Note, Table
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener

    View: TypeAlias = Changes | Document | Note | Table | Any


JSON = Option(("--json",), "", "return the values as JSON")


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
    """A verb: its grammar and its function. One that is not `in_terminal` needs what its own process runs."""

    command: Command
    run: Callable[[Invocation], View]
    in_terminal: bool = True

    def answer(self, call: Invocation) -> View:
        """Return the view of one invocation; with `--json`, a document of its values."""
        view = self.run(call)
        if view is None or not call.words.has(JSON.name):
            return view
        return Document(view.as_json(), getattr(view, "ok", True))

    @property
    def with_examples(self) -> Verb:
        """The verb with its examples, and with answers for options of Docker and podman that it does not have."""
        command = self.command
        answers = {**OPTION_ANSWERS.get(command.name, {}), **command.answers}
        return replace(self, command=replace(command, examples=EXAMPLES.get(command.name, ()), answers=answers))

    @property
    def with_json(self) -> Verb:
        """The verb with the option `--json`."""
        return replace(self, command=replace(self.command, options=(*self.command.options, JSON)))


def count(number: int, what: str) -> str:
    """Return a count with its noun: `1 layer`, `2 layers`."""
    return f"{number} {what}" + ("" if number == 1 else "s")
