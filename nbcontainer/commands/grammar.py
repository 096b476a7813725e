"""The grammar of commands: options as data, and one parser for cells, line magics and the terminal.

argparse cannot do it: IMAGE stands before, between or after options, and what follows it belongs to the container.
"""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nbcontainer.commands.docker_answers import Answer


_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")
"""Values of options that are given or not, in every case, as Docker takes them (strconv.ParseBool of Go)."""
"""The values that a flag may have, as with Docker: `--rm=false`."""

_SIMILAR = 0.75


class ValueKind(enum.StrEnum):
    """What the value of an option is, for completion."""

    NOTHING = "nothing"
    TEXT = "text"
    CHOICE = "choice"
    PATH = "path"
    VOLUME = "volume"
    CONTAINER = "container"
    CONTAINER_PATH = "container path"
    VARIABLE = "variable"


@dataclass(frozen=True)
class Option:
    """One option: its spellings (the last one is its name), what its value is called (empty for a flag), and its help.

    `alone` is the value of an option that may stand without one, None if it may not: such a value is given with `=`
    only, as in `--here=rw`. An option with `rest` takes all arguments after it, whatever they are. `kind` and
    `choices` describe the value for completion. A value that is not `filled` keeps its braces: it is an expression
    itself. `mark` has a meaning at the beginning of a value, and stands for itself there if it is doubled. It has that
    meaning only if it is written, not if a variable brings it.
    """

    flags: tuple[str, ...]
    value: str = ""
    help: str = ""
    alone: str | None = None
    kind: ValueKind = ValueKind.TEXT
    choices: tuple[str, ...] = ()
    filled: bool = True
    rest: bool = False
    mark: str = ""

    @cached_property
    def name(self) -> str:
        """`memory` for `-m/--memory`."""
        return self.flags[-1].lstrip("-")

    @property
    def takes_value(self) -> bool:
        """Whether the next word is its value."""
        return bool(self.value) and self.alone is None

    def words(self, value: str) -> list[str]:
        """Return the arguments that give it this value."""
        if self.alone is not None:
            return [self.flags[-1] if value == self.alone else f"{self.flags[-1]}={value}"]
        return [self.flags[-1], value] if self.value else [self.flags[-1]]

    def filled_by(self, fill: Callable[[str], str], value: str) -> str:
        """Return a value after interpolation."""
        found = fill(value) if self.filled else value
        brought = self.mark and found.startswith(self.mark) and not value.startswith(self.mark)
        return self.mark + found if brought else found

    def __str__(self) -> str:
        if self.alone is not None:
            return f"{', '.join(self.flags)}[={self.value}]"
        return ", ".join(self.flags) + (f" {self.value}" if self.value else "")


HELP = Option(("-h", "--help"), "", "show this text")
_LONG_HELP = Option(("--help",), "", "show this text")


@dataclass(frozen=True)
class Command:
    """A verb's grammar. `operands` is their description in the help; more than `most` of them are an error.

    With `tail`, what follows operand number `most` is taken as it is: a command for the container. Every command has
    `--help`, with which all other arguments are optional. `-h` is help too, unless an option has that spelling.
    `answers` are for options that it does not have. `examples` are what may follow the prefix of the help text.
    """

    name: str
    operands: str = ""
    help: str = ""
    options: tuple[Option, ...] = ()
    least: int = 0
    most: int = 0
    tail: bool = False
    answers: Mapping[str, Answer] = field(default_factory=dict)
    examples: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """One line: `rm [OPTIONS] NAME...`."""
        return " ".join(filter(None, (self.name, "[OPTIONS]" if self.options else "", self.operands)))

    @cached_property
    def all_options(self) -> tuple[Option, ...]:
        """The options, and the one for help."""
        taken = any("-h" in option.flags for option in self.options)
        return (*self.options, _LONG_HELP if taken else HELP)

    @cached_property
    def spelled(self) -> dict[str, Option]:
        """The options by each of their spellings."""
        return {flag: option for option in self.all_options for flag in option.flags}

    def takes_next(self, word: str) -> bool:
        """Return whether the word after `word`, which begins with a dash, is the value of an option in it."""
        flag, equals, _ = word.partition("=")
        if (option := self.spelled.get(flag)) is not None:
            return option.takes_value and not equals
        for at, letter in enumerate(word[1:], 1):  # as `_short` reads it
            option = self.spelled.get(f"-{letter}")
            if option is None or option.takes_value:
                return option is not None and at == len(word) - 1
        return False

    def describe(self, prefix: str) -> str:
        """Return the help text with examples, with `prefix` before the usage line."""
        width = max(len(str(option)) for option in self.all_options)
        lines = [f"usage: {prefix}{self.usage}", "", self.help, ""]
        options = (f"  {option!s:<{width}}  {option.help}" for option in self.all_options)
        shown = ("", "examples:", *(f"  {prefix}{example}" for example in self.examples)) if self.examples else ()
        return "\n".join((*lines, *options, *shown))


@dataclass
class Words:
    """A parsed command line. `off` are the names of flags that it turns off, as `--rm=false` does."""

    options: dict[str, list[str]] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    off: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Return whether the option was given."""
        return name in self.options

    def flag(self, name: str, *, default: bool) -> bool:
        """Return whether a flag is on: `default`, unless the line turns it on or off."""
        return name in self.options or (default and name not in self.off)

    def one(self, name: str, default: str = "") -> str:
        """Return the option's last value."""
        return self.options.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        """Return the option's values, in order."""
        return self.options.get(name, [])


