"""Sizes that files and registries state: each is compared with the bytes, also where the store has those already."""

from __future__ import annotations

import itertools
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.oci import descriptors, untrusted_json
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Tracker
from nbcontainer.store.partial_blobs import Partial, WrongBytes
from tests.unit.images.archives.test_archives import Shelf
from tests.unit.images.image_files import CONFIG, INDEX, LAYER, MANIFEST, LayoutFiles, config, layer, platform, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.store.layout import Store

BASE, TOP = layer("base"), layer("top")

WRONG: dict[str, Callable[[int], Any]] = {
    "one more": lambda size: size + 1,
    "one less": lambda size: size - 1,
    "nothing": lambda _: 0,
    "2 EiB": lambda _: 1 << 61,
    "past 64 bits": lambda _: 1 << 64,
    "negative": lambda size: -size,
    "a float": float,
    "true": lambda _: True,
    "a string": str,
    "a digit that int refuses": lambda _: "\u00b2",
    "null": lambda _: None,
    "a list": lambda size: [size],
}


@pytest.fixture
def shelf(store: Store, tmp_path: Path) -> Shelf:
    """An empty store of the test's own to bring files into."""
    return Shelf(store, tmp_path)


def stating(which: str, size: Callable[[int], Any], *, with_layer: bool) -> LayoutFiles:
    """A layout whose image states a wrong size for one of its blobs."""
    files = LayoutFiles()

    def described(kind: str, data: bytes, media_type: str) -> dict[str, Any]:
        blob = files.blob(data, media_type)
        return {**blob, "size": size(blob["size"])} if kind == which else blob

    settings = described("config", config(BASE), CONFIG)
    layers = [described("layer", BASE, LAYER)]
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": layers}
    entry = platform(described("manifest", json.dumps(manifest).encode(), MANIFEST), "amd64")
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    files.name(described("index", json.dumps(index).encode(), INDEX), "liar:1")
    if not with_layer:
        del files.files[f"blobs/sha256/{sha256(BASE)[7:]}"]
    return files


def honest(shelf: Shelf) -> None:
    """Brings in an image of the same layer and configuration."""
    files = LayoutFiles()
    shelf.load(files.name(files.image(BASE, compress=False), "good:1").tar())


def nothing(_: Shelf) -> None:
    """Leaves the store empty."""


def only_unpacked(shelf: Shelf) -> None:
    """Leaves the layer unpacked in the store, without its blob."""
    honest(shelf)
    shelf.store.blobs.path(sha256(BASE)).unlink()


BEFORE = {"in the store": honest, "only unpacked": only_unpacked, "not in the store": nothing}


SURROUNDINGS = tuple(itertools.product(("archive", "directory"), BEFORE, ("with the layer", "without it")))
"""Where the size is stated, what the store has of the image, and whether the layer is there."""

FEW = 3


