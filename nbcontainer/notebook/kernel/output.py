"""The output of cells for frontends: as text, in order, in a few messages a second, and limited in size."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from nbcontainer.commands.failing_line import Tail
from nbcontainer.commands.output import FloodGate, TextSink
from nbcontainer.values.inert import Refused, bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INTERVAL = 0.05
"""Seconds that output may wait for more, so that many small writes become few messages."""

STDOUT, STDERR = "stdout", "stderr"


class Frontends(Protocol):
    """The frontends of a kernel."""

    def publish(self, kind: str, content: dict[str, Any], parent: dict[str, Any]) -> None:
        """Send a message that belongs to the request `parent`. From any thread."""

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Have a thread of its own call it then. From any thread."""


class Outputs:
    """The output of a shell (a `nbcontainer.containers.live.process.ShellListener`), one cell after another.

    Output of background jobs between cells belongs to the cell before. `limit` is how many bytes of a cell are shown;
    `place` returns the path (host) of the file for the whole output of a longer one. `errors` has the end of the cell's
    standard error. With `trust`, data is shown as it
    is; without, it is made inert.
    """

    def __init__(self, frontends: Frontends, limit: int, place: Callable[[], Path], *, trust: bool = False) -> None:
        self._trust = trust
        self._frontends = frontends
        self._limit = limit
        self._place = place
        self._lock = threading.RLock()
        self._texts: list[tuple[str, list[str]]] = []
        self._waiting = False
        self._parent: dict[str, Any] = {}
        self._silent = False
        self.errors = Tail()
        self._open()

    def _open(self) -> None:
        self._gate = FloodGate(self._limit, self._place)
        self._sinks = {name: TextSink(_Text(self, name), flush=False) for name in (STDOUT, STDERR)}
        self._takers = {name: self._gate.through(sink) for name, sink in self._sinks.items()}

    def begin(self, parent: dict[str, Any], *, silent: bool = False) -> None:
        """A cell begins: what comes from now on belongs to request `parent`, and is discarded if `silent`."""
        with self._lock:
            self.finish()
            self.errors = Tail()
            self._parent, self._silent = parent, silent

    def finish(self) -> None:
        """Send all there is, the end of a flood too."""
        with self._lock:
            self._gate.finish(self._sinks[STDOUT])
            for sink in self._sinks.values():
                sink.finish()
            self.flush()
            self._open()

    def stdout(self, data: bytes) -> None:
        """Take some standard output."""
        self._take(STDOUT, data)

    def stderr(self, data: bytes) -> None:
        """Take some standard error."""
        self.errors(data)
        self._take(STDERR, data)

    def _take(self, name: str, data: bytes) -> None:
        with self._lock:
            self._takers[name](data)

    def write(self, name: str, text: str) -> None:
        """Take text for a stream, to be sent soon."""
        with self._lock:
            if self._silent:
                return
            if not self._texts or self._texts[-1][0] != name:
                self._texts.append((name, []))
            self._texts[-1][1].append(text)
            if not self._waiting:
                self._waiting = True
                self._frontends.call_later(INTERVAL, self.flush)

    def flush(self) -> None:
        """Send what was taken."""
        with self._lock:
            texts, self._texts = self._texts, []
            self._waiting = False
            for name, parts in texts:
                self._publish("stream", {"name": name, "text": "".join(parts)})

    def shown(self, mime: str, data: bytes) -> None:
        """Show something; what is not what its type says is an error on standard error."""
        with self._lock:
            try:
                content = bundle(mime, data, trust=self._trust)
            except Refused as error:
                self.write(STDERR, f"display: {error}\n")
                return
            except ValueError as error:
                self.write(STDERR, f"display: invalid {mime}: {error}\n")
                return
            self.flush()
            self._publish("display_data", {"data": content, "metadata": {}, "transient": {}})

    def cleared(self, wait: bool) -> None:
        """Clear the cell's output."""
        with self._lock:
            self.flush()
            self._publish("clear_output", {"wait": wait})

    def _publish(self, kind: str, content: dict[str, Any]) -> None:
        if not self._silent:
            self._frontends.publish(kind, content, self._parent)


class _Text:
    """One stream of `Outputs`, as something that text is written to."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self._outputs = outputs
        self._name = name

    def write(self, text: str, /) -> None:
        self._outputs.write(self._name, text)

    def flush(self) -> None:
        self._outputs.flush()
