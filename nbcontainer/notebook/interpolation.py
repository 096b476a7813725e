"""Interpolation of `{expression}` and `$NAME` in a magic's arguments, with the notebook's variables."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shlex
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.errors import UsageError
from nbcontainer.linux.paths import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_QUOTED_OR_BRACE = re.compile(r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*"|\{\{?""")
_SPECIAL = frozenset("'\"\\{")
_DOLLAR = re.compile(r"\$(?:([^\W\d]\w*)|\{([^}]*)\}|\()|\{\{|\{")
_SHELL_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TOKENS = re.compile(r"""('{3}|"{3})(?:[^\\]|\\.)*?\1|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\\.|[\[\](){}:]""", re.DOTALL)
_BRACE = re.compile(r"[{}]")
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
_DEEPEST = 200
"""Brackets in brackets: Python's tokenizer takes no more (MAXLEVEL)."""

_MOST_COLONS = 8
LITERAL = "\0"
"""A dollar sign in single quotes or after a backslash, in the result of `split_for_expansion`."""

_BRACES = re.compile(r"\{\{|\}\}|[{}]")
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {"": lambda value: value, "r": repr, "s": str, "a": ascii}


class _Field(NamedTuple):
    """The content of braces, `length` characters: an expression, a conversion and a format, as in f-strings."""

    expression: ast.Expression
    conversion: str
    format: str
    length: int


def split(line: str) -> list[str]:
    """Split a line into arguments as a shell does; spaces and quotes in `{expression}` belong to the expression.

    Raises `UsageError`.
    """
    return [plain(word) for word in split_for_expansion(line)]


def split_for_expansion(line: str) -> list[str]:
    """Split a line as `split` does, for `expand`: a dollar sign that a shell would leave as it is becomes `LITERAL`."""
    if line.isascii() and line.isprintable() and _SPECIAL.isdisjoint(line):
        return line.split()  # the same as shlex, which reads character by character; most lines are like this
    if LITERAL in line:
        raise UsageError("the line contains a NUL character", hint="remove it")
    parts, at = [], 0
    while found := _QUOTED_OR_BRACE.search(line, at):
        end = found.end()
        if found[0] == "{":
            with contextlib.suppress(SyntaxError):
                end += _field(line[end:]).length + 1
        text = line[found.start() : end]
        parts += [line[at : found.start()], shlex.quote(text) if found[0] == "{" and len(text) > 1 else _mark(text)]
        at = end
    try:
        return shlex.split("".join((*parts, line[at:])))
    except ValueError as error:
        raise UsageError(f"cannot parse {line!r}: {error}", hint="check its quotes") from None


def next_word(line: str, at: int) -> tuple[int, int]:
    """Return where the next word of a line begins and ends, from a position on; an empty one at the end.

    Spaces in quotes and in `{expression}` belong to it.
    """
    start = end = at + len(line[at:]) - len(line[at:].lstrip())
    while end < len(line) and not line[end].isspace():
        found = _QUOTED_OR_BRACE.match(line, end)
        end = found.end() if found else end + 1
        if found and found[0] == "{":
            with contextlib.suppress(SyntaxError):
                end += _field(line[end:]).length + 1
    return start, end


def unix_lines(cell: str) -> str:
    r"""Return a cell with "\n" for "\r\n", if all its lines end so: it comes from a file of Windows.

    IPython ends the last line with "\n" if nothing does.
    """
    if "\r\n" not in cell:
        return cell
    *lines, last = cell.removesuffix("\n").split("\n")
    whole = lines or [last]
    return cell.replace("\r\n", "\n") if all(line.endswith("\r") for line in whole) else cell


def _mark(text: str) -> str:
    """Return a quoted or escaped part of a line with its literal dollar signs marked."""
    if text[0] == "'":
        return text.replace("$", LITERAL)
    return text.replace(r"\$", LITERAL)


def plain(word: str) -> str:
    """Return a word as it was written: marked dollar signs are dollar signs."""
    return word.replace(LITERAL, "$")


