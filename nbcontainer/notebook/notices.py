"""Lines about runs that containers did not write: which this notebook has shown."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from nbcontainer.containers.cells.surroundings import PASSED, STAYED

if TYPE_CHECKING:
    from collections.abc import Callable


class Notices:
    """Shows lines about runs. A line about variables of the notebook is shown once."""

    def __init__(self) -> None:
        self._last = ""
        self._once: set[str] = set()

    def forget(self) -> None:
        """Show the next line, whatever was shown before it."""
        self._last = ""

    def show(self, text: str, *, again: bool = False) -> None:
        """Show a line: the same one as before only `again`."""
        if PASSED in text or STAYED in text:
            self._show_new(text)
            return
        if again or text != self._last:
            write(text)
        self._last = text

    def of(self, *, again: bool) -> Callable[[str], None]:
        """Return `show` for the lines of one cell; `again` if the cell itself asks for what they are about."""
        return functools.partial(self.show, again=again)

    def _show_new(self, text: str) -> None:
        if text not in self._once:
            write(text)
        self._once.add(text)


def write(text: str) -> None:
    """Show a line."""
    print(f"nbcontainer: {text}", file=sys.stderr)
