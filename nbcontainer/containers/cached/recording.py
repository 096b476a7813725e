"""The output of a cell, kept while it is shown, and shown again later."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.store.cache_entries import CLEARED, OUTPUT_LIMIT, SHOWN, STDERR, STDOUT, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.sandbox.display_channel import DisplayListener

_PARTS = 50_000
"""Pieces of output of one cell that are kept."""


class Recorder:
    """Keeps the output of one cell in order: of both streams, and what it displays. At most `OUTPUT_LIMIT` bytes."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, str, list[bytes]]] = []
        self._size = 0
        self.complete = True
        """Whether all of the output is kept."""
        self.directory: int | None = None
        """A descriptor of `/out`, once the container has it."""

    def close(self) -> None:
        """Close the descriptor of `/out`. Idempotent."""
        directory, self.directory = self.directory, None
        if directory is not None:
            os.close(directory)

    def add(self, kind: str, data: bytes = b"", mime: str = "") -> None:
        """Keep one piece. Pieces of the same stream that follow each other become one."""
        self._size += len(data)
        if self._size > OUTPUT_LIMIT or len(self._parts) >= _PARTS:
            self.complete = False
            self._parts.clear()
        if not self.complete:
            return
        if kind in (STDOUT, STDERR) and self._parts and self._parts[-1][0] == kind:
            self._parts[-1][2].append(data)
        else:
            self._parts.append((kind, mime, [data]))

    @property
    def events(self) -> tuple[Event, ...]:
        """All pieces."""
        return tuple(Event(kind, b"".join(data), mime) for kind, mime, data in self._parts)

    def between(self, streams: Streams) -> Streams:
        """Return streams that pass everything on to `streams`, and keep it here. Notices are not kept."""

        def sink(kind: str, following: Callable[[bytes], None]) -> Callable[[bytes], None]:
            def take(data: bytes) -> None:
                self.add(kind, data)
                following(data)

            return take

        def give(files: Sequence[int]) -> None:
            if streams.values is not None and streams.values.output and files:
                self.close()
                with contextlib.suppress(OSError):  # too many open files: the result cannot be kept
                    self.directory = os.dup(files[-1])
            streams.on_values(files)

        return replace(
            streams,
            on_values=give,
            stdout=sink(STDOUT, streams.stdout),
            stderr=sink(STDERR, streams.stderr),
            display=None if streams.display is None else _RecordedDisplay(self, streams.display),
            on_notice=streams.notify,
        )


class _RecordedDisplay:
    """Passes what a cell displays on, and keeps it."""

    def __init__(self, recorder: Recorder, following: DisplayListener) -> None:
        self._recorder = recorder
        self._following = following

    def stderr(self, data: bytes) -> None:
        """Receive standard error."""
        self._recorder.add(STDERR, data)
        self._following.stderr(data)

    def shown(self, mime: str, data: bytes) -> None:
        """Receive data to display."""
        self._recorder.add(SHOWN, data, mime)
        self._following.shown(mime, data)

    def cleared(self, wait: bool) -> None:
        """Clear the output; with `wait`, when there is more."""
        self._recorder.add(CLEARED, mime="1" if wait else "")
        self._following.cleared(wait)


def replay(events: Iterable[Event], streams: Streams, *, trust: bool) -> None:
    """Show kept output, in order: it goes where a cell's goes, through the same checks.

    Without `trust`, displays are made inert, even if the output of this cell is trusted; a listener that cannot
    do that displays nothing.
    """
    display = streams.display
    if display is not None and not trust:
        inert = getattr(display, "inert", None)
        display = None if inert is None else inert()
    for event in events:
        if event.kind == STDOUT:
            streams.stdout(event.data)
        elif event.kind == STDERR:
            streams.stderr(event.data)
        elif display is not None and event.kind == SHOWN:
            display.shown(event.mime, event.data)
        elif display is not None and event.kind == CLEARED:
            display.cleared(event.mime == "1")
