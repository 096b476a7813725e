"""`debug`: a shell in the state in which the last cell of a container failed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.commands.examples import EXAMPLES
from nbcontainer.commands.grammar import Command, Words
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.options.volumes import parse_tmpfs, parse_volume
from nbcontainer.commands.run import request_of
from nbcontainer.commands.verbs.targets import container_of
from nbcontainer.containers.history.cell_options import ENV, TMPFS, VOLUME
from nbcontainer.errors import NbcontainerError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.history.state import CellRecord
    from nbcontainer.outcome import Outcome

DEBUG = Command(
    "debug",
    "[CONTAINER [COMMAND [ARG...]]]",
    "Open a shell, or run COMMAND, in the state in which the container's last cell failed. What it changes there is "
    "discarded. It has that cell's volumes, read-only, and its user, directory and network, but no values of "
    "variables. Images without a shell get that of busybox.",
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
    asked = request_of(Words(options, [], list(words.tail)))
    options, notes = with_options_of(state.cell, options, asked.options.mounts.targets)
    request = request_of(Words(options, [], list(words.tail)))
    if request.options.untrusted and asked.options.timeout is None:  # a person may think for longer
        request = replace(request, options=replace(request.options, timeout=None))
    if not container.anonymous and not request.options.hostname:
        request = replace(request, options=replace(request.options, hostname=container.name))
    with copy_at(engine, container, state) as copy:
        title = f"{container.name}@{state.number}, after: {state.cell.outcome.describe()}; changes are discarded"
        yield Session(engine, copy, request, "; ".join((title, *notes)))


def with_options_of(
    cell: CellRecord, options: Mapping[str, list[str]], targets: Collection[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return options with those of a failed cell that they do not replace, and lines about these.

    `targets` are the places of the mounts in `options`: other mounts of the cell are added. Volumes are read-only.
    """
    known = {name: list(values) for name, values in cell.options}
    names = [name for name in known.pop(ENV, []) if not _sets(options, name)]
    mounts = {name: known.pop(name, []) for name in (VOLUME, TMPFS)}
    found = {**known, **options}
    gone = []
    for name, texts in mounts.items():
        for text in texts:
            target = _target(name, text)
            if target is None:
                gone.append(text)
            elif target not in targets:
                found[name] = [*found.get(name, []), text]
    return found, list(_notes(known, [text for one in mounts.values() for text in one], gone, names))


def _sets(options: Mapping[str, list[str]], name: str) -> bool:
    return any(text.partition("=")[0] == name for text in options.get(ENV, ()))


def _target(name: str, text: str) -> str | None:
    """Return the place of a mount in the container; None if its directory is not there any more."""
    try:
        return (parse_volume(text) if name == VOLUME else parse_tmpfs(text)).target
    except NbcontainerError:
        return None


def _notes(known: Mapping[str, list[str]], mounts: list[str], gone: list[str], names: list[str]) -> Iterator[str]:
    given = [*(f"--{name} {' '.join(values)}".rstrip() for name, values in known.items()), *mounts]
    given = [text for text in given if text not in gone]
    if given:
        yield f"options as in that cell, volumes read-only: {', '.join(given)}"
    if gone:
        yield f"not available now: {', '.join(gone)}"
    if names:
        yield f"no record has values of variables: pass {' '.join(f'-e {name}=...' for name in names)} again"
