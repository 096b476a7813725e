"""The progress of a map: one line of text, by the display of a notebook or the line of a terminal."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from nbcontainer.progress import State

if TYPE_CHECKING:
    from nbcontainer.progress import Listener

_INTERVAL = 0.2  # seconds between two reports


class Report:
    """Counts answers, and reports them to a listener. `total` is the number of items, None if it is not known."""

    def __init__(self, what: str, total: int | None, listener: Listener | None) -> None:
        self._what = what
        self._total = total
        self._listener = listener
        self._began = time.monotonic()
        self._shown = 0.0
        self._done = self._failed = 0

    def answered(self, *, ok: bool) -> None:
        """Count an answer."""
        self._done += 1
        self._failed += not ok

    def show(self, running: int, waits_for: str) -> None:
        """Report the state, if the last report is old enough."""
        now = time.monotonic()
        if self._listener is not None and now - self._shown >= _INTERVAL:
            self._shown = now
            self._listener(State(self.line(running, waits_for), seconds=now - self._began))

    def line(self, running: int, waits_for: str) -> str:
        """Return the state as text."""
        of = "" if self._total is None else f" of {self._total}"
        parts = [f"{self._what}  {self._done}{of}"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        if running:
            parts.append(f"{running} on their way")
        if waits_for:
            parts.append(f"waits for {waits_for}")
        return ", ".join(parts)

    def finish(self) -> None:
        """Report the last state."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener(State(self.line(0, ""), seconds=time.monotonic() - self._began, finished=True))


def listener() -> Listener | None:
    """Return what shows progress where this runs: a display in a notebook, a line in a terminal, else None."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython

        from nbcontainer.notebook.display.progress_bar import listener as of_shell

        shell: Any = get_ipython()
        return of_shell(shell)
    if not sys.stderr.isatty():
        return None
    from nbcontainer.commands.progress_line import TerminalLine

    return TerminalLine(sys.stderr)
