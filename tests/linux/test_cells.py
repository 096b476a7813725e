"""Cells on the real kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine


def test_a_cell_says_hello_from_its_own_machine(engine: Engine) -> None:
    """A cell's output arrives, as pid 2 of a container with a name of its own."""
    said: list[bytes] = []
    request = Request(image="busybox", script='echo "hello from $(hostname), pid $$"')
    container, outcome = run.run(engine, request, Streams(said.append, said.append))
    assert outcome.ok
    assert b"".join(said).decode() == f"hello from {container.name}, pid 2\n"
