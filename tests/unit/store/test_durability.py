"""What is in the store before it is on disk: marked, synced, and looked at again after a crash of the machine."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.archives.loading import ImportOptions, load, open_file
from nbcontainer.images.staging import Staging
from nbcontainer.store import durability
from tests.unit.images.apart import Apart
from tests.unit.images.tars import archive, entry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.store.layout import Store

DATA = b"data" * 1000
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def boot(tmp_path: Path, number: int) -> Path:
    """The file that tells which boot it is."""
    path = tmp_path / f"boot{number}"
    path.write_text(f"{number}\n")
    return path


def marks(store: Store) -> list[str]:
    return sorted(path.name for path in (store.path / "unsynced").iterdir())


def put(store: Store, data: bytes) -> Path:
    """A blob under DIGEST that has other bytes, perhaps."""
    path = store.blobs.path(DIGEST)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("data", [DATA, bytes(len(DATA)), b""], ids=["whole", "zeros", "empty"])
def test_after_a_crash_blobs_are_read_again(store: Store, tmp_path: Path, data: bytes) -> None:
    """Of the blobs that another boot marked, those stay that are what their names say, and the marks go."""
    durability.mark(store, DIGEST, boot(tmp_path, 1))
    blob = put(store, data)
    assert durability.recover(store, boot(tmp_path, 2)) == ([] if data == DATA else [DIGEST])
    assert blob.exists() == (data == DATA)
    assert marks(store) == []


def test_in_the_same_boot_nothing_is_suspected(store: Store, tmp_path: Path) -> None:
    """What this boot marked is in the machine's memory, whole, whether it is on disk or not."""
    durability.mark(store, DIGEST, boot(tmp_path, 1))
    blob = put(store, b"being written")
    assert durability.recover(store, boot(tmp_path, 1)) == []
    assert blob.exists()
    assert marks(store) == [DIGEST[7:]]


def test_a_sync_takes_only_the_marks_of_its_boot(store: Store, tmp_path: Path) -> None:
    """What an earlier boot left in doubt is not made certain by bringing it to disk."""
    durability.mark(store, DIGEST, boot(tmp_path, 1))
    other = f"sha256:{'0' * 64}"
    durability.mark(store, other, boot(tmp_path, 2))
    durability.flush(store, boot(tmp_path, 2))
    assert marks(store) == [DIGEST[7:]]


def test_a_mark_without_a_blob_goes(store: Store, tmp_path: Path) -> None:
    """The machine may have gone down before the blob was in its place."""
    durability.mark(store, DIGEST, boot(tmp_path, 1))
    assert durability.recover(store, boot(tmp_path, 2)) == []
    assert marks(store) == []


def test_a_sync_that_fails_leaves_the_marks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that could not write says so to syncfs(2), and nothing is taken for certain."""

    def fail(_: int) -> None:
        raise OSError(5, os.strerror(5))

    durability.mark(store, DIGEST, boot(tmp_path, 1))
    monkeypatch.setattr(durability, "syncfs", fail)
    with pytest.raises(OSError, match="Input/output error"):
        durability.flush(store, boot(tmp_path, 1))
    assert marks(store) == [DIGEST[7:]]


def test_an_import_is_marked_before_its_blob_is_there(store: Store, tmp_path: Path) -> None:
    """The mark is written first and goes when the background has synced."""
    (tmp_path / "root.tar").write_bytes(archive(entry(b"f", b"x")))
    chores: list[Callable[[], object]] = []

    class Later(Apart):
        def later(self, chore: Callable[[], object]) -> None:
            chores.append(chore)

    fd = open_file(store, tmp_path / "root.tar")
    try:
        (image,) = load(Staging(store, Later(store.path)), fd, ImportOptions("root"))
    finally:
        os.close(fd)
    assert marks(store) == [image.layers[0].blob.digest[7:]]
    (settle,) = chores
    settle()
    assert marks(store) == []
