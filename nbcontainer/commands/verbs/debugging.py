"""`debug`: a shell in the state in which the last cell of a container failed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Words
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.commands.verbs.targets import container_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome

DEBUG = Command(
    "debug",
    "[CONTAINER [COMMAND [ARG...]]]",
    "Open a shell, or run COMMAND, in the state in which the container's last cell failed. What it changes there is "
    "discarded. Images without a shell get that of busybox.",
    options_without(
        *("name", "rm", "label", "pull", "platform", "toolbox", "explain", "init", "untrusted"), short_help=False
    ),
    most=1,
    tail=True,
    examples=EXAMPLES["debug"],
)


@dataclass(frozen=True)
class Session:
    """One use of `debug`: the copy of the container, the request that runs in it, and a line for the user."""

    engine: Engine
    copy: Container
    request: Request
    title: str

    def run(self, streams: Streams) -> Outcome:
        """Return the outcome of the shell or the command. Raises this package's errors."""
        from nbcontainer.containers.debug.failed_state import run_discarded

        return run_discarded(self.engine, self.copy, self.request, streams)


@contextlib.contextmanager
def session(engine: Engine, words: Words, *, terminal: bool) -> Iterator[Session]:
    """Yield what `debug` runs. Raises `ContainerNotFound`, `ContainerError`, `UsageError`."""
    from nbcontainer.containers.debug.failed_state import copy_at, failed_state

    container = container_of(engine, *words.operands)
    state = failed_state(container)
    options = {**words.options, "toolbox": [""], **({"tty": [""]} if terminal else {})}
    request = request_of(Words(options, [], list(words.tail)))
    if not container.anonymous and not request.options.hostname:
        request = replace(request, options=replace(request.options, hostname=container.name))
    with copy_at(engine, container, state) as copy:
        title = f"{container.name}@{state.number}, after: {state.cell.outcome.describe()}; changes are discarded"
        yield Session(engine, copy, request, title)
