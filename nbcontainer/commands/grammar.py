"""The words of commands: options as data, and one parser for cells, line magics and the terminal.

argparse cannot do it: IMAGE stands before, between or after options, and what follows it belongs to the container.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Option:
    """One option: its spellings (the last is its name), what its value is called (a flag where empty), and its help."""

    flags: tuple[str, ...]
    value: str = ""
    help: str = ""

    @property
    def name(self) -> str:
        """`memory` for `-m/--memory`."""
        return self.flags[-1].lstrip("-")

    def __str__(self) -> str:
        return ", ".join(self.flags) + (f" {self.value}" if self.value else "")


HELP = Option(("-h", "--help"), "", "this text")


@dataclass(frozen=True)
class Command:
    """A verb's grammar. `operands` names them for people; more than `most` of them are refused.

    With `tail`, what follows operand number `most` is taken as it is: a command for the container. Every command knows
    `--help`, with which nothing else is asked of its words.
    """

    name: str
    operands: str = ""
    help: str = ""
    options: tuple[Option, ...] = ()
    least: int = 0
    most: int = 0
    tail: bool = False

    @property
    def usage(self) -> str:
        """One line: `rm [OPTIONS] NAME...`."""
        return " ".join(filter(None, (self.name, "[OPTIONS]" if self.options else "", self.operands)))

    def describe(self, prefix: str) -> str:
        """The help text, `prefix` before the usage line."""
        options = (*self.options, HELP)
        width = max(len(str(option)) for option in options)
        lines = [f"usage: {prefix}{self.usage}", "", self.help, ""]
        return "\n".join((*lines, *(f"  {option!s:<{width}}  {option.help}" for option in options)))


@dataclass
class Words:
    """A parsed command line."""

    options: dict[str, list[str]] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether the option was given."""
        return name in self.options

    def one(self, name: str, default: str = "") -> str:
        """The option's last value."""
        return self.options.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        """The option's values, in order."""
        return self.options.get(name, [])


def parse(command: Command, words: Sequence[str], *, fill: Callable[[str], str] = lambda word: word) -> Words:
    """`words` by the command's grammar. Options' values and operands, not the tail, go through `fill`.

    Raises `UsageError`.
    """
    spelled = {flag: option for option in (*command.options, HELP) for flag in option.flags}
    found = Words()
    rest = iter(words)
    for word in rest:
        if word == "--":
            _operands(command, found, [*rest], fill)
        elif word.startswith("-") and word != "-":
            for option, value in _option(command, spelled, word, rest):
                found.options.setdefault(option.name, []).append(fill(value))
        elif command.tail and len(found.operands) == command.most:
            found.tail = [word, *rest]
        else:
            found.operands.append(fill(word))
    if found.has(HELP.name):
        return found
    if len(found.operands) < command.least:
        raise UsageError(f"{command.name}: too few words", hint=f"write {command.usage}")
    if len(found.operands) > command.most:
        raise UsageError(f"{command.name}: {found.operands[command.most]!r} is too much", hint=f"write {command.usage}")
    return found


def _operands(command: Command, found: Words, words: list[str], fill: Callable[[str], str]) -> None:
    """After `--` nothing is an option."""
    room = max(0, command.most - len(found.operands)) if command.tail else len(words)
    found.operands += [fill(word) for word in words[:room]]
    found.tail = words[room:]


def _option(
    command: Command, spelled: dict[str, Option], word: str, rest: Iterator[str]
) -> Iterator[tuple[Option, str]]:
    """The option, or options (`-it`), in one word, with a value from the word or the next."""
    flag, equals, value = word.partition("=")
    if flag not in spelled and not word.startswith("--"):
        yield from _short(command, spelled, word, rest)
        return
    option = spelled.get(flag)
    if option is None:
        raise _unknown(command, spelled, flag)
    if not option.value:
        if equals:
            raise UsageError(f"{flag} takes no value", hint=f"write {flag} alone")
        yield option, ""
    else:
        yield option, value if equals else _next(option, rest)


def _short(
    command: Command, spelled: dict[str, Option], word: str, rest: Iterator[str]
) -> Iterator[tuple[Option, str]]:
    """`-it` is `-i -t`, and `-eA=1` is `-e A=1`, as getopt(3) has it."""
    for at, letter in enumerate(word[1:], 1):
        option = spelled.get(f"-{letter}")
        if option is None:
            raise _unknown(command, spelled, word if at == 1 else f"-{letter}")
        if option.value:
            yield option, word[at + 1 :].removeprefix("=") or _next(option, rest)
            return
        yield option, ""


def _next(option: Option, rest: Iterator[str]) -> str:
    for word in rest:
        return word
    raise UsageError(f"{option.flags[-1]} has no value", hint=f"write {option}")


def _unknown(command: Command, spelled: dict[str, Option], flag: str) -> UsageError:
    near = difflib.get_close_matches(flag, spelled, 1)
    hint = f"did you mean {near[0]}" if near else f"{command.name} knows {' '.join(spelled)}"
    return UsageError(f"{command.name}: unknown option {flag}", hint=hint)