def cases() -> Iterator[tuple[str, str, str, str, str]]:
    """Each wrong size of each blob, in a few surroundings; over all sizes, each blob is in each of them."""
    blobs = ("layer", "config", "manifest", "index")
    for (at, which), (row, wrong) in itertools.product(enumerate(blobs), enumerate(WRONG)):
        for column in range(FEW):
            yield (wrong, which, *SURROUNDINGS[(at + row * 5 + column * len(SURROUNDINGS) // FEW) % len(SURROUNDINGS)])


@pytest.mark.parametrize(("wrong", "which", "where", "before", "with_layer"), list(cases()))
def test_a_wrong_size_is_refused(
    shelf: Shelf, tmp_path: Path, wrong: str, which: str, where: str, before: str, with_layer: str
) -> None:
    """Whatever the store has of an image, a size that is not that of the bytes is refused, and nothing stays."""
    BEFORE[before](shelf)
    files = stating(which, WRONG[wrong], with_layer=with_layer == "with the layer")
    contents = shelf.contents()
    with pytest.raises(ImageError):
        shelf.load(files.tar()) if where == "archive" else shelf.load_directory(files.write(tmp_path / "layout"))
    assert shelf.contents() == contents


def test_the_first_image_waits_for_the_sizes_of_the_second(shelf: Shelf) -> None:
    """If the second image of a file states a wrong size, the first does not enter the store either."""
    honest(shelf)
    files = stating("layer", WRONG["one more"], with_layer=True)
    files.entries.insert(0, {**files.image(TOP), "annotations": {oci.REF_NAME: "first:1"}})
    before = shelf.contents()
    with pytest.raises(ImageError, match=f"states {len(BASE) + 1} bytes for {sha256(BASE)}, which has {len(BASE)}"):
        shelf.load(files.tar())
    assert shelf.contents() == before


@pytest.mark.parametrize("kept", [0, 100])
def test_a_damaged_blob_proves_nothing_about_a_size(shelf: Shelf, kept: int) -> None:
    """If the store's blob is the wrong one, an honest image is brought in again, and heals it."""
    honest(shelf)
    os.truncate(shelf.store.blobs.path(sha256(BASE)), kept)
    honest(shelf)
    assert shelf.store.blobs.path(sha256(BASE)).read_bytes() == BASE


def twins(*layers: tuple[str, int, bytes]) -> bytes:
    """An archive of an image whose layers are one blob, as (media type, size, content that the configuration says)."""
    files = LayoutFiles()
    files.blob(BASE, LAYER)
    blobs = [{"mediaType": kind, "digest": sha256(BASE), "size": size} for kind, size, _ in layers]
    settings = files.blob(config(*(content for _, _, content in layers)), CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": blobs}
    return files.name(files.blob(json.dumps(manifest).encode(), MANIFEST), "liar:1").tar()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("second", "message"),
    [((LAYER, len(BASE) + 1, BASE), "has two sizes"), ((LAYER, len(BASE), TOP), "has two contents")],
)
def test_one_blob_does_not_have_two_sizes_or_contents(
    shelf: Shelf, second: tuple[str, int, bytes], message: str
) -> None:
    """An image that states two things about one layer is refused; it does not wait for itself."""
    before = shelf.contents()
    with pytest.raises(ImageError, match=message):
        shelf.load(twins((LAYER, len(BASE), BASE), second))
    assert shelf.contents() == before


@pytest.mark.timeout(60)
def test_one_blob_of_two_types_is_brought_in_once(shelf: Shelf) -> None:
    """An image that calls one layer by OCI's type and by Docker's does not wait for itself."""
    docker = "application/vnd.docker.image.rootfs.diff.tar"
    (image,) = shelf.load(twins((LAYER, len(BASE), BASE), (docker, len(BASE), BASE)))
    assert (shelf.tree(image) / "base").exists()


class Waiting(Tracker):
    """A tracker that reports that its work waits."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.waits = threading.Event()

    def pause(self, seconds: float) -> None:
        """Sets `waits` first."""
        self.waits.set()
        super().pause(seconds)


@pytest.mark.parametrize("size", [len(BASE) - 1, len(BASE) + 1, 1 << 61])
def test_a_wrong_size_does_not_spoil_another_transfer(store: Store, size: int) -> None:
    """Of two transfers of one blob the second waits, and with a wrong size it fails and leaves the blob as it is."""
    right = descriptors.Descriptor(LAYER, sha256(BASE), len(BASE))
    first = Partial(store, right, Tracker("first"))
    first.write(BASE[:10])
    second_tracker, failed = Waiting("second"), []

    def lie() -> None:
        second = Partial(store, descriptors.Descriptor(LAYER, right.digest, size), second_tracker)
        try:
            second.write(BASE)
            second.finish()
        except WrongBytes as error:
            failed.append(error)
        finally:
            second.close(keep=False)

    thread = threading.Thread(target=lie)
    thread.start()
    assert second_tracker.waits.wait(20)
    first.write(BASE[10:])
    first.finish()
    with store.lock():
        first.adopt()
    first.close(keep=True)
    thread.join()
    assert len(failed) == 1
    assert store.blobs.path(right.digest).read_bytes() == BASE
    assert list((store.path / "partial").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("12", 12),
        ("9" * 19, 10**19 - 1),
        *((text, None) for text in ("", "9" * 20, "9" * 5000, "-1", "+1", " 1", "1_0", "1.0", "\u00b2", "\u0661", "x")),
    ],
)
def test_a_number_is_decimal_digits(text: str, number: int | None) -> None:
    """A number of a header is read only if it is digits of ASCII, and as many as a size has."""
    assert untrusted_json.number(text) == number
