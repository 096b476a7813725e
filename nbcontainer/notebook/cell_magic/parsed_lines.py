"""The first lines of cells, parsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.grammar import Words, parse
from nbcontainer.notebook import defaults
from nbcontainer.notebook.cell_magic.expressions import quote_expressions
from nbcontainer.notebook.cell_magic.grammars import CELL, RUN_LINE
from nbcontainer.notebook.interpolation import split_for_expansion

if TYPE_CHECKING:
    from collections.abc import Callable

FILLED = frozenset("{}$\0")
"""Characters of arguments in which something is replaced."""

_MOST = 100


def cell_arguments(line: str) -> list[str]:
    """Return the arguments of `%%container`, before interpolation. Raises `UsageError`."""
    return split_for_expansion(quote_expressions(line, CELL) if "--in" in line else line)


def verb_arguments(line: str) -> list[str]:
    """Return the verb of `%container` and its arguments, before interpolation. Raises `UsageError`."""
    of_run = "--in" in line and line.split(maxsplit=1)[0] == RUN_LINE.name
    return split_for_expansion(quote_expressions(line, RUN_LINE, before=1) if of_run else line)


class ParsedLines:
    """The lines of the last cells in which nothing is replaced. Cells run again, and many begin with the same line."""

    def __init__(self) -> None:
        self._kept: dict[str, Words] = {}

    def of(self, line: str, fill: Callable[[str], str]) -> Words:
        """Return the parsed arguments of a cell's first line, which the caller may change. Raises `UsageError`."""
        found = self._kept.get(line)
        if found is None:
            found = parse(CELL, cell_arguments(line), fill=fill)
            if not FILLED.isdisjoint(line):
                return found
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[line] = found
        return defaults.copied(found)
