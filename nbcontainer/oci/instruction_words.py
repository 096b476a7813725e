"""The arguments of Dockerfile instructions: quotes, escapes and variables (docs.docker.com, Dockerfile reference).

The rules are those of moby/buildkit, frontend/dockerfile/shell/lex.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEPTH = 20  # variables inside the default values of variables


def words(text: str, env: Mapping[str, str]) -> list[str]:
    """Return the arguments in `text`, separated by white space, with quotes removed and variables replaced.

    Raises `UsageError`.
    """
    reader = _Reader(text, env)
    found = []
    while reader.skip_spaces():
        found.append(reader.word(stop_at_spaces=True))
    return found


def value(text: str, env: Mapping[str, str]) -> str:
    """Return `text` as one value, with quotes removed and variables replaced. Raises `UsageError`."""
    return _Reader(text, env).word(stop_at_spaces=False)


class _Reader:
    """Reads arguments from a text. `depth` is the number of variables around the text."""

    def __init__(self, text: str, env: Mapping[str, str], depth: int = 0) -> None:
        self._text = text
        self._env = env
        self._at = 0
        self._depth = depth

    def skip_spaces(self) -> bool:
        """Go to the next word; return whether there is one."""
        while self._next().isspace():
            self._at += 1
        return self._at < len(self._text)

    def word(self, *, stop_at_spaces: bool) -> str:
        """Return what comes next, to the end or to the next white space outside quotes."""
        found = []
        while char := self._next():
            if stop_at_spaces and char.isspace():
                break
            self._at += 1
            found.append(self._part(char))
        return "".join(found)

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _part(self, char: str) -> str:
        """Return the meaning of `char`, and of what belongs to it after it."""
        if char == "'":
            return self._until("'")
        if char == '"':
            return self._quoted()
        if char == "$":
            return self._variable()
        if char == "\\":
            return self._escaped()
        return char

    def _until(self, end: str) -> str:
        text, found, _ = self._text[self._at :].partition(end)
        if not found:
            raise UsageError(f"cannot parse {self._text!r}: No closing quotation", hint="check its quotes")
        self._at += len(text) + 1
        return text

    def _quoted(self) -> str:
        found = []
        while (char := self._next()) != '"':
            if not char:
                raise UsageError(f"cannot parse {self._text!r}: No closing quotation", hint="check its quotes")
            self._at += 1
            if char == "\\" and self._next() not in ('"', "$", "\\"):
                found.append(char)
            else:
                found.append(self._escaped() if char == "\\" else self._variable() if char == "$" else char)
        self._at += 1
        return "".join(found)

    def _escaped(self) -> str:
        char = self._next()
        self._at += 1
        return char

    def _variable(self) -> str:
        if self._next() == "{":
            self._at += 1
            return self._braced()
        found = _NAME.match(self._text, self._at)
        if found is None:
            return "$"
        self._at = found.end()
        return self._env.get(found[0], "")

    def _braced(self) -> str:
        """Return the value of `${NAME}`, `${NAME:-default}` or `${NAME:+other}`, from after the brace."""
        inside = self._inside_braces()
        found = _NAME.match(inside)
        if found is None:
            raise self._unsupported(inside)
        name, rest = found[0], inside[found.end() :]
        if not rest:
            return self._env.get(name, "")
        if_empty = rest.startswith(":")
        rest = rest.removeprefix(":")
        known = bool(self._env.get(name)) if if_empty else name in self._env
        if rest[:1] == "-":
            return self._env[name] if known else self._nested(rest[1:])
        if rest[:1] == "+":
            return self._nested(rest[1:]) if known else ""
        raise self._unsupported(inside)

    def _inside_braces(self) -> str:
        start, depth = self._at, 1
        while depth:
            char = self._next()
            if not char:
                raise UsageError(f"cannot parse {self._text!r}: no closing }}", hint="write ${NAME}")
            depth += (char == "{") - (char == "}")
            self._at += 1
        return self._text[start : self._at - 1]

    def _nested(self, text: str) -> str:
        if self._depth == _DEPTH:
            raise UsageError(f"cannot parse {self._text!r}: too many nested variables", hint="write the value itself")
        return _Reader(text, self._env, self._depth + 1).word(stop_at_spaces=False)

    def _unsupported(self, inside: str) -> UsageError:
        hint = "write ${NAME}, ${NAME:-default} or ${NAME:+other}"
        return UsageError(f"unsupported variable ${{{inside}}} in {self._text!r}", hint=hint)
