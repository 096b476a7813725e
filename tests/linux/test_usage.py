"""`top` and `stats`: what runs in containers, and what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from nbcontainer.errors import ContainerNotFound
from tests.running import appear, marker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine

FORGED = "forged) R 1 1 1"


@pytest.fixture
def busy(engine: Engine) -> Iterator[str]:
    """A job `busy` with a process that computes, and one with a name of its own that sleeps; the sleep's mark."""
    mark = marker()
    forge = f"printf '#!/bin/sh\\nsleep {mark}; true\\n' >'/tmp/{FORGED}'; chmod 755 /tmp/f*; cd /tmp"
    script = f"mkdir -p /tmp; while :; do :; done & {forge}; './{FORGED}' & sleep {mark}"
    job = start(engine, Request("busybox", "busy", script=script))
    appear(mark, 2)
    yield mark
    job.stop(0)
    get(engine, "busy").remove()


def answer(engine: Engine, *words: str) -> Any:
    verb = VERBS[words[0]]
    return verb.answer(Invocation(engine, parse(verb.command, words[1:])))


def test_top_lists_the_processes_with_their_own_pids(engine: Engine, busy: str) -> None:
    """The pids are the container's; a name that looks like other fields changes none of them."""
    rows: dict[str, Any] = {}
    while not rows or rows[f"sleep {busy}"].state in "RD":  # it may have begun a moment ago
        table = list(answer(engine, "top", "busy"))
        rows = {row.command: row for row in table}
    assert rows[f"sleep {busy}"].state == "S"
    assert rows[f"/bin/sh ./{FORGED}"].tasks == 1
    assert min(row.pid for row in table) == 2
    assert all(row.memory >= 0 and row.seconds >= 0 for row in table)


def test_stats_shows_what_a_container_uses(engine: Engine, busy: str) -> None:
    """A process that computes uses a processor; memory and tasks are those of all processes."""
    (row,) = answer(engine, "stats", "--no-stream", "busy")
    assert row.name == "busy"
    assert 0 <= row.processors < 64
    assert row.tasks >= 4
    assert row.memory > 0
    first, second = (next(iter(answer(engine, "stats", "busy").again())).seconds for _ in range(2))
    while second <= first:
        second = next(iter(answer(engine, "stats", "busy").again())).seconds
    assert answer(engine, "stats", "--json", "busy").value[0]["tasks"] >= 4


def test_a_container_that_does_not_run_is_one_line(engine: Engine) -> None:
    """Neither verb shows an empty list for a name that is wrong."""
    for verb in ("top", "stats"):
        with pytest.raises(ContainerNotFound):
            answer(engine, verb, "nothing")
    assert list(answer(engine, "stats", "--no-stream")) == []
