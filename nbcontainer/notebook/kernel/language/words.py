"""The part of the shell's grammar that completion and inspection need: the word at the cursor, and its kind."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BREAKS = frozenset(" \t\n|&;()<>`")
_BEFORE_COMMAND = frozenset(
    (
        "",
        "then",
        "do",
        "else",
        "elif",
        "if",
        "while",
        "until",
        "!",
        "{",
        "time",
        "command",
        "exec",
        "sudo",
        "nohup",
        "env",
    )
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_VARIABLE = re.compile(r"\$(\{?)([A-Za-z_]\w*|)$")
_SPECIAL = re.compile(r"[^\w@%+=:,./~-]")


@dataclass(frozen=True)
class CursorPlace:
    """The place of a cursor.

    `start` is where its word begins in the text; `word` is the word up to the cursor without its quotes; `quote` is the
    quote that is open; `command` is the first word of the command, empty if this word is the first; `redirected` is
    whether the word is a file to read or write.
    """

    start: int
    word: str
    quote: str = ""
    command: str = ""
    redirected: bool = False

    @property
    def variable(self) -> str | None:
        """The beginning of the variable's name at the cursor, with its `$` or `${`; None if there is none."""
        found = None if self.quote == "'" else _VARIABLE.search(self.word)
        return found and found.group()


def place(text: str) -> CursorPlace:
    """Return the place at the end of `text`."""
    command, last, redirected = "", "", False
    at = 0
    while True:
        while at < len(text) and text[at] in _BREAKS:
            if text[at] in "\n|&;(`" and text[at - 1 : at + 1] not in (">&", "<&"):
                command, last, redirected = "", "", False
            elif text[at] in "<>":
                redirected = True
            at += 1
        if at < len(text) and text[at] == "#":
            at = text.find("\n", at) % (len(text) + 1)
            continue
        start = at
        word, quote, at = _word(text, at)
        if at >= len(text):
            return CursorPlace(start, word, quote, command, redirected)
        if redirected:
            redirected = False
        elif not command and last in _BEFORE_COMMAND and word not in _BEFORE_COMMAND and not _ASSIGNMENT.match(word):
            command = word
        last = "" if _ASSIGNMENT.match(word) and not command else word


def _word(text: str, at: int) -> tuple[str, str, int]:
    """Return the word that begins at `at`, without quotes; the quote that is open at its end; and its end."""
    word: list[str] = []
    quote = ""
    while at < len(text):
        letter = text[at]
        if quote == "'":
            if letter == "'":
                quote = ""
            else:
                word.append(letter)
        elif letter == "\\" and at + 1 < len(text):
            at += 1
            word.append(text[at])
        elif quote:
            if letter == '"':
                quote = ""
            else:
                word.append(letter)
        elif letter in "'\"":
            quote = letter
        elif letter in _BREAKS:
            break
        else:
            word.append(letter)
        at += 1
    return "".join(word), quote, at


def quoted(text: str, quote: str = "") -> str:
    """Return `text` as a word of the shell, in the quote that is open already, or with backslashes."""
    if quote == "'":
        return "'" + text.replace("'", "'\\''")
    if quote == '"':
        return '"' + re.sub(r'([\\"$`])', r"\\\1", text)
    return _SPECIAL.sub(lambda found: "\\" + found.group(), text)


def name_at(text: str, position: int) -> str:
    """Return the name around a position: a variable's with its `$`, or a command's; empty if there is none."""
    for found in re.finditer(r"\$\{?\w+|[\w./+-]+", text):
        if found.start() <= position <= found.end():
            return found.group().replace("{", "")
    return ""
