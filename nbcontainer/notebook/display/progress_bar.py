"""Progress in a notebook: one display, updated in place up to its final state."""

from __future__ import annotations

import html
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.progress_line import PATIENCE, TerminalLine, line
from nbcontainer.rendering import page

if TYPE_CHECKING:
    from nbcontainer.progress import Listener, State


class Bar:
    """One state, as a bar with its line of text."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __repr__(self) -> str:
        return line(self._state)

    def _repr_html_(self) -> str:
        state = self._state
        value = f' value="{min(state.done, state.total)}" max="{state.total}"' if state.total else ""
        bar = "" if state.finished else f'<progress{value} style="vertical-align: middle"></progress> '
        return page.line(f"{bar}<code>{html.escape(line(state))}</code>")


class Display:
    """A listener that keeps one display of the cell's output up to date (IPython.display, DisplayHandle)."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, state: State) -> None:
        """Show the state if the work has taken long enough."""
        from IPython.display import display

        if self._handle is not None:
            self._handle.update(Bar(state))
        elif state.seconds >= PATIENCE:
            self._handle = display(Bar(state), display_id=True)  # type: ignore[no-untyped-call]


def listener(shell: Any) -> Listener | None:
    """Return what shows progress: a display in a notebook, a line in a terminal, else None."""
    if hasattr(shell, "kernel"):
        return Display()
    return TerminalLine(sys.stderr) if sys.stderr.isatty() else None
