"""The directories that containers could write to."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import LinkRefused
from nbcontainer.linux.paths import Node, resolve
from nbcontainer.store import writable
from nbcontainer.store.layout import Store

if TYPE_CHECKING:
    from pathlib import Path


def node(path: Path) -> Node:
    with resolve(path) as place:
        return place.node


def follow(store: Store, path: Path) -> None:
    """Checks the links on the way of a path."""
    with resolve(path) as place:
        writable.check(store, place.links)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory with a link in a directory below it."""
    found = tmp_path.resolve() / "data"
    (found / "sub").mkdir(parents=True)
    (found / "sub" / "link").symlink_to(tmp_path)
    return found


def test_a_link_below_a_directory_is_refused_once_it_is_marked(store: Store, data: Path) -> None:
    """A link is followed, until a container could write to a directory above it; the error names both."""
    follow(store, data / "sub" / "link")
    writable.remember(store, node(data))
    writable.remember(store, node(data))
    with pytest.raises(LinkRefused) as raised:
        follow(store, data / "sub" / "link")
    assert f"{data}/sub/link" in raised.value.message
    assert f"({data})" in raised.value.message
    assert raised.value.hint.endswith(f": {data.parent}")
    follow(store, data / "sub")


def test_it_is_known_by_either_of_its_marks(store: Store, data: Path) -> None:
    """A directory is known by another name, and by another number of its device, as after a restart of the machine."""
    here = node(data)
    writable.remember(store, dataclasses.replace(here, device=here.device + 1, inode=here.inode + 1))
    with pytest.raises(LinkRefused):
        follow(store, data / "sub" / "link")
    shutil.rmtree(store.path / writable.MARKS)
    (store.path / writable.MARKS).mkdir()
    follow(store, data / "sub" / "link")
    writable.remember(store, here)
    with pytest.raises(LinkRefused):
        follow(store, data.rename(data.parent / "renamed") / "sub" / "link")


def test_the_next_directory_with_its_inode_is_another_one(store: Store, data: Path) -> None:
    """The number of an inode is used again: a directory that was made later has neither of the marks."""
    here = node(data)
    writable.remember(store, dataclasses.replace(here, path="/removed", born=here.born - 1))
    follow(store, data / "sub" / "link")


def test_marks_go_with_a_directory_that_is_removed(store: Store, data: Path) -> None:
    """Who removes a directory takes its marks away, and may do so twice."""
    writable.remember(store, node(data))
    for _ in range(2):
        writable.forget(store, node(data))
    assert list((store.path / writable.MARKS).iterdir()) == []


def test_a_store_of_before_has_room_for_marks(store: Store, data: Path) -> None:
    """A store that an older version made gets the directory when it is opened."""
    (store.path / writable.MARKS).rmdir()
    again = Store(store.path, store.owner)
    try:
        writable.remember(again, node(data))
    finally:
        again.close()
    assert len(list((store.path / writable.MARKS).iterdir())) == 2
