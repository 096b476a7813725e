"""What of the states is in memory."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.history import states as module
from nbcontainer.containers.history.state import CellRecord, StateId, following
from nbcontainer.containers.history.states import States
from nbcontainer.errors import ContainerDamaged
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.journals import JOURNALS

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.history.state import State


@pytest.fixture
def states(tmp_path: Path) -> States:
    (tmp_path / JOURNALS).mkdir()
    return States(tmp_path)


def state(journal: str, number: int = 0) -> State:
    return following(None, StateId(journal, number), CellRecord("", "true", "", Outcome(Reason.EXITED, 0)))


def test_a_state_is_read_once(states: States) -> None:
    """It is the same object afterwards."""
    states.add([state("a.1")])
    assert states.get(StateId("a.1", 0)) is states.get(StateId("a.1", 0)) is states.last("a.1")


def test_what_is_dropped_takes_no_memory(states: States) -> None:
    """A notebook runs thousands of anonymous cells, and each has a journal of its own."""
    kept = state("b.1")
    states.add([kept])
    dropped = []
    for number in range(3):
        one = state(f"a.{number}")
        states.add([one])
        dropped.append(weakref.ref(one))
        del one
        states.drop(f"a.{number}")
        with pytest.raises(ContainerDamaged, match="it is missing"):
            states.get(StateId(f"a.{number}", 0))
    assert [one() for one in dropped] == [None] * 3
    assert states.get(kept.id) is kept


def test_a_limited_number_is_kept(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more, all are read again; one that is added twice counts once."""
    monkeypatch.setattr(module, "_KEPT", 3)
    found = [state("a.1", number) for number in range(4)]
    states.add(found[:3])
    for _ in range(3):
        states.all("a.1")
    assert states.get(found[0].id) is found[0]
    states.add(found[3:])
    assert states.get(found[0].id) is not found[0]
    assert states.get(found[0].id) == found[0]
