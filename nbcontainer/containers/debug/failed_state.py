"""The state in which the last cell of a container failed, and a run in it that leaves everything as it is."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.container import Container
from nbcontainer.containers.run import run_in
from nbcontainer.containers.snapshot import held
from nbcontainer.errors import ContainerError
from nbcontainer.store.errors import store_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.history.state import State
    from nbcontainer.outcome import Outcome


def failed_state(container: Container) -> State:
    """Return the state after the last cell of a container that failed. Raises `ContainerError` if no cell did.

    Cells that were undone do not count.
    """
    for state in container.history.chain():
        if not state.cell.outcome.ok:
            return state
    hint = f"`nbcontainer run -it --toolbox --name {container.name}` opens a shell in its present state"
    if container.anonymous:
        hint = "run it after a cell that fails"
    raise ContainerError(f"no cell of container '{container.name}' failed", hint=hint)


@contextlib.contextmanager
def copy_at(engine: Engine, container: Container, state: State) -> Iterator[Container]:
    """Yield an anonymous container, in memory, in a state of another one. Raises `ContainerError`, `StoreError`.

    The layers are held against `rm` and `prune` of every process inside the block. The copy shares them all.
    """
    record = replace(container.record, name=secrets.token_hex(6), session=engine.store.session, head=state, tip=state)
    copy = Container(engine, record, saved=False)
    volumes = [layer for volume in state.volumes for layer in volume.layers]
    with held(engine, container.name, record.image_digest, [*copy.lowers[::-1], *volumes]):
        yield copy


def run_discarded(engine: Engine, copy: Container, request: Request, streams: Streams) -> Outcome:
    """Return the outcome of a run in a copy of a container. What it changes is discarded; volumes are real.

    Raises what `run_in` raises.
    """
    with store_errors("look into a container", engine.store.path):
        return run_in(engine, copy, copy.image(), request, streams, keep=False)
