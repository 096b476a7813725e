"""Completion of a command line: what may stand at its end, by the grammar of its command."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbcontainer.commands.grammar import ValueKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nbcontainer.commands.grammar import Command, Option


class Names(Protocol):
    """The names that a completion may propose. Each method returns them in any order, and raises nothing."""

    def images(self) -> Iterable[str]:
        """Return the names of images."""

    def containers(self) -> Iterable[str]:
        """Return the names of containers."""

    def volumes(self) -> Iterable[str]:
        """Return the names of volumes."""

    def variables(self) -> Iterable[str]:
        """Return the names of the notebook's variables."""

    def environment(self) -> Iterable[str]:
        """Return the names of the notebook's environment variables."""

    def host_paths(self, beginning: str) -> Iterable[str]:
        """Return the host paths that begin so, as they would be written; those of directories end with `/`."""

    def container_paths(self, image: str, container: str, beginning: str) -> Iterable[str]:
        """Return the container paths that begin so; those of directories end with `/`."""


class Kind(Enum):
    """What a proposal names."""

    WORD = "word"
    """An option, a verb, or a name of the store or of the environment."""
    PATH = "path"
    """A file or directory of the host or of a container."""
    VARIABLE = "variable"
    """A variable of the notebook."""


@dataclass(frozen=True, order=True)
class Proposal:
    """A text that may stand at the cursor."""

    text: str
    kind: Kind = field(default=Kind.WORD, compare=False)


@dataclass(frozen=True)
class Completion:
    """What replaces the last `len(fragment)` characters of the line: one of `proposals`."""

    fragment: str
    proposals: tuple[Proposal, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the proposals."""
        return tuple(one.text for one in self.proposals)


_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'?|"(?:[^"\\]|\\.)*"?)+""")
_MOST_PATHS = 200
"""Paths of the host that are proposed at once."""

_BRACE = re.compile(r"(?<!\{)\{([^\W\d]\w*)?$")


def split(text: str) -> tuple[list[str], str]:
    """Return a line's complete arguments, as they are written, and the one that it ends with; empty after a space."""
    words = _WORD.findall(text)
    if words and not text[-1:].isspace():
        return words[:-1], words[-1]
    return words, ""


def complete(command: Command, text: str, names: Names) -> Completion:
    """Return what may stand at the end of a command's line; `text` is the line up to the cursor."""
    words, last = split(text)
    if brace := _BRACE.search(last):
        return _matching(brace[1] or "", _variables(names.variables()))
    line = _Line(command, words, names)
    if line.option is not None:
        return line.value(line.option, last)
    if last.startswith("-") and not line.tail_begun:
        flag, equals, value = last.partition("=")
        if equals and (option := command.spelled.get(flag)) is not None:
            return line.value(option, value)
        return _matching(last, _words(line.flags()))
    return _matching(last, line.operand(last))


def _matching(fragment: str, candidates: Iterable[Proposal]) -> Completion:
    return Completion(fragment, tuple(sorted({one for one in candidates if one.text.startswith(fragment)})))


def _words(texts: Iterable[str]) -> list[Proposal]:
    return [Proposal(text) for text in texts]


def _paths(texts: Iterable[str]) -> list[Proposal]:
    return [Proposal(text, Kind.PATH) for text in texts]


def _variables(texts: Iterable[str]) -> list[Proposal]:
    return [Proposal(text, Kind.VARIABLE) for text in texts]