def expand(word: str, names: Mapping[str, Any]) -> str:
    """Return a word with `$NAME` and `${NAME}` replaced, and braces doubled in the values, for `filler`.

    A name is a variable of the notebook, as IPython has it, or else of its environment; `$PWD` is the directory in
    which the notebook is now. A name with letters beyond ASCII is a variable of the notebook, or ends before them, as
    in a shell. Raises `UsageError`.
    """
    if "$" not in word and LITERAL not in word:
        return word
    parts, at = [], 0
    while found := _DOLLAR.search(word, at):
        parts.append(word[at : found.start()])
        at = found.end()
        if found[0] == "{":  # an expression: a dollar sign in it belongs to Python
            with contextlib.suppress(SyntaxError):
                at += _field(word[at:]).length + 1
        if found[0][0] == "{":
            parts.append(word[found.start() : at])
        else:
            name, text = _named(found, names)
            at = found.start() + len(text)
            parts.append(_variable(name, text, names).replace("{", "{{").replace("}", "}}"))
    return plain("".join((*parts, word[at:])))


def _named(found: re.Match[str], names: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name that a dollar sign is before, as Python has it, and the text for which its value comes."""
    name, text = found[1] or found[2] or "", found[0]
    if name.isascii():
        return name, text
    plain_name = unicodedata.normalize("NFKC", name)  # as Python reads identifiers
    if found[1] and plain_name not in names and (short := _SHELL_NAME.match(name)):
        return short[0], f"${short[0]}"
    return plain_name, text


def _variable(name: str, text: str, names: Mapping[str, Any]) -> str:
    if not name.isidentifier():
        hint = "write {expression} for a value of Python, or quote it: '$'"
        raise UsageError(f"cannot expand '{text}': only $NAME and ${{NAME}} are expanded", hint=hint)
    if name in names:
        return str(names[name])
    if name == "PWD":
        return str(absolute("."))  # as the kernel reports it: `%cd` does not change the environment's PWD
    if name in os.environ:
        return os.environ[name]
    raise UsageError(
        f"variable '{name}' is not set in the notebook", hint=f"write '{text}' in single quotes for the text"
    )


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

    Python's parser decides, so that braces and colons in quotes, slices and dictionaries belong to the expression. It
    reads only what can be one by its brackets: a line can have hundreds of braces.
    """
    problem = SyntaxError("'{' was never closed")
    for end, cut in _candidates(text):
        code, conversion = text[:cut], ""
        if found := re.fullmatch(r"(.*)!([rsa])", code, re.DOTALL):
            code, conversion = found[1], found[2]
        form = text[cut + 1 : end]
        try:
            expression = ast.parse(code.strip(), mode="eval")
        except (SyntaxError, ValueError) as error:
            if problem.text is None and isinstance(error, SyntaxError):
                problem = error
            continue
        if form and isinstance(expression.body, ast.Constant) and isinstance(expression.body.value, str):
            raise SyntaxError("a text with a format, or JSON")  # as in {"port":80}
        return _Field(expression, conversion, form, end)
    raise problem


def _candidates(text: str) -> list[tuple[int, int]]:
    """Return where a field may end, and where its expression may: there, or at a colon before its format.

    Before a colon that is outside of brackets, an expression has as many lambdas as such colons.
    """
    found, colons = [], 0
    for token, at in _outside_brackets(text):
        if token == "}":
            found.append((at, at))
        elif colons < _MOST_COLONS:
            if text.count("lambda", 0, at) >= colons and (end := _end_of_format(text, at + 1)) is not None:
                found.append((end, at))
            colons += 1
    return sorted(found, key=lambda pair: (pair[0], pair[0] != pair[1], pair[1]))


def _outside_brackets(text: str) -> Iterator[tuple[str, int]]:
    """Yield the colons outside of quotes and brackets, and at last the brace that closes one before `text`."""
    depth = 0
    for found in _TOKENS.finditer(text):
        token = found[0]
        if depth == 0 and token in (":", "}"):
            yield token, found.start()
        depth += (token in _OPENING) - (token in _CLOSING)
        if not 0 <= depth <= _DEEPEST:
            return


def _end_of_format(text: str, start: int) -> int | None:
    """Return where a format that begins at `start` ends: at the first brace that closes none of its own."""
    depth = 0
    for found in _BRACE.finditer(text, start):
        depth += 1 if found[0] == "{" else -1
        if depth < 0:
            return found.start()
        if depth > _DEEPEST:
            break
    return None
