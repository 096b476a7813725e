"""Which spare a plan gets, and what is ordered if there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

import pytest

from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher.spares import Spares
from nbcontainer.sandbox.spec import Overlay, ProcLevel, Program, Spec
from nbcontainer.sandbox.userns.idmap import host_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.launcher.connection import Connection

TEMPLATE = plan.PlanTemplate(Spec(Program(("true",)), script=3), host_map())


class Answers:
    """A connection whose launcher starts every spare at once, and notes the orders."""

    proc = ProcLevel.OWN

    def __init__(self) -> None:
        self.observers: list[Any] = []
        self.sent: list[dict[str, Any]] = []

    def number(self) -> int:
        return len(self.sent)

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def has_answer(self) -> bool:
        return True

    def receive(self, number: int) -> tuple[dict[str, Any], list[int]]:
        ours, theirs = protocol.pair()
        theirs.close()
        return {"order": number, "pid": 1000 + number}, [os.pidfd_open(os.getpid()), ours.detach()]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def spares(answers: Answers) -> Iterator[Spares]:
    found = Spares(cast("Connection", answers))
    yield found
    found.on_closed()


def test_without_a_spare_all_that_can_be_done_ahead_is_ordered(answers: Answers, spares: Spares) -> None:
    """A cell that finds no spare gets one that has done all of its plan that needs no cell, not the root alone."""
    todo = TEMPLATE.on(Overlay(("a/diff",)))
    done, spare, _ = spares.take(todo)
    with spare:
        assert done == len(plan.ahead(todo)) > len(todo.prepare)
    assert [message["prepare"] for message in answers.sent] == [plan.encode(plan.ahead(todo))]


def test_a_spare_with_a_root_is_taken_and_none_is_ordered(answers: Answers, spares: Spares) -> None:
    """A spare that has only the root of a plan serves it, if no other one has done more."""
    todo = TEMPLATE.on(Overlay(("a/diff",)))
    spares.order(todo.prepare)
    done, spare, _ = spares.take(todo)
    with spare:
        assert done == len(todo.prepare)
    assert len(answers.sent) == 1
