"""Where the output of a notebook's cell goes: to variables, and to the page as far as its limit allows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.commands.failing_line import Tail
from nbcontainer.commands.output import FloodGate, TextSink
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.notebook.cell_outputs import Destination
from nbcontainer.notebook.notices import write
from nbcontainer.notebook.shown_data import CellOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.commands.grammar import Words
    from nbcontainer.commands.output import Writable
    from nbcontainer.notebook.cell_outputs import Captured
    from nbcontainer.store.layout import Store


class _Sinks:
    """The sinks of a cell that has some output: `out` and `err` write to two streams, `inert` text if that is given."""

    def __init__(
        self, out: Writable, err: Writable, gate: FloodGate, inert: Callable[[TextSink], Callable[[bytes], None]] | None
    ) -> None:
        self._texts = [TextSink(stream, flush=_wants_flush(stream)) for stream in (out, err)]
        self._gate = gate
        visible: list[Callable[[bytes], None]] = [*self._texts] if inert is None else [*map(inert, self._texts)]
        self._visible, visible_err = visible
        self.out, self.err = gate.through(self._visible), gate.through(visible_err)

    def finish(self) -> None:
        """Show what is left."""
        self._gate.finish(self._visible)
        for text in self._texts:
            text.finish()


class OutputOnPage:
    """The output of one cell. `limit` returns the bytes to show; all of it goes to a file of `store` if it has more.

    With `trust`, data that the cell shows is displayed as it is; of an `untrusted` one, only colours pass. Raises
    `UsageError` for an untrusted cell that is to be trusted. The owner calls `finish` when the cell has ended. Most of
    it is made with the first output.
    """

    def __init__(self, words: Words, store: Store, limit: Callable[[], int], *, trust: bool, untrusted: bool) -> None:
        self._trust = trust
        self._store = store
        self._limit = limit
        self._out, self._err = Destination(words.one("out")), Destination(words.one("err"))
        self._streams = sys.stdout, sys.stderr
        self._inert = _inert_sink(words) if untrusted else None
        self._made: _Sinks | None = None
        self._errors: Tail | None = None
        self._err_sink = self._err.sink(self._show_error)

    @property
    def _sinks(self) -> _Sinks:
        """The sinks. One thread at a time has output."""
        if self._made is None:
            gate = FloodGate(self._limit(), lambda: self._store.path / "tmp" / self._store.unique())
            self._made = _Sinks(*self._streams, gate, self._inert)
        return self._made

    def _show(self, data: bytes) -> None:
        self._sinks.out(data)

    def _show_error(self, data: bytes) -> None:
        self._sinks.err(data)

    def _take_error(self, data: bytes) -> None:
        self._errors = self._errors or Tail()
        self._errors(data)
        self._err_sink(data)

    def streams(self, notice: Callable[[str], None], captured: Captured | None) -> Streams:
        """Return the streams of the cell; a part of the output is `captured` too, if that is given."""
        streams = Streams(
            self._out.sink(self._show), self._take_error, on_notice=notice, on_wait=write, on_cached=write
        )
        if captured is not None:
            captured.take_part(streams)
        streams.display = CellOutput(streams.stdout, streams.stderr, trust=self._trust)
        return streams

    def finish(self, namespace: dict[str, Any]) -> None:
        """Show what is left, and set the variables of `--out` and `--err`."""
        if self._made is not None:
            self._made.finish()
        self._out.fill(namespace)
        self._err.fill(namespace)

    @property
    def last_errors(self) -> bytes:
        """The end of what the cell wrote to standard error."""
        return b"" if self._errors is None else bytes(self._errors.data)


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
