"""Expressions of Python in the first line of a cell (`--in NAME=EXPR`), which have quotes of Python's."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from nbcontainer.notebook.interpolation import next_word

if TYPE_CHECKING:
    from nbcontainer.commands.grammar import Command

_OPTION = "--in"
_NAMED = re.compile(r"\s*[^\W\d]\w*\s*=(?!=)")
_TOKENS = re.compile(r"""(?:[rbuf]|rb|br)?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|[\[({]|[\])}]|\s|.""", re.IGNORECASE)


def quote_expressions(line: str, command: Command, *, before: int = 0) -> str:
    """Return the line with the expressions of `--in NAME=EXPR` quoted for the shell.

    An expression ends at the first space that is in no quotes and no brackets. `command` is the grammar of the line,
    after `before` arguments. The command of the container, after the image, stays as it is.
    """
    parts, done, room = [], 0, command.most + before
    at, end = next_word(line, 0)
    while at < end:
        word = line[at:end]
        flag, equals, _ = word.partition("=")
        if flag == _OPTION and (value := _NAMED.match(line, at + len(flag) + len(equals))):
            end = value.start() + _length(line[value.start() :])
            begin = value.start() + len(value[0]) - len(value[0].lstrip())
            parts += [line[done:begin], shlex.quote(line[begin:end])]
            done = end
        elif word == "--" or (flag in command.spelled and command.spelled[flag].rest):
            break
        elif word.startswith("-") and word != "-":
            if command.takes_next(word):
                _, end = next_word(line, end)
        elif room:
            room -= 1
        else:
            break
        at, end = next_word(line, end)
    return "".join((*parts, line[done:]))


def _length(text: str) -> int:
    """Return the length of an expression with its name, and of the spaces before them."""
    depth, end = 0, len(text) - len(text.lstrip())
    for token in _TOKENS.finditer(text, end):
        if token[0].isspace() and depth == 0:
            break
        depth += (token[0] in "[({") - (token[0] in "])}")
        end = token.end()
    return end
