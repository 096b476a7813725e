"""The line of a cell's script that an interpreter reports on standard error.

The text comes from the container and may be forged: it chooses which line of the user's own script is shown, and
nothing else.
"""

from __future__ import annotations

import re

from nbcontainer.rendering.text import one_line
from nbcontainer.sandbox.steps.devices import SCRIPT

TAIL = 4096
"""Bytes of the end of standard error in which a report is looked for."""

_FILES = rf"(?:{SCRIPT}|/dev/nbcontainer/cell|/dev/nbcontainer/shown/cell\.\d+\.[0-9a-f]+)"
"""The script of a cell of its own, that of a shell that continues, and that of a cell beside others."""

_SHELL = re.compile(rf"(?:[\w.-]+: )?{_FILES}: (?:line )?(\d{{1,9}}): ")
"""bash and ash write `line 3`, dash `3`; a shell's name may be before it."""

_PYTHON = re.compile(rf'^  File "{_FILES}", line (\d{{1,9}})', re.MULTILINE)
_SHELL_END, _PYTHON_END = re.compile("\n"), re.compile("\r\n?|\n")
"""What ends a line of a script: other characters, at which `str.splitlines` ends one too, are part of it."""

_TRACEBACK = "Traceback (most recent call last)"
_WIDTH = 60


def failing_line(script: str | None, errors: bytes) -> str:
    """Return `line 3: make all` for the line of `script` that the end of its `errors` is about; empty if unknown.

    A shell's report counts if it is the last line: what follows is about something else.
    """
    number, ends = _report(errors.decode("utf-8", "replace").rstrip()) if script and errors else (0, _SHELL_END)
    lines = ends.split(script) if script and number else []
    if not 0 < number <= len(lines) or not lines[number - 1].strip():
        return ""
    return f"line {number}: {one_line(lines[number - 1], _WIDTH)}"


def _report(text: str) -> tuple[int, re.Pattern[str]]:
    """Return the number of the line that a report is about, 0 for none, and what ends a line for its writer."""
    if found := _SHELL.match(text.rpartition("\n")[2]):
        return int(found[1]), _SHELL_END
    _, traceback, rest = text.rpartition(_TRACEBACK)
    frames = _PYTHON.findall(rest if traceback else text.rpartition("\n\n")[2])
    return int(frames[-1]) if frames else 0, _PYTHON_END


class Tail:
    """Keeps the end of what passes."""

    def __init__(self, size: int = TAIL) -> None:
        self.data = bytearray()
        self._size = size

    def __call__(self, data: bytes) -> None:
        """Take some bytes."""
        self.data += data[-self._size :]
        del self.data[: -self._size]
