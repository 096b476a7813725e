"""Walks of the store while another process removes what they have just listed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers import record
from nbcontainer.images.verify import verify
from nbcontainer.progress import Tracker
from nbcontainer.store import durability, partial_blobs
from tests.unit.store.test_store import bring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.store.layout import Store


@pytest.fixture
def vanishing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, all that a directory of the store lists is removed before the walk sees its first entry."""
    listed = Path.iterdir

    def remove(path: Path) -> Iterator[Path]:
        entries = list(listed(path))
        for entry in entries:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        yield from entries

    return lambda: monkeypatch.setattr(Path, "iterdir", remove)


WALKS: dict[str, tuple[str, Callable[[Store], object]]] = {
    "records of containers": ("containers/a/container.json", record.records),
    "layers in use": ("containers/a/container.json", record.journals_and_layers_in_use),
    "incomplete downloads": ("partial/a", lambda store: partial_blobs.left_over(store, 0, lambda path: path.unlink())),
    "states of sessions": ("sessions/a", lambda store: store.sessions.states()),
    "dead sessions": ("sessions/a", lambda store: store.sessions.dead()),
    "marks of blobs, in a flush": (f"{durability.UNSYNCED}/{'0' * 64}", durability.flush),
    "marks of blobs, after a crash": (f"{durability.UNSYNCED}/{'0' * 64}", durability.recover),
    "blobs": (f"blobs/sha256/{'0' * 64}", lambda store: store.blobs.digests()),
}


@pytest.mark.parametrize(("name", "walk"), WALKS.values(), ids=WALKS.keys())
def test_a_walk_passes_over_what_is_gone(
    store: Store, vanishing: Callable[[], None], name: str, walk: Callable[[Store], object]
) -> None:
    """An entry that is removed after it was listed ends no walk."""
    path = store.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    vanishing()
    walk(store)
    assert not path.exists()


def test_an_image_that_is_removed_is_no_problem(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` says nothing about an image that another process removes while its blobs are read."""
    image = bring(store)
    read = store.blobs.read

    def remove(digest: str) -> bytes:
        if image.name in store.index.images():
            store.index.drop_image(image.name)
            store.blobs.path(digest).unlink()
        return read(digest)

    store.index.images()
    monkeypatch.setattr(store.blobs, "read", remove)
    with Tracker("verify") as tracker:
        assert verify(store, tracker) == []
