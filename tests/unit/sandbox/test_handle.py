"""What the handle of a container sends to it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.handle import ContainerHandle
from nbcontainer.sandbox.steps.base import Plan
from nbcontainer.sandbox.steps.namespaces import SetHostname
from nbcontainer.sandbox.steps.rights.capabilities import NoNewPrivileges
from nbcontainer.sandbox.steps.rootfs import PivotRoot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from socket import socket

PLAN = Plan((SetHostname("a"),), (SetHostname("b"), PivotRoot()), (NoNewPrivileges(), SetHostname("c")))


@pytest.fixture
def ends() -> Iterator[tuple[ContainerHandle, socket]]:
    """A handle, and the socket of its init."""
    ours, theirs = protocol.pair()
    with theirs, ContainerHandle(ours, 0, os.open(os.devnull, os.O_RDONLY)) as handle:
        yield handle, theirs


@pytest.mark.parametrize(("done", "left"), [(1, 4), (2, 3), (3, 2), (4, 1)])
def test_init_gets_the_steps_that_it_has_not_applied(
    ends: tuple[ContainerHandle, socket], done: int, left: int
) -> None:
    """Those are the last steps of the plan, in their order."""
    handle, theirs = ends
    handle.begin(PLAN, done, ())
    sent = protocol.receive(theirs)
    assert sent is not None
    assert [*plan.decode(sent["setup"]), *plan.decode(sent["enter"])] == [*PLAN][-left:]


@pytest.mark.parametrize("options", [{}, {"limit": 2.0}, {"explain": True}, {"joinable": True}])
def test_a_message_that_was_made_before_is_the_same(
    ends: tuple[ContainerHandle, socket], options: dict[str, Any]
) -> None:
    """Whether the pool has encoded the rest of the plan or not, init gets the same message, with all options."""
    handle, theirs = ends
    made = Plan(PLAN.prepare, PLAN.setup, PLAN.enter)
    made.encoded[2] = protocol.encode(plan.rest(made, 2))
    handle.begin(PLAN, 2, (), **options)
    handle.begin(made, 2, (), **options)
    assert protocol.receive(theirs) == protocol.receive(theirs)
