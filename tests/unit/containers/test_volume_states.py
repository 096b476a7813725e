"""Copy-on-write volumes in the states of a container."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nbcontainer.containers.history.state import CellRecord, State, StateId, following
from nbcontainer.containers.history.volume_states import VolumeState
from nbcontainer.outcome import Outcome, Reason

CELL = CellRecord("", "true", "2026-11-28T12:00:00Z", Outcome(Reason.EXITED, 0))
VOLUME = VolumeState("/data", "/home/user/data", 3, 4, 5, 6, ("one",))


def state(number: int, parent: State | None, *volumes: VolumeState, cell: CellRecord = CELL) -> State:
    """The state after a cell, with these volumes."""
    return following(parent, StateId("j", number), cell, volumes)


def test_a_line_of_the_journal_has_the_volumes() -> None:
    """A state is the same after it was written and read; one without volumes has no more in its line than before."""
    made = state(1, None, VOLUME)
    assert State.from_line("j", made.to_line()) == made
    assert b"volumes" not in following(None, StateId("j", 1), CELL).to_line()


def test_layers_of_volumes_are_those_of_the_state() -> None:
    """They are in the beginning of the line, by which the cleanup finds what is in use."""
    made = state(1, None, VOLUME, cell=replace(CELL, layer="root"))
    assert made.layers == ("root", "one")
    assert b'"layers": ["root", "one"]' in made.to_line()


def test_a_cell_keeps_the_volumes_of_the_state_before() -> None:
    """A cell that does not mount a volume leaves its changes, and has not changed anything by that."""
    first = state(1, None, VOLUME)
    second = following(first, StateId("j", 2), CELL)
    assert second.volumes == (VOLUME,)
    assert first.changed
    assert not second.changed
    assert following(second, StateId("j", 3), CELL).under == first.id


@pytest.mark.parametrize(
    ("after", "changed"),
    [
        ((VOLUME,), False),
        ((replace(VOLUME, layers=("one", "two")),), True),
        ((), True),
        ((VOLUME, VolumeState("/other", "/x", 1, 2, 3, 4)), False),
    ],
)
def test_a_cell_changed_something_if_layers_changed(after: tuple[VolumeState, ...], *, changed: bool) -> None:
    """More layers, or none after `apply`, count for `undo`; a volume that was only mounted does not."""
    assert state(2, state(1, None, VOLUME), *after).changed == changed


@pytest.mark.parametrize(
    "values",
    [None, {}, {"target": "/x"}, {**VOLUME.to_json(), "inode": "4"}, {**VOLUME.to_json(), "layers": [1]}, []],
)
def test_a_damaged_volume_is_an_error_of_the_state(values: Any) -> None:
    """It is one of the errors that a damaged state has."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        VolumeState.from_json(values)


def test_a_directory_is_known_again_after_a_restart() -> None:
    """The device number may change, the inode number and the time of birth do not."""
    assert VOLUME.is_same_directory(99, 4, 5)
    assert not VOLUME.is_same_directory(3, 4, 6)
    assert not VOLUME.is_same_directory(3, 5, 5)
    assert replace(VOLUME, born=0).is_same_directory(3, 4, 0)
    assert not replace(VOLUME, born=0).is_same_directory(9, 4, 0)
