"""`!command`, as in IPython: at the beginning of a line, the shell gets the command without the `!`.

`! command`, with a space, is left as it is: it is the shell's negation.
"""

from __future__ import annotations

import re

_COMMAND = re.compile(r"[ \t]*!(?=[^\s!=(;|&<>])")
_PART = re.compile(
    r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*"|(?P<here><<(?P<tabs>-?)[ \t]*(?P<quote>['"\\]?)(?P<word>[A-Za-z_][\w.-]*))"""
    r"""|<<<|(?P<comment>(?<![^\s;|&()])\#[^\n]*)|(?P<end>\n)""",
    re.DOTALL,
)
"""What a line's end does not end, or what the next line depends on: quotes, here-documents and comments."""


def without_bangs(code: str) -> str:
    """Return a cell in which each line that begins with `!command` begins with `command`.

    Lines in quotes, in here-documents and after a backslash stay as they are.
    """
    if "!" not in code:
        return code
    parts: list[str] = []
    waiting: list[tuple[bool, str]] = []
    at = 0
    while at < len(code):
        at = _take_bang(code, at, parts)
        end = _line_end(code, at, waiting)
        parts.append(code[at:end])
        at = _take_here_documents(code, end, waiting, parts)
    return "".join(parts)


def _take_bang(code: str, at: int, parts: list[str]) -> int:
    """Return where the line's command begins; what is before it, without the `!`, goes to `parts`."""
    found = _COMMAND.match(code, at)
    if found is None:
        return at
    parts.append(found[0][:-1])
    return found.end()


def _line_end(code: str, at: int, waiting: list[tuple[bool, str]]) -> int:
    """Return where the next line of commands begins. The markers that end here-documents go to `waiting`."""
    for found in _PART.finditer(code, at):
        if found["here"]:
            waiting.append((bool(found["tabs"]), found["word"]))
        elif found["end"]:
            return found.end()
    return len(code)


def _take_here_documents(code: str, at: int, waiting: list[tuple[bool, str]], parts: list[str]) -> int:
    """Return where the commands after the here-documents begin; their lines go to `parts`."""
    while waiting and at < len(code):
        end = code.find("\n", at) + 1 or len(code)
        line = code[at:end]
        parts.append(line)
        tabs, word = waiting[0]
        if (line.lstrip("\t") if tabs else line).rstrip("\n") == word:
            waiting.pop(0)
        at = end
    waiting.clear()
    return at
