"""Interpolation of `{expression}` in a magic's arguments, with the notebook's variables."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_QUOTED_OR_BRACE = re.compile(r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*"|\{\{?""")
_SPECIAL = frozenset("'\"\\{")
_BRACES = re.compile(r"\{\{|\}\}|[{}]")
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"": lambda value: value, "r": repr, "s": str, "a": ascii}


class _Field(NamedTuple):
    """The content of braces, `length` characters: an expression, a conversion and a format, as in f-strings."""

    expression: ast.Expression
    conversion: str
    format: str
    length: int


def split(line: str) -> list[str]:
    """Split a line into words as a shell does; spaces and quotes in `{expression}` belong to the expression.

    Raises `UsageError`.
    """
    if line.isascii() and line.isprintable() and _SPECIAL.isdisjoint(line):
        return line.split()  # the same as shlex, which reads character by character; most lines are like this
    parts, at = [], 0
    while found := _QUOTED_OR_BRACE.search(line, at):
        end = found.end()
        if found[0] == "{":
            with contextlib.suppress(SyntaxError):
                end += _field(line[end:]).length + 1
        text = line[found.start() : end]
        parts += [line[at : found.start()], shlex.quote(text) if found[0] == "{" and len(text) > 1 else text]
        at = end
    try:
        return shlex.split("".join((*parts, line[at:])))
    except ValueError as error:
        raise UsageError(f"cannot parse {line!r}: {error}", hint="check its quotes") from None


def filler(namespace: Mapping[str, Any]) -> Callable[[str], str]:
    """Return a function that evaluates `{expression}` in a word, as f-strings do; `{{` and `}}` are braces.

    The function raises `UsageError`.
    """

    def fill(word: str) -> str:
        if "{" not in word and "}" not in word:
            return word
        try:
            return _fill(word, dict(namespace))
        except Exception as error:
            detail = error.msg if isinstance(error, SyntaxError) else error
            hint = "write {{ and }} for literal braces"
            raise UsageError(f"cannot evaluate {word!r}: {type(error).__name__}: {detail}", hint=hint) from None

    return fill


def _fill(word: str, namespace: dict[str, Any]) -> str:
    parts, at = [], 0
    while brace := _BRACES.search(word, at):
        parts.append(word[at : brace.start()])
        at = brace.end()
        if len(brace[0]) == 2:
            parts.append(brace[0][0])
        elif brace[0] == "}":
            raise SyntaxError("single '}'")
        else:
            field = _field(word[at:])
            at += field.length + 1
            # The notebook's own code, in the notebook's own process.
            value = eval(compile(field.expression, "<option>", "eval"), namespace)
            parts.append(format(_CONVERSIONS[field.conversion](value), _fill(field.format, namespace)))
    return "".join((*parts, word[at:]))


def _field(text: str) -> _Field:
    """Return the field that `text` begins with: up to the first closing brace before which there is an expression.

    Python's parser decides, so that braces and colons in quotes, slices and dictionaries belong to the expression.
    """
    problem = SyntaxError("'{' was never closed")
    for end in (found.start() for found in re.finditer("}", text)):
        inside = text[:end]
        for cut in (end, *(found.start() for found in re.finditer(":", inside))):
            code, conversion = inside[:cut], ""
            if found := re.fullmatch(r"(.*)!([rsa])", code, re.DOTALL):
                code, conversion = found[1], found[2]
            form = inside[cut + 1 :]
            try:
                expression = ast.parse(code.strip(), mode="eval")
            except (SyntaxError, ValueError) as error:
                if problem.text is None and isinstance(error, SyntaxError):
                    problem = error
                continue
            if form.count("{") == form.count("}"):
                return _Field(expression, conversion, form, end)
    raise problem
