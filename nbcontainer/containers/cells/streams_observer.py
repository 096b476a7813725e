"""The observer of a cell's run that passes each event to the streams of the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.sandbox.silent_observer import SilentObserver

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.sandbox.display_channel import DisplayChannel
    from nbcontainer.sandbox.supervisor import Supervisor


class StreamsObserver(SilentObserver):
    """Passes what happens in a cell to its streams. `outputs` are the descriptors of its output and errors.

    The owner calls `close`.
    """

    def __init__(self, streams: Streams, outputs: Sequence[int]) -> None:
        self._streams = streams
        self._channel: DisplayChannel | None = None
        self._outputs = outputs
        self.has_output = False
        """Whether there was any output."""
        self._sinks = dict(zip(outputs, (streams.stdout, streams.stderr), strict=True))

    def close(self) -> None:
        """Close the channel to programs that show data, if one did."""
        if self._channel is not None:
            self._channel.close()

    def on_start(self, supervisor: Supervisor) -> None:
        """Hand the supervisor on."""
        if self._streams.on_follow is not None:
            self._streams.on_follow(supervisor)

    def on_output(self, descriptor: int, data: bytes) -> None:
        """Pass output to its sink."""
        self.has_output = True
        self._sinks[descriptor](data)

    def on_terminal(self, terminal: int) -> None:
        """Hand the terminal on, and choose the sink of its output."""
        sink = self._streams.on_terminal(terminal) if self._streams.on_terminal is not None else None
        self._sinks[terminal] = sink or self._streams.stdout

    def on_control_directory(self, directory: int, terminal: int) -> Iterable[int]:
        """Hand the directory on; return the descriptors that have sinks now."""
        if self._streams.on_control_directory is None:
            return ()
        sinks = self._streams.on_control_directory(directory, terminal)
        self._sinks.update(sinks)
        return tuple(sinks)

    def on_display(self, directory: int, supervisor: Supervisor) -> Iterable[int]:
        """Open the channel to programs that show data; return the descriptor of their messages."""
        from nbcontainer.sandbox.display_channel import DisplayChannel

        self._channel = channel = DisplayChannel(directory)

        def serve(data: bytes) -> None:
            for fields in channel.lines(data):
                supervisor.take_waiting(self._outputs)
                channel.serve(fields, self._streams.display)

        self._sinks[channel.replies] = serve
        return (channel.replies,)

    def on_values(self, values: Sequence[int]) -> None:
        """Hand the descriptors of the values on."""
        self._streams.on_values(values)

    def on_began(self) -> None:
        """Hand it on."""
        if self._streams.on_began is not None:
            self._streams.on_began()

    def on_glance(self) -> None:
        """Hand it on."""
        if self._streams.on_glance is not None:
            self._streams.on_glance()
