"""The records of containers on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.record import CellRecord, Record, layers_in_use, read_record, save_record
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
RECORD = Record("dev", "busybox", "sha256:" + "0" * 64, ("base.1", "base.2"), "2026-11-24T19:00:00Z", cells=CELLS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that belongs to this user."""
    opened = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    yield opened
    opened.close()


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    """A saved record is read with all its facts."""
    save_record(store, RECORD)
    assert read_record(store.path / "containers" / "dev") == RECORD


def test_a_record_of_an_older_version_is_read(store: Store) -> None:
    """A record with flat cells and few of their fields is read: what it lacks has its default."""
    save_record(store, RECORD)
    path = store.path / "containers" / "dev" / "container.json"
    values = json.loads(path.read_text())
    del values["confinement"], values["labels"]
    for cell in values["cells"]:
        outcome = cell.pop("outcome")
        cell.update(reason=outcome["reason"], exit_code=outcome["exit_code"])
    path.write_text(json.dumps(values))
    assert read_record(path.parent) == RECORD


def test_a_record_that_was_written_with_flat_cells_is_read(store: Store) -> None:
    """A record that the version before wrote opens with all its facts; saved again, it has the new format."""
    path = store.path / "containers" / "dev" / "container.json"
    path.parent.mkdir()
    path.write_bytes((WRITTEN_BEFORE / "container.json").read_bytes())
    found = read_record(path.parent)
    assert (found.name, found.image, found.layers) == ("dev", "busybox", ("ac108d.5", "ac108d.7"))
    assert [cell.command for cell in found.cells] == ["echo a > /a", "cat /a; exit 3", "sleep 5", "sleep 1.5"]
    assert [cell.outcome.describe() for cell in found.cells[:2]] == ["exit code 0", "exit code 3"]
    assert found.cells[2].outcome == Outcome(Reason.TIMEOUT, 143, 15, 0.3056050239999877, 0.001429, 16941056)
    assert found.confinement is not None
    assert found.confinement["steps"][-1]["step"] == "Execute"
    save_record(store, found)
    assert read_record(path.parent) == found
    assert json.loads(path.read_text())["cells"][1]["outcome"]["exit_code"] == 3


def test_layers_are_the_images_and_the_cells_that_changed_something() -> None:
    """The layers are the image's, then one for each cell that changed something, from the bottom up."""
    assert RECORD.layers == ("base.1", "base.2", "layer.1", "layer.2")


def test_a_write_replaces_the_whole(store: Store) -> None:
    """A new record replaces the old file in one step, and leaves no temporary file."""
    save_record(store, RECORD)
    before = (store.path / "containers" / "dev" / "container.json").stat().st_ino
    newer = Record("dev", "busybox", RECORD.image_digest, RECORD.base, RECORD.created)
    save_record(store, newer)
    assert read_record(store.path / "containers" / "dev") == newer
    assert (store.path / "containers" / "dev" / "container.json").stat().st_ino != before
    assert not list((store.path / "tmp").iterdir())


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
        json.dumps({**RECORD.to_json(), "cells": [{**CELLS[0].to_json(), "reason": "exited"}]}),
        json.dumps({**RECORD.to_json(), "cells": [{**CELLS[0].to_json(), "outcome": 3}]}),
        json.dumps({**RECORD.to_json(), "cells": 5}),
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
    save_record(store, RECORD)
    save_record(store, Record("other", "busybox", RECORD.image_digest, ("base.1",), RECORD.created, cells=CELLS[:1]))
    assert layers_in_use(store) == {"base.1", "base.2", "layer.1", "layer.2"}
    (store.path / "containers" / "other" / "container.json").write_text("{")
    with pytest.raises(ContainerDamaged):
        layers_in_use(store)


def test_a_record_that_cannot_be_written(store: Store) -> None:
    """If a file is in the directory's place, `save_record` raises the store's error with the container's name."""
    (store.path / "containers" / "dev").write_text("in the way")
    with pytest.raises(StoreError, match="cannot save the record of container 'dev' at "):
        save_record(store, RECORD)
