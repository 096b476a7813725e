"""Care of the store: what is verified, what is counted, what is kept, what is brought back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import ImageError, ImageNotFound
from nbcontainer.images.layers import inspect
from nbcontainer.images.layers.tree import remove_below
from nbcontainer.images.library import Images
from nbcontainer.images.verify import verify
from nbcontainer.oci import platforms
from nbcontainer.progress import Tracker
from tests.unit.images.apart import Apart
from tests.unit.images.archives.test_saving import bring
from tests.unit.images.image_files import LayoutFiles, docker_archive, layer, platform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

BASE, TOP = layer("base", b"below"), layer("top", b"above" * 10_000)


@pytest.fixture
def image(store: Store) -> Image:
    """An image of two layers, under two names."""
    (made,) = bring(store, docker_archive((["a:1", "b:1"], [BASE, TOP])))
    return made


def problems(store: Store) -> list[tuple[str, str]]:
    """What `verify` finds: image, what is wrong."""
    with Tracker("verify") as tracker:
        return [(one.image, one.what) for one in verify(store, tracker)]


def test_a_store_in_order(store: Store, image: Image) -> None:
    """Nothing is wrong with what was brought in just now."""
    assert problems(store) == []


def test_an_image_is_looked_for_once(store: Store, image: Image) -> None:
    """What a name means is found out anew only when the store's index is another."""
    asked = []

    def find() -> Image:
        asked.append("a:1")
        return store.index.image("a:1")

    assert store.index.recall("a", find) is store.index.recall("a", find)
    assert store.index.recall("b", find).digest == image.digest
    assert asked == ["a:1"] * 2
    store.index.tag(image, "c:1")
    store.index.recall("a", find)
    assert asked == ["a:1"] * 3


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "is damaged"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_damaged_layer_is_found(store: Store, image: Image, damage: Callable[[Path], object], what: str) -> None:
    """A blob that is not what its digest says is found, for every image that has it; bringing it in again cures it."""
    blob = image.layers[1].blob
    damage(store.blobs.path(blob.digest))
    assert problems(store) == [("a:1", f"{blob.digest} {what}"), ("b:1", f"{blob.digest} {what}")]
    store.blobs.path(blob.digest).unlink(missing_ok=True)
    bring(store, docker_archive((["a:1", "b:1"], [BASE, TOP])))
    assert problems(store) == []


def test_a_damaged_image_takes_nothing_with_it(store: Store, image: Image) -> None:
    """While an image cannot be read nobody knows what it needs: nothing is collected until it is gone."""
    store.blobs.path(image.digest).write_bytes(b"{}")
    os.utime(store.path / "index.json")
    assert problems(store)[0] == ("a:1", "its documents cannot be read")
    with store.lock(), pytest.raises(ImageError, match="a:1 is damaged; run `%container verify`"):
        Images(store, Apart(store.path)).collect(set(), set())
    assert store.blobs.path(image.layers[0].blob.digest).exists()
    store.index.drop_image("a:1")
    store.index.drop_image("b:1")
    with store.lock():
        assert len(Images(store, Apart(store.path)).collect(set(), set())) == 2


def test_a_lost_layer_is_unpacked_again(store: Store, image: Image) -> None:
    """A layer whose tree is gone and whose blob is there comes back when its image is used."""
    (store.path / "layers" / image.layers[1].diff_id.replace(":", "/")).unlink()
    assert problems(store)[0][1] == f"layer {image.layers[1].diff_id} is not unpacked"
    found = Images(store, Apart(store.path)).find("a:1")
    assert (store.path / "layers" / Images(store, Apart(store.path)).lowers(found)[-1] / "diff/top").exists()
    assert problems(store) == []


def test_what_another_tool_put_there(store: Store) -> None:
    """An image, and an index of several, that another tool wrote into the layout are images of the store, and run."""
    files = LayoutFiles()
    entries = [platform(files.image(layer(name), architecture=name), name) for name in ("amd64", "arm64")]
    index = files.index(*entries)
    files.name(entries[1], "one:1").name(index, "many:1").write(store.path)
    machine = platforms.host().architecture
    runner = Apart(store.path)
    assert Images(store, runner).find("one:1").platform.architecture == "arm64"
    many = Images(store, runner).find("many:1")
    assert (many.platform.architecture, many.index) == (machine, index["digest"])
    assert len(Images(store, Apart(store.path)).lowers(many)) == 1
    with store.lock():
        Images(store, Apart(store.path)).collect(set(), set())
    assert Images(store, runner).find(f"x@{index['digest']}").digest == many.digest


def test_a_layer_that_is_lost_for_good(store: Store, image: Image) -> None:
    """A layer with neither tree nor blob is an error with what to do."""
    (store.path / "layers" / image.layers[1].diff_id.replace(":", "/")).unlink()
    store.blobs.path(image.layers[1].blob.digest).unlink()
    with pytest.raises(ImageError, match=r"blob sha256:.* is missing from the store; remove the image"):
        Images(store, Apart(store.path)).find("a:1")


def test_an_image_has_many_names(store: Store, image: Image) -> None:
    """A name more, or one less, changes nothing else; what the last one named is collected."""
    store.index.tag(image, "c:1")
    for name in ("a:1", "b:1"):
        store.index.drop_image(name)
        with store.lock():
            assert Images(store, Apart(store.path)).collect(set(), set()) == []
    assert store.index.image("c:1").digest == image.digest
    with pytest.raises(ImageNotFound):
        store.index.image("a:1")
    store.index.drop_image("c:1")
    with store.lock():
        assert len(Images(store, Apart(store.path)).collect(set(), set())) == 2
    assert list((store.path / "blobs/sha256").iterdir()) == []


def test_space_is_counted_as_du_does(tmp_path: Path) -> None:
    """Bytes on disk are counted for each thing, a hard-linked file once, holes not at all, however deep it is."""
    top = tmp_path / "top"
    (top / "a" / "below").mkdir(parents=True)
    (top / "a" / "below" / "file").write_bytes(b"x" * 10_000)
    os.link(top / "a" / "below" / "file", top / "a" / "link")
    (top / "b").write_bytes(b"x")
    with (top / "a" / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    (top / "a" / "everything").symlink_to("/")
    fd = os.open(top, os.O_RDONLY)
    before = os.open(top / "a", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=before)
        below = os.open("d", os.O_RDONLY, dir_fd=before)
        os.close(before)
        before = below
    os.close(before)
    found = inspect.usage(fd)
    os.close(fd)
    assert set(found) == {"a", "b"}
    block = (top / "b").stat().st_blocks * 512
    directories = 3002 * (top / "a" / "below").stat().st_blocks * 512
    assert found["b"] == block
    assert found["a"] == directories + (top / "a" / "link").stat().st_blocks * 512
    fd = os.open(top, os.O_RDONLY)
    remove_below(fd)  # too deep for pytest
    os.close(fd)
