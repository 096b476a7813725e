"""The lowers of a container: few, found from what is in memory, and new when a flattened layer is there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.flats import Flat
from nbcontainer.containers.history.state import CellRecord, State, StateId, following
from nbcontainer.containers.history.states import States
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.journals import Journals

if TYPE_CHECKING:
    from pathlib import Path

CELL = CellRecord("", "true", "2026-11-28T12:00:00Z", Outcome(Reason.EXITED, 0))


@pytest.fixture
def states(tmp_path: Path) -> States:
    """A journal `j` with 40 cells, of which each wrote the layer of its number."""
    for folder in ("journals", "flats"):
        (tmp_path / folder).mkdir()
    made = States(tmp_path)
    made.add(chain(40))
    return made


def chain(count: int) -> list[State]:
    """So many states, one after the other."""
    found: list[State] = []
    for number in range(1, count + 1):
        cell = replace(CELL, layer=f"l{number}")
        found.append(following(found[-1] if found else None, StateId("j", number), cell))
    return found


def history(states: States, number: int = 40) -> History:
    """The history of the state of that number."""
    return History(states, states.get(StateId("j", number)))


def test_a_flattened_layer_of_another_process_is_used_at_once(tmp_path: Path, states: States) -> None:
    """What was found before is found anew when the file of the flattened layers is another one."""
    assert len(history(states).lowers()) == 40
    other = States(tmp_path)
    other.flats.add("j", Flat(16, 1, "flat16", None))
    assert history(states).lowers() == (*(f"l{number}" for number in range(40, 16, -1)), "flat16")
    states.flats.add("j", Flat(32, 1, "flat32", StateId("j", 16)))
    assert history(states).lowers() == (*(f"l{number}" for number in range(40, 32, -1)), "flat32", "flat16")
    assert history(other, 33).lowers() == ("l33", "flat32", "flat16")


def test_lowers_of_a_state_are_found_once(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that changed nothing asks for the lowers of the same state: one look at one file, and no line is read."""
    states.flats.add("j", Flat(16, 1, "flat16", None))
    states.flats.add("j", Flat(32, 1, "flat32", StateId("j", 16)))
    before = history(states).lowers()
    looks: list[str] = []
    size = Journals.size

    def counted(self: Journals, name: str) -> int:
        looks.append(name)
        return size(self, name)

    def refuse(*_: Any) -> Any:
        raise AssertionError("lines are read")

    monkeypatch.setattr(Journals, "size", counted)
    monkeypatch.setattr(Journals, "lines", refuse)
    idle = following(states.get(StateId("j", 40)), StateId("j", 41), CELL)
    assert History(states, idle, (idle,)).lowers() == before
    assert looks == ["j"]


def test_a_failed_cell_does_not_pass_its_lowers_on(states: States) -> None:
    """A state that could not be written has its number again, with another layer."""
    head = states.get(StateId("j", 40))
    for layer in ("first", "second"):
        new = following(head, StateId("j", 41), replace(CELL, layer=layer))
        assert History(states, new, (new,)).lowers()[0] == layer
