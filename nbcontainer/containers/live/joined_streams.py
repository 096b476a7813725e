"""The streams of a process that joins a running container, from their making until they are closed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.join_watch import JoinWatch
from nbcontainer.sandbox.supervision.feed import feed_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.supervision.feed import Feed


class JoinedStreams:
    """The descriptors of one process. A context manager, which closes all of them.

    `travelling` go to the process, `outputs` are this side's ends of its output and errors, and `feed` passes on the
    input, None if none has to.
    """

    def __init__(self, stdin: int | None, output_pipe: Callable[[], tuple[int, int]], script: bytes = b"") -> None:
        """Open them. The input is the caller's `stdin`, else `script`, else nothing. Raises `OSError`."""
        self.travelling: list[int] = []
        self.outputs: list[int] = []
        self.feed: Feed | None = None
        self._sent: list[int] = []
        self._kept: list[int] = []
        self._watch = contextlib.ExitStack()
        try:
            self.travelling.append(self._input(stdin, script))
            for _ in range(2):
                reader, writer = output_pipe()
                self.outputs.append(reader)
                self._kept.append(writer)
            self.travelling += self._kept
        except BaseException:
            self.close()
            raise

    def _input(self, stdin: int | None, script: bytes) -> int:
        if stdin is not None:
            self.feed = feed_of(stdin)
            if self.feed is None:
                return stdin
            self._sent.append(self.feed.reader)
        elif script:
            self._sent.append(protocol.memory_file("stdin", script))
        else:
            self._sent.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return self._sent[-1]

    def send(self, fd: int) -> None:
        """Add one more descriptor, which is closed with those that only the process needs."""
        self._sent.append(fd)
        self.travelling.append(fd)

    def watch(self, joined: ContainerHandle, end: Callable[[], None]) -> None:
        """Watch the process until all is closed: the container can lock its pipes. `end` ends the container."""
        pipes = self.outputs if self.feed is None else [*self.outputs, self.feed.reader]
        self._watch.enter_context(JoinWatch(joined, pipes, end))

    def close_sent(self) -> None:
        """Close what only the process needs. Idempotent."""
        sent, self._sent = self._sent, []
        protocol.close(sent)

    def close(self) -> None:
        """Close all of them, while the process is watched. Idempotent."""
        with self._watch:
            self.close_sent()
            outputs, kept, self.outputs, self._kept = self.outputs, self._kept, [], []
            protocol.close((*outputs, *kept))
            if self.feed is not None:
                self.feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
