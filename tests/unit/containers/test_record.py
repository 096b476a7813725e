"""The records of containers on disk."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.history.chain import History
from nbcontainer.containers.history.state import CellRecord
from nbcontainer.containers.history.states import States
from nbcontainer.containers.record import (
    Record,
    layers_in_use,
    mark_lost,
    read_record,
    save_pin,
    save_record,
    save_states,
)
from nbcontainer.errors import ContainerDamaged, StoreError
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.layout import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN_BEFORE = Path(__file__).parent / "written_before"
"""Files that the version with flat cells wrote (commit d2ce8ed)."""

CELLS = (
    CellRecord("layer.1", "echo 'a' > /a\n# \u00e9", "2026-11-24T20:00:00Z", Outcome(Reason.EXITED, 0)),
    CellRecord("", "cat /a", "2026-11-24T20:00:01Z", Outcome(Reason.TIMEOUT, 143)),
    CellRecord("layer.2", "rm /a", "2026-11-24T20:00:02Z", Outcome(Reason.EXITED, 0)),
)
EMPTY = Record("dev", "busybox", "sha256:" + "0" * 64, ("base.1", "base.2"), "2026-11-24T19:00:00Z", journal="j.1")
RECORD = EMPTY.after(*CELLS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that belongs to this user."""
    opened = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    yield opened
    opened.close()


def save(store: Store, record: Record) -> Record:
    """Write a record and its states; return what it is then."""
    save_record(store, record)
    return save_states(store, States(store.path), record)


def read(store: Store, name: str = "dev") -> Record:
    """Read a record."""
    return read_record(store.path / "containers" / name)


def cells(store: Store, record: Record) -> list[CellRecord]:
    """The cells of a record, the oldest first."""
    return [state.cell for state in History(States(store.path), record.head, record.carried).chain()][::-1]


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    """A saved record is read with all its facts, and its cells in their order."""
    saved = save(store, RECORD)
    assert read(store) == saved
    assert cells(store, saved) == list(CELLS)
    assert (saved.count, saved.lost, saved.last) == (3, 0, CELLS[-1])


@pytest.mark.parametrize("flat", [False, True])
def test_a_record_of_an_older_version_is_read(store: Store, *, flat: bool) -> None:
    """A record with all its cells in one file is read, with nested and with flat outcomes, and what it lacks."""
    save_record(store, EMPTY)
    path = store.path / "containers" / "dev" / "container.json"
    values = {**EMPTY.to_json(), "cells": [cell.to_json() for cell in CELLS]}
    del values["labels"], values["journal"]
    for cell in values["cells"] if flat else ():
        outcome = cell.pop("outcome")
        cell.update(reason=outcome["reason"], exit_code=outcome["exit_code"])
    path.write_text(json.dumps(values))
    found = read(store)
    assert cells(store, found) == list(CELLS)
    assert History(States(store.path), found.head, found.carried).layers() == ("layer.1", "layer.2")
    moved = save(store, found.moved_to("j.2"))
    assert read(store) == moved
    assert cells(store, read(store)) == list(CELLS)


def test_a_record_that_was_written_with_flat_cells_is_read(store: Store) -> None:
    """A record that a version of before wrote opens with all its facts."""
    path = store.path / "containers" / "dev" / "container.json"
    path.parent.mkdir()
    path.write_bytes((WRITTEN_BEFORE / "container.json").read_bytes())
    found = read(store)
    assert (found.name, found.image, found.base, found.count) == ("dev", "busybox", ("ac108d.5",), 4)
    listed = cells(store, found)
    assert [cell.command for cell in listed] == ["echo a > /a", "cat /a; exit 3", "sleep 5", "sleep 1.5"]
    assert [cell.outcome.describe() for cell in listed[:2]] == ["exit code 0", "exit code 3"]
    assert listed[2].outcome == Outcome(Reason.TIMEOUT, 143, 15, 0.3056050239999877, 0.001429, 16941056)


def test_layers_are_those_of_cells_that_changed_something(store: Store) -> None:
    """The layers of a history are one for each cell that changed something, from the bottom up."""
    saved = save(store, RECORD)
    history = History(States(store.path), saved.head)
    assert history.layers() == ("layer.1", "layer.2")
    assert history.lowers() == ("layer.2", "layer.1")


def test_a_write_replaces_the_whole(store: Store) -> None:
    """A new record replaces the old file in one step, and leaves no temporary file."""
    save_record(store, RECORD)
    before = (store.path / "containers" / "dev" / "container.json").stat().st_ino
    save_record(store, EMPTY)
    assert read(store) == EMPTY
    assert (store.path / "containers" / "dev" / "container.json").stat().st_ino != before
    assert not list((store.path / "tmp").iterdir())


