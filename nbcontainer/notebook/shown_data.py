"""What a cell puts out, for the page: text as it comes, and data that its programs show."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN_LIMIT = 64 << 20
"""Bytes of data that one cell shows."""


class CellOutput:
    """The output of one cell: a `nbcontainer.containers.live.process.ShellListener`. Used by one thread at a time."""

    def __init__(self, stdout: Callable[[bytes], None], stderr: Callable[[bytes], None], *, trust: bool) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._trust = trust
        self._left = SHOWN_LIMIT

    def shown(self, mime: str, data: bytes) -> None:
        """Display data, made inert unless it is trusted."""
        from IPython.display import display

        from nbcontainer.values.inert import bundle

        self._left -= len(data)
        if self._left < 0:
            self.stderr(f"nbcontainer: display: the cell shows more than {SHOWN_LIMIT >> 20} MiB\n".encode())
            return
        try:
            shown = bundle(mime, data, trust=self._trust)
        except ValueError as error:
            self.stderr(f"nbcontainer: display: {error}\n".encode())
        else:
            display(shown, raw=True)  # type: ignore[no-untyped-call]

    def inert(self) -> CellOutput:
        """Return an output of the same cell that trusts no data."""
        return CellOutput(self.stdout, self.stderr, trust=False)

    def cleared(self, wait: bool) -> None:
        """Clear the cell's output."""
        from IPython.display import clear_output

        clear_output(wait)  # type: ignore[no-untyped-call]
