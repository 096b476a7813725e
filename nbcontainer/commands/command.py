"""Verbs: a grammar and a function, and one invocation of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nbcontainer.commands.docker_answers import OPTION_ANSWERS
from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Option, parse
from nbcontainer.commands.views.simple import Document, Note
from nbcontainer.errors import UsageError
from nbcontainer.progress import Tracker
from nbcontainer.rendering.text import one_line as one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nbcontainer.commands.grammar import Words
    from nbcontainer.commands.views import Changes, Table
    from nbcontainer.containers.engine import Engine
    from nbcontainer.progress import Listener

    View: TypeAlias = Changes | Document | Note | Table | Any


JSON = Option(("--json",), "", "return the values as JSON")


@dataclass(frozen=True)
class Invocation:
    """One use of a verb. `listener` gets the progress of long work, None for no progress.

    `fill` replaces expressions in the arguments of a verb of a group, such as `volume`: they are in `words.tail`.
    """

    engine: Engine
    words: Words
    listener: Listener | None = None
    fill: Callable[[str], str] = str

    def tracker(self, what: str, total: int = 0) -> Tracker:
        """Return a counter for the progress of long work."""
        return Tracker(what, self.listener, total=total)


@dataclass(frozen=True)
class Verb:
    """A verb: its grammar and its function. One that is not `in_terminal` needs what its own process runs.

    `verbs` are those of a group, by their second name.
    """

    command: Command
    run: Callable[[Invocation], View]
    in_terminal: bool = True
    verbs: Mapping[str, Verb] = field(default_factory=dict)

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


def group(
    name: str, operands: str, summary: str, verbs: Iterable[Verb], aliases: Mapping[str, str] | None = None
) -> Verb:
    """Return the verb whose first argument chooses one of `verbs`, each with a name of two parts and with `--json`."""
    found = {verb.command.name.removeprefix(f"{name} "): verb.with_json for verb in verbs}

    def run(call: Invocation) -> View:
        first, *rest = call.words.tail or ["--help"]
        first = call.fill(first)
        first = (aliases or {}).get(first, first)
        if first in ("--help", "help"):
            return Note("\n".join(f"{verb.command.usage}  {verb.command.help}" for verb in found.values()))
        if first not in found:
            raise UsageError(f"unknown verb '{name} {first}'", hint=f"choose one of {', '.join(found)}")
        command = found[first].command
        words = parse(command, rest, fill=call.fill)
        if words.has("help"):
            return Note(command.describe(""))
        return found[first].answer(replace(call, words=words))

    return Verb(Command(name, f"{'|'.join(found)} {operands}", summary, tail=True), run, verbs=found)


def count(number: int, what: str) -> str:
    """Return a count with its noun: `1 layer`, `2 layers`."""
    return f"{number} {what}" + ("" if number == 1 else "s")
