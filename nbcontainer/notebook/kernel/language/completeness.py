"""Whether a cell is complete: the container's shell parses it without running it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

COMPLETE, INCOMPLETE, INVALID = "complete", "incomplete", "invalid"

_SCRIPT = """
case $BASH_VERSION in
'') "$0" -n /dev/nbcontainer/cell 2>&1 ;;
*) "$BASH" -O extglob -n /dev/nbcontainer/cell 2>&1 ;;
esac
echo "$?"
"""

_INCOMPLETE = re.compile(
    r"unexpected (end of file|EOF)|end of file unexpected|unterminated quoted string|EOF in backquote|missing '\}'"
    r"|here-document at line \d+ delimited by end-of-file",
    re.IGNORECASE,
)
"""Errors of bash, dash and ash for an incomplete cell."""

_HERE = re.compile(r"<<(-?)\s*(['\"]?)([A-Za-z_]\w*)\2")
_BLOCK = re.compile(r"(?:\b(?:then|do|else)|[{(])\s*$")


def completeness(code: str, ask: Callable[[str], str]) -> tuple[str, str]:
    """Return complete, incomplete or invalid; and, for an incomplete cell, the indent of its next line.

    The cell is in the shell's file already. `ask` runs a script in the shell.
    """
    if code.startswith(("#!", "%")) or not code.strip():
        return COMPLETE, ""
    *words, status = ask(_SCRIPT).splitlines() or ["1"]
    output = "\n".join(words)
    if _INCOMPLETE.search(output) or code.endswith("\\") or not _here_documents_end(code):
        return INCOMPLETE, "    " if _BLOCK.search(code) else ""
    return (COMPLETE if status == "0" else INVALID), ""


def _here_documents_end(code: str) -> bool:
    """Return whether each here-document has its last line; dash and ash accept the end of the cell instead."""
    waiting: list[tuple[bool, str]] = []
    for line in code.split("\n"):
        if waiting:
            tabs, word = waiting[0]
            if (line.lstrip("\t") if tabs else line) == word:
                waiting.pop(0)
        else:
            waiting = [(bool(found[1]), found[3]) for found in _HERE.finditer(line)]
    return not waiting