def test_a_state_is_one_write_of_constant_size(store: Store) -> None:
    """The line of the thousandth cell is as long as that of the first, but for its numbers, and no file changes."""
    states, record = States(store.path), save(store, EMPTY)
    place = store.path / "containers" / "dev"
    before = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    sizes = []
    for _ in range(1000):
        record = save_states(store, states, record.after(CELLS[0]))
        sizes.append(states.journals.size("j.1"))
    assert (sizes[-1] - sizes[-2]) - sizes[0] < 24
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_a_head_is_valid_until_the_next_state(store: Store) -> None:
    """After an undo the record has the earlier state; a new state is the head, whatever the link says."""
    states, saved = States(store.path), save(store, RECORD)
    assert saved.head is not None
    first = states.get(saved.head.id._replace(number=1))
    save_pin(store, replace(saved, head=first))
    found = read(store)
    assert (found.head, found.tip, found.newest) == (first, saved.head, 3)
    after = save_states(store, states, found.after(CELLS[1]))
    assert after.head is not None
    assert (after.head.number, after.head.parent) == (4, first.id)
    assert read(store) == after
    assert cells(store, after) == [CELLS[0], CELLS[1]]


def test_what_was_not_finished_is_not_read_and_goes(store: Store) -> None:
    """A line without its end, as a crash of the machine leaves it, does not count; the next state is whole."""
    saved = save(store, RECORD)
    states = States(store.path)
    with Path(states.journals.path("j.1")).open("ab") as file:
        file.write(b'{"number": 4, "par')
    assert read(store) == saved
    after = save_states(store, states, saved.after(CELLS[0]))
    assert read(store) == after
    assert len(cells(store, after)) == 4


def test_every_state_is_found_by_its_number(store: Store) -> None:
    """A binary search finds each line of a journal, with gaps and with long lines, and none that is not there."""
    states = States(store.path)
    record = EMPTY
    for number in range(300):
        record = record.after(replace(CELLS[0], command="x" * (number * 97 % 30_000)))
    kept = [state for state in record.carried if state.number % 7]
    states.journals.append("j.1", b"".join(state.to_line() for state in kept))
    fresh = States(store.path)
    for state in record.carried:
        assert fresh.find(state.id) == (state if state.number % 7 else None)
    assert fresh.find(record.carried[0].id._replace(number=1000)) is None
    assert fresh.last("j.1") == kept[-1]


def test_a_lost_cell_is_noted_without_space(store: Store) -> None:
    """A record that is marked has one more cell, which is lost; the next state brings it to the journal."""
    saved = save(store, RECORD)
    mark_lost(store, saved)
    found = read(store)
    assert (found.lost, found.count) == (1, 4)
    after = save_states(store, States(store.path), found.after(CELLS[0]))
    assert read(store) == after
    assert (after.lost, after.count) == (1, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"name": "dev"}',
        json.dumps({"name": "dev", "cells": [{"layer": "x"}], "base": []}),
        json.dumps({"cells": [], "base": [], "name": "dev", "unknown": 1}),
        json.dumps({**EMPTY.to_json(), "cells": [{**CELLS[0].to_json(), "reason": "exited"}]}),
        json.dumps({**EMPTY.to_json(), "cells": [{**CELLS[0].to_json(), "outcome": 3}]}),
        json.dumps({**EMPTY.to_json(), "cells": 5}),
        json.dumps({**EMPTY.to_json(), "journal": ""}),
        json.dumps({**EMPTY.to_json(), "journal": "../x"}),
        json.dumps({**EMPTY.to_json(), "unknown": 1}),
        "[" * 100_000,
        "\u00e9" * 10,
    ],
)
def test_a_damaged_record_is_named(store: Store, text: str) -> None:
    """A record that is not JSON, or has a field too few or too many, is an error with the name and a hint."""
    save_record(store, RECORD)
    place = store.path / "containers" / "dev"
    (place / "container.json").write_text(text, encoding="utf-8")
    with pytest.raises(ContainerDamaged) as raised:
        read_record(place)
    assert str(raised.value).startswith("cannot read the record of container 'dev': ")
    assert raised.value.hint == "remove it with `%container rm dev`"


def test_a_record_that_is_no_text_is_damaged(store: Store) -> None:
    """A record that is not UTF-8 is damaged."""
    save_record(store, RECORD)
    place = store.path / "containers" / "dev"
    (place / "container.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(ContainerDamaged):
        read_record(place)


def test_no_record_is_no_container(store: Store) -> None:
    """A directory without a record raises `FileNotFoundError`, and not `ContainerDamaged`."""
    with pytest.raises(FileNotFoundError):
        read_record(store.path / "containers" / "dev")


def test_layers_in_use_are_everybodys(store: Store) -> None:
    """`layers_in_use` returns the layers of all containers, and raises if a record is damaged."""
    save(store, EMPTY.after(CELLS[0]))
    other = replace(EMPTY, name="other", base=("base.3",), journal="j.2")
    save(store, other.after(CELLS[2]))
    assert layers_in_use(store) == {"base.1", "base.2", "base.3", "layer.1", "layer.2"}
    (store.path / "containers" / "other" / "container.json").write_text("{")
    with pytest.raises(ContainerDamaged):
        layers_in_use(store)


def test_a_record_that_cannot_be_written(store: Store) -> None:
    """If a file is in the directory's place, `save_record` raises the store's error with the container's name."""
    (store.path / "containers" / "dev").write_text("in the way")
    with pytest.raises(StoreError, match="cannot save the record of container 'dev' at "):
        save_record(store, RECORD)


def test_a_record_with_another_name_is_the_same_otherwise() -> None:
    """The name of the warm container takes the place of the first one; the old record stays as it is."""
    record = EMPTY.after(*CELLS)
    assert record.but(name="other") == replace(record, name="other")
    assert record.name == "dev"
