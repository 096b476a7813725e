"""Where the output of a notebook's cell goes: to variables, and to the page as far as its limit allows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.failing_line import Tail
from nbcontainer.commands.output import FloodGate, TextSink
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.notebook import defaults
from nbcontainer.notebook.cell_outputs import Destination, both
from nbcontainer.notebook.notices import write
from nbcontainer.notebook.shown_data import CellOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Words
    from nbcontainer.notebook.cell_outputs import Captured
    from nbcontainer.store.layout import Store


class OutputOnPage:
    """The output of one cell. `limit` are the bytes to show; all of it goes to a file of `store` if it has more.

    With `trust`, data that the cell shows is displayed as it is. Raises `UsageError` for an untrusted cell that is to
    be trusted. The owner calls `finish` when the cell has ended.
    """

    def __init__(self, words: Words, store: Store, limit: int, *, trust: bool) -> None:
        self._trust = trust
        self._gate = FloodGate(limit, lambda: store.path / "tmp" / store.unique())
        self._out, self._err = Destination(words.one("out")), Destination(words.one("err"))
        self._shown = TextSink(sys.stdout, flush=_wants_flush(sys.stdout))
        self._shown_err = TextSink(sys.stderr, flush=_wants_flush(sys.stderr))
        self._errors = Tail()
        self._visible: Callable[[bytes], None] = self._shown
        self._visible_err: Callable[[bytes], None] = self._shown_err
        if words.has(defaults.UNTRUSTED):
            inert = _inert_sink(words)
            self._visible, self._visible_err = inert(self._shown), inert(self._shown_err)

    def streams(self, notice: Callable[[str], None], captured: Captured | None) -> Streams:
        """Return the streams of the cell; a part of the output is `captured` too, if that is given."""
        gate = self._gate
        errors = both(self._errors, self._err.sink(gate.through(self._visible_err)))
        streams = Streams(
            self._out.sink(gate.through(self._visible)), errors, on_notice=notice, on_wait=write, on_cached=write
        )
        if captured is not None:
            captured.take_part(streams)
        streams.display = CellOutput(streams.stdout, streams.stderr, trust=self._trust)
        return streams

    def finish(self, namespace: dict[str, Any]) -> None:
        """Show what is left, and set the variables of `--out` and `--err`."""
        self._gate.finish(self._visible)
        self._shown.finish()
        self._shown_err.finish()
        self._out.fill(namespace)
        self._err.fill(namespace)

    @property
    def last_errors(self) -> bytes:
        """The end of what the cell wrote to standard error."""
        return bytes(self._errors.data)


def _inert_sink(words: Words) -> Callable[[TextSink], Callable[[bytes], None]]:
    """Return what makes the sink for what is shown of an untrusted cell. Raises `UsageError` if it is to be trusted."""
    from nbcontainer.commands.options.untrusted import contradiction
    from nbcontainer.rendering.inert_text import InertText

    if words.has("trust-output"):
        raise contradiction("--trust-output")
    return InertText


def _wants_flush(stream: Any) -> bool:
    """A notebook's own stream sends itself a few times a second; asking it to, at each write, makes floods slow."""
    return not type(stream).__module__.startswith("ipykernel")