class _Line:
    """The arguments before the last one, by the command's grammar."""

    def __init__(self, command: Command, words: Sequence[str], names: Names) -> None:
        self.command = command
        self.names = names
        self.operands: list[str] = []
        self.values: dict[str, str] = {}
        self.option: Option | None = None
        """The option whose value comes next, None if an option or an operand does."""
        self._all_operands = False
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        if self.option is not None:
            self.values[self.option.name], self.option = word, None
        elif self.tail_begun or self._all_operands or not word.startswith("-") or word == "-":
            self.operands.append(word)
        elif word == "--":
            self._all_operands = True
        else:
            flag, equals, value = word.partition("=")
            option = self.command.spelled.get(flag)
            if option is None or not option.takes_value:
                return
            if equals:
                self.values[option.name] = value
            else:
                self.option = option

    @property
    def tail_begun(self) -> bool:
        """Whether the container's command has begun, so that the next word is not an option of this project."""
        return self.command.tail and len(self.operands) > self.command.most

    @property
    def in_tail(self) -> bool:
        """Whether the next word belongs to the container, if it is not an option."""
        return self.command.tail and len(self.operands) >= max(1, self.command.most)

    def flags(self) -> list[str]:
        """Return the spellings of options; one whose value may be left out is also written with `=`."""
        found = []
        for flag, option in self.command.spelled.items():
            found.append(flag)
            if option.alone is not None and option.choices:
                found += [f"{flag}={choice}" for choice in option.choices]
        return found

    def value(self, option: Option, fragment: str) -> Completion:
        """Return the completion of an option's value."""
        names = self.names
        if option.choices:
            return _matching(fragment, _words(option.choices))
        if option.kind == ValueKind.VOLUME:
            _, colon, target = fragment.rpartition(":")
            if colon:
                return _matching(target, self._container_paths(target))
            volumes = _words(f"{name}:" for name in names.volumes())
            return _matching(fragment, [*_paths(names.host_paths(fragment)), *volumes])
        if option.kind == ValueKind.VARIABLE:
            last = fragment.rpartition(",")[2]
            of_host = option.name == "env"
            return _matching(last, _words(names.environment()) if of_host else _variables(names.variables()))
        if option.kind == ValueKind.PATH:
            return _matching(fragment, _paths(names.host_paths(fragment)))
        if option.kind == ValueKind.CONTAINER:
            return _matching(fragment, _words(names.containers()))
        if option.kind == ValueKind.CONTAINER_PATH:
            return _matching(fragment, self._container_paths(fragment))
        return Completion(fragment)

    def operand(self, beginning: str) -> Iterable[Proposal]:
        """Return what may be the next operand: the description of the command's operands says what it is."""
        if self.in_tail and self.command.name == "volume":
            return _words(self.names.volumes()) if self.operands[0] in ("inspect", "rm") else ()
        if self.in_tail:
            return self._container_paths(beginning) if beginning.startswith("/") else ()
        described = [word.strip("[]").removesuffix("...").rstrip("[") for word in self.command.operands.split()]
        if not described:
            return ()
        kinds = described[min(len(self.operands), len(described) - 1)].split("|")
        if len(described) > 1 and self.command.operands.startswith("["):
            kinds += described[1].split("|")
        found: list[Proposal] = []
        for kind in kinds:
            found += self._of_kind(kind.partition("[")[0].partition("@")[0], beginning)
        return found

    def _of_kind(self, kind: str, beginning: str) -> list[Proposal]:
        if kind == "IMAGE":
            paths = _paths(self.names.host_paths(beginning)) if beginning[:1] in (".", "/", "~") else []
            return _words(self.names.images()) + paths
        if kind == "CONTAINER":
            return _words(self.names.containers())
        if kind == "NAME" and self.command.name.startswith("volume"):
            return _words(self.names.volumes())
        if kind == "PATH" and self.operands:
            return _paths(self.names.container_paths("", self.operands[0].partition("@")[0], beginning or "/"))
        if kind in ("FILE", "DIR"):
            return _paths(self.names.host_paths(beginning))
        return _words([kind] if kind.islower() else [])

    def _container_paths(self, beginning: str) -> list[Proposal]:
        image = self.operands[0] if self.operands else ""
        return _paths(self.names.container_paths(image, self.values.get("name", ""), beginning or "/"))


def verbs(text: str, known: Mapping[str, object]) -> Completion:
    """Return the completion of a verb; `known` are the verbs."""
    return _matching(text, _words(known))


def host_paths(beginning: str) -> list[str]:
    """Return the host paths that begin so, as they would be written; at most _MOST_PATHS of them."""
    folder, _, name = beginning.rpartition("/")
    prefix = f"{folder}/" if "/" in beginning else ""
    found = []
    with (
        contextlib.suppress(OSError, RuntimeError, ValueError),
        os.scandir(Path(prefix or ".").expanduser()) as entries,
    ):
        for entry in entries:
            if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
                found.append(prefix + entry.name + ("/" if entry.is_dir() else ""))
            if len(found) >= _MOST_PATHS:
                break
    return found
