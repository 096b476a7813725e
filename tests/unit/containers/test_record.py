"""What is written down of containers."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.record import CellRecord, Record, layers_in_use, read_record, save_record
from nbcontainer.errors import ContainerDamaged, StoreError
from nbcontainer.store.layout import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CELLS = (
    CellRecord("layer.1", "echo 'a' > /a\n# \u00e9", "2026-11-24T20:00:00Z", "exited", 0),
    CellRecord("", "cat /a", "2026-11-24T20:00:01Z", "timeout", 143),
    CellRecord("layer.2", "rm /a", "2026-11-24T20:00:02Z", "exited", 0),
)
RECORD = Record("dev", "busybox", "sha256:" + "0" * 64, ("base.1", "base.2"), "2026-11-24T19:00:00Z", cells=CELLS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A real store of this user's own."""
    opened = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    yield opened
    opened.close()


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    """Everything that is known of a container comes back from its file."""
    save_record(store, RECORD)
    assert read_record(store.path / "containers" / "dev") == RECORD


def test_a_record_of_an_older_version_is_read(store: Store) -> None:
    """What it did not write down is zero, and of its confinement nothing is said."""
    save_record(store, RECORD)
    path = store.path / "containers" / "dev" / "container.json"
    values = json.loads(path.read_text())
    del values["confinement"]
    for cell in values["cells"]:
        for name in ("signal", "wall_time", "cpu_time", "peak_memory", "limit"):
            del cell[name]
    path.write_text(json.dumps(values))
    assert read_record(path.parent) == RECORD


def test_layers_are_the_images_and_the_cells_that_changed_something() -> None:
    """The layers stand from the bottom up: the image's, then one for each cell that changed something."""
    assert RECORD.layers == ("base.1", "base.2", "layer.1", "layer.2")


def test_a_write_replaces_the_whole(store: Store) -> None:
    """A newer record takes the older one's place in one step, and leaves nothing half-written."""
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
        "\u00e9" * 10,
    ],
)
def test_a_damaged_record_is_named(store: Store, text: str) -> None:
    """What is no record, or one with something missing or unknown, is an error that says whose and what to do."""
    save_record(store, RECORD)
    place = store.path / "containers" / "dev"
    (place / "container.json").write_text(text, encoding="utf-8")
    with pytest.raises(ContainerDamaged) as raised:
        read_record(place)
    assert str(raised.value).startswith("the record of container dev cannot be read: ")
    assert raised.value.hint == "`%container rm dev`"


def test_a_record_that_is_no_text_is_damaged(store: Store) -> None:
    """Bytes that are no UTF-8 are damage too."""
    save_record(store, RECORD)
    place = store.path / "containers" / "dev"
    (place / "container.json").write_bytes(b'{"name": "\xff\xfe"}')
    with pytest.raises(ContainerDamaged):
        read_record(place)


def test_no_record_is_no_container(store: Store) -> None:
    """A directory without a record is told apart from one with a damaged record."""
    with pytest.raises(FileNotFoundError):
        read_record(store.path / "containers" / "dev")


def test_layers_in_use_are_everybodys(store: Store) -> None:
    """The layers of all containers are in use, but those of the one that is left out; damage makes them unknown."""
    save_record(store, RECORD)
    save_record(store, Record("other", "busybox", RECORD.image_digest, ("base.1",), RECORD.created, cells=CELLS[:1]))
    assert layers_in_use(store) == {"base.1", "base.2", "layer.1", "layer.2"}
    assert layers_in_use(store, without="dev") == {"base.1", "layer.1"}
    (store.path / "containers" / "other" / "container.json").write_text("{")
    with pytest.raises(ContainerDamaged):
        layers_in_use(store)


def test_a_record_that_cannot_be_written(store: Store) -> None:
    """Where the record's place is a file, the error is the store's, and says what was to be written."""
    (store.path / "containers" / "dev").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write down container dev at "):
        save_record(store, RECORD)
