"""The streams of a cell: where its output goes, what it reads, and what is called while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nbcontainer.sandbox.display_channel import DisplayListener
    from nbcontainer.sandbox.explanation import Explanation
    from nbcontainer.sandbox.spec import ControlDirectory, Values
    from nbcontainer.sandbox.supervisor import Supervisor

    Sink = Callable[[bytes], None]

GLANCE = 0.05
"""Seconds between two calls of `Streams.on_glance`."""


@dataclass(frozen=True)
class Lasting:
    """A program that runs one cell after another in its container: its name, and what returns the text of its cells."""

    name: str
    text: Callable[[], str]


class OnOutput(Protocol):
    """Receives the files of `/out` of a kept result."""

    def __call__(self, directory: int, remove: Callable[[], None], *, trusted: bool) -> None:
        """Take a descriptor of a directory with the files, and close it; call `remove` when they are not needed.

        `trusted` is whether this store computed the result.
        """


@dataclass
class Streams:
    """Where a cell's output goes, and what it reads.

    `stdin` is a host descriptor, None for no input. With a terminal, what is read from the host descriptor `keyboard`
    is typed into it, and `on_terminal` gets its descriptor and returns the sink for its output, None for `stdout`. With
    a `control_directory`, `on_control_directory` gets the descriptors of its directory and its terminal, and returns
    sinks for more descriptors. With `values`, `on_values` gets descriptors of the files of `/in` and of `/out`, and
    closes them; the cell starts when it returns. If the run is explained, `on_explained` gets how, first what was done
    ahead of the cell and then the whole. `on_notice` gets lines about the run that the container did not write, and
    `on_wait` the line that says why it has to wait; `check_wait` is called meanwhile, and ends the wait by an error.
    `on_cached` gets the line that says that the output is a kept one.
    `values_digest` returns a digest of the files of `/in`, and `on_output` gets the kept files of `/out`. `lasting` is
    given for a program that runs more than the request's own text. `on_glance` is called every GLANCE seconds while the
    cell runs. With `on_began`, other processes can join the container, and it is called when the program runs. `log` is
    that of a job, relative to the store.
    """

    stdout: Sink
    stderr: Sink
    stdin: int | None = None
    keyboard: int | None = None
    on_terminal: Callable[[int], Sink | None] | None = None
    control_directory: ControlDirectory | None = None
    on_control_directory: Callable[[int, int], Mapping[int, Sink]] | None = None
    on_follow: Callable[[Supervisor], None] | None = None
    values: Values | None = None
    on_values: Callable[[Sequence[int]], None] = protocol.close
    on_explained: Callable[[Explanation], None] | None = None
    on_notice: Callable[[str], None] | None = None
    lasting: Lasting | None = None
    on_wait: Callable[[str], None] | None = None
    check_wait: Callable[[], None] | None = None
    display: DisplayListener | None = None
    on_glance: Callable[[], None] | None = None
    on_began: Callable[[], None] | None = None
    log: str = ""
    on_cached: Callable[[str], None] | None = None
    values_digest: Callable[[], str] | None = None
    on_output: OnOutput | None = None

    def notify(self, text: str) -> None:
        """Show one line about the run that the container did not write: to `on_notice`, or else to `stderr`."""
        if self.on_notice is not None:
            self.on_notice(text)
        else:
            self.stderr(f"nbcontainer: {text}\n".encode())
