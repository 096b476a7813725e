"""Progress for people: one line of text about a state, and that line kept up to date in a terminal."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from nbcontainer.rendering.quantities import size

if TYPE_CHECKING:
    from nbcontainer.commands.output import Writable
    from nbcontainer.progress import State

PATIENCE = 0.3
"""Seconds of work below which nothing is shown."""

_CLEAR = "\r\x1b[K"


def line(state: State) -> str:
    """A state as one line: `pull python:3.12  2/5 layers  31.4 MB of 48.2 MB  65%`."""
    parts = [state.what]
    if state.layers:
        parts.append(f"{state.layers_done}/{state.layers} layers")
    if state.total:
        parts += [f"{size(state.done)} of {size(state.total)}", f"{100 * min(state.done, state.total) // state.total}%"]
    elif state.done:
        parts.append(size(state.done))
    if state.finished:
        parts.append(f"failed after {state.seconds:.1f} s" if state.failed else f"{state.seconds:.1f} s")
    return "  ".join(parts)


class TerminalLine:
    """A listener that draws one line over and over in a terminal, and takes it away at the end."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._drawn = False

    def __call__(self, state: State) -> None:
        """Draw the state."""
        if state.finished:
            if self._drawn:
                self._write(_CLEAR)
            self._drawn = False
        elif state.seconds >= PATIENCE:
            self._drawn = True
            self._write(_CLEAR + line(state)[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