def parse(command: Command, words: Sequence[str], *, fill: Callable[[str], str] = lambda word: word) -> Words:
    """Return `words` parsed by the command's grammar. Options' values and operands, not the tail, go through `fill`.

    Raises `UsageError`.
    """
    found = Words()
    rest = iter(words)
    for word in rest:
        if word == "--":
            _operands(command, found, [*rest], fill)
        elif word.startswith("-") and word != "-":
            _take_option(command, found, _option(command, word, rest), fill)
        elif command.tail and len(found.operands) == command.most:
            found.tail = [word, *rest]
        else:
            found.operands.append(fill(word))
    if found.has(HELP.name):
        return found
    if len(found.operands) < command.least:
        raise UsageError(f"{command.name}: missing argument", hint=f"write `{command.usage}`")
    if len(found.operands) > command.most:
        unexpected = found.operands[command.most]
        raise UsageError(f"{command.name}: unexpected argument {unexpected!r}", hint=f"write `{command.usage}`")
    return found


def _take_option(
    command: Command, found: Words, options: Iterator[tuple[Option, str | None]], fill: Callable[[str], str]
) -> None:
    """Take the options of one word: of a flag, the last one counts.

    After the image, it may be meant for the image's program (its entrypoint).
    """
    try:
        taken = [*options]
    except UsageError as error:
        if "IMAGE" not in command.usage or not command.tail or len(found.operands) < command.most:
            raise
        hint = f"{error.hint}; an option of the image's own program comes after `--`"
        raise UsageError(error.message, hint=hint) from None
    for option, value in taken:
        if value is None:
            found.options.pop(option.name, None)
            found.off.add(option.name)
        else:
            found.options.setdefault(option.name, []).append(option.filled_by(fill, value))
            found.off.discard(option.name)


def _operands(command: Command, found: Words, words: list[str], fill: Callable[[str], str]) -> None:
    """Take the arguments after `--`: none of them is an option."""
    room = max(0, command.most - len(found.operands)) if command.tail else len(words)
    found.operands += [fill(word) for word in words[:room]]
    found.tail = words[room:]


def _option(command: Command, word: str, rest: Iterator[str]) -> Iterator[tuple[Option, str | None]]:
    """Yield the option, or options (`-it`), in one word, with a value from the word or the next one.

    The value is None for a flag that is turned off.
    """
    flag, equals, value = word.partition("=")
    spelled = command.spelled
    if flag not in spelled and not word.startswith("--"):
        yield from _short(command, word, rest)
        return
    option = spelled.get(flag)
    if option is None:
        _check_changes_nothing(command, flag, value if equals else None, rest)
    elif option.alone is not None:
        yield option, value if equals else option.alone
    elif option.rest:
        yield from ((option, word) for word in ([value, *rest] if equals else rest))
    elif not option.value:
        yield option, "" if _is_on(flag, value if equals else _TRUE[0]) else None
    else:
        yield option, value if equals else _next(option, rest)


def _check_changes_nothing(command: Command, flag: str, value: str | None, rest: Iterator[str]) -> None:
    """Take an option that is not supported if its value asks for what is done without it. Raises `UsageError`."""
    same = command.answers[flag].same if flag in command.answers else ""
    if same in ("true", "false"):
        value = _truth("1" if value is None else value)
    elif same and value is None:
        value = next(rest, "")
    if not same or value != same:
        raise _unknown(command, flag)


def _truth(value: str) -> str:
    """Return `true`, `false`, or another value as it is."""
    return "true" if value.lower() in _TRUE else "false" if value.lower() in _FALSE else value


def _is_on(flag: str, value: str) -> bool:
    """Return whether a value turns an option on that is given or not. Raises `UsageError` for other values."""
    if value.lower() not in _TRUE + _FALSE:
        raise UsageError(f"{flag} takes no value", hint=f"write `{flag}`")
    return value.lower() in _TRUE


def _short(command: Command, word: str, rest: Iterator[str]) -> Iterator[tuple[Option, str | None]]:
    """Yield the options of `-it` (`-i -t`), `-eA=1` (`-e A=1`) or `-it=false` (`-i -t=false`), as Docker reads them."""
    for at, letter in enumerate(word[1:], 1):
        option = command.spelled.get(f"-{letter}")
        if option is None or option.rest:
            raise _unknown(command, word if at == 1 and f"-{letter}" not in command.answers else f"-{letter}")
        if option.takes_value:
            yield option, word[at + 1 :].removeprefix("=") or _next(option, rest)
            return
        if word[at + 1 : at + 2] == "=":
            yield from _option(command, f"-{word[at:]}", rest)
            return
        yield option, option.alone or ""


def similar(text: str, known: Iterable[str]) -> str:
    """Return the one of `known` that `text` is, or is a misspelling of; empty for none.

    A word that is only similar by chance is not suggested: the first letters are the same.
    """
    known = tuple(known)
    if text in known:
        return text
    start = text.lstrip("-")[:1]
    near = difflib.get_close_matches(text, [one for one in known if one.lstrip("-")[:1] == start], 1, _SIMILAR)
    return near[0] if near else ""


def _next(option: Option, rest: Iterator[str]) -> str:
    for word in rest:
        return word
    raise UsageError(f"missing value for {option.flags[-1]}", hint=f"write `{option}`")


def _unknown(command: Command, flag: str) -> UsageError:
    if answer := command.answers.get(flag):
        return UsageError(f"{command.name}: unsupported option '{flag}': {answer.problem}", hint=answer.hint)
    near = similar(flag, command.spelled)
    hint = f"did you mean {near}" if near else f"the options are {' '.join(command.spelled)}"
    return UsageError(f"{command.name}: unknown option '{flag}'", hint=hint)
