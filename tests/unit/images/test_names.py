"""Names of images that state a digest, or look like one: none enters a store, or is found in it, unless it is true."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import ImageError, ImageNotFound, UsageError
from nbcontainer.images import library
from nbcontainer.images.archives import loading
from nbcontainer.images.archives.saving import save_archive, save_directory
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.library import Images
from nbcontainer.images.verify import verify
from nbcontainer.oci import descriptors, platforms, reference
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Tracker
from nbcontainer.store.layout import Store
from tests.unit.images.archives.test_archives import Shelf
from tests.unit.images.image_files import MANIFEST, LayoutFiles, docker_archive, layer, platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.oci.documents import Image

GOOD, EVIL = layer("good"), layer("evil")
PIN = "sha256:" + "ab" * 32
CONTAINERD = "io.containerd.image.name"
CHOSEN_FROM = "org.nbcontainer.index"

FALSE_DIGESTS = (
    f"python@{PIN}",
    f"python:3.12@{PIN}",
    f"docker.io/library/python:latest@{PIN}",
    f"ghcr.io/a/b@{PIN}",
    f"localhost:5000/a/b:1@{PIN}",
    PIN,
    PIN[7:],
    PIN[7:19],
    f"library/{PIN[7:19]}",
    f"docker.io/{PIN[7:40]}:latest",
    PIN[:19],
    "sha256:latest",
    "sha256",
    f"sha256@{PIN}",
    "sha384:1",
    f"sha512:{'ab' * 64}",
)
RESERVED = ("host", "docker.io/library/host:latest", "busybox", "library/busybox", "file/x:0123456789ab")


@pytest.fixture
def shelf(store: Store, tmp_path: Path) -> Shelf:
    """An empty store of the test's own to bring files into."""
    return Shelf(store, tmp_path)


def docker(name: str) -> bytes:
    """A docker archive with an honest image, and one of that name."""
    return docker_archive((["good:1"], [GOOD]), (["also:1", name], [EVIL]))


def layout(name: str, key: str = oci.REF_NAME) -> LayoutFiles:
    """A layout with an honest image, and one of that name; a single word would only be a tag there."""
    files = LayoutFiles()
    files.name(files.image(GOOD), "good:1")
    full = name if any(letter in name for letter in ":/@") else f"docker.io/{name}"
    return files.name(files.image(EVIL), "", **{key: full})


def by_containerd(name: str) -> LayoutFiles:
    """A layout that states a name in containerd's way."""
    return layout(name, CONTAINERD)


ENTRANCES: dict[str, Callable[[Shelf, Path, str], object]] = {
    "docker archive": lambda shelf, _, name: shelf.load(docker(name)),
    "docker archive in a pipe": lambda shelf, _, name: shelf.load(docker(name), pipe=True),
    "OCI archive": lambda shelf, _, name: shelf.load(layout(name).tar()),
    "OCI archive of containerd": lambda shelf, _, name: shelf.load(by_containerd(name).tar()),
    "OCI archive in a pipe": lambda shelf, _, name: shelf.load(layout(name).tar(), pipe=True),
    "layout": lambda shelf, place, name: shelf.load_directory(layout(name).write(place)),
    "layout of containerd": lambda shelf, place, name: shelf.load_directory(by_containerd(name).write(place)),
}


@pytest.mark.parametrize("name", [*FALSE_DIGESTS, *RESERVED])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_file_with_a_false_name_leaves_nothing(shelf: Shelf, tmp_path: Path, entrance: str, name: str) -> None:
    """An archive or a layout with a false digest, or a name of this program's own, is refused whole."""
    before = shelf.contents()
    with pytest.raises(ImageError, match="name") as raised:
        ENTRANCES[entrance](shelf, tmp_path / "layout", name)
    assert "import FILE NAME" in raised.value.hint
    assert shelf.contents() == before


@pytest.mark.parametrize("name", [f"python@{PIN}", "host", "busybox", PIN[7:19]])
@pytest.mark.parametrize("form", ["docker", "layout"])
def test_the_users_name_takes_the_place_of_a_false_one(shelf: Shelf, form: str, name: str) -> None:
    """With a name of the user's, what the file calls its image does not matter."""
    files = LayoutFiles()
    data = docker_archive(([name], [EVIL])) if form == "docker" else files.name(files.image(EVIL), f"x/{name}").tar()
    shelf.load(data, "mine")
    assert set(shelf.store.index.images()) == {"mine"}


def test_a_true_digest_is_a_name(shelf: Shelf) -> None:
    """A file may pin its image to the digest of its manifest, or to that of the index it is chosen from."""
    files = LayoutFiles()
    entry = files.image(GOOD)
    (image,) = shelf.load(files.name(entry, f"x/a@{entry['digest']}").tar())
    assert image.name == f"x/a@{entry['digest']}"
    files = LayoutFiles()
    index = files.index(platform(files.image(EVIL), "amd64"))
    (image,) = shelf.load(files.name(index, f"x/b@{index['digest']}").tar(), platform=platforms.parse("amd64"))
    assert image.name == f"x/b@{index['digest']}"
    with opened_again(shelf.store) as again:
        assert again.index.image(f"x/b@{index['digest']}").digest == image.digest


# The gate


@pytest.mark.parametrize("name", [*FALSE_DIGESTS, f"x@{PIN}", "x@"])
def test_no_caller_gives_a_false_name(shelf: Shelf, name: str) -> None:
    """Whoever tags, adds or puts an image under a false digest is refused, and nothing is written."""
    if name.startswith(("library/", "docker.io/")):
        name = reference.parse(name).familiar
    (image,) = shelf.load(docker_archive((["good:1"], [GOOD])))
    before = shelf.contents()
    manifest = descriptors.Descriptor(image.media_type, image.digest, 1)
    gifts: list[Callable[[], object]] = [
        lambda: shelf.store.index.tag(image, name),
        lambda: shelf.store.index.add_image(replace(image, author="me"), name),
        lambda: shelf.store.index.put_image(manifest, [b"new"], name),
    ]
    for give in gifts:
        with pytest.raises(ImageError, match="name"):
            give()
        assert shelf.contents() == before


@pytest.mark.parametrize("name", [*FALSE_DIGESTS, "host"])
def test_no_user_gives_a_new_image_a_digest(name: str) -> None:
    """What commit, tag, import, push and freeze are told as a new name is no digest, and does not read like one."""
    with pytest.raises(UsageError):
        reference.parse_new(name)


def test_an_index_is_that_of_the_image(shelf: Shelf) -> None:
    """An image is not given the digest of an index that does not list it, or that is not there."""
    (image,) = shelf.load(docker_archive((["good:1"], [GOOD])))
    stranger = shelf.store.blobs.write(json.dumps({"schemaVersion": 2, "manifests": []}).encode())
    for index in (PIN, stranger, image.digest):
        with pytest.raises(ImageError, match="does not list"):
            shelf.store.index.tag(replace(image, index=index), "mine")
    assert set(shelf.store.index.images()) == {"good:1"}


@pytest.mark.parametrize(
    ("file", "stem"),
    [
        ("abcdef123456.tar", "imported-abcdef123456"),
        (f"{PIN[7:]}.tar", f"imported-{PIN[7:]}"),
        ("sha256.tar.gz", "imported-sha256"),
        ("host.tar", "imported-host"),
        ("abc.tar", "abc"),
        (".tar", "imported"),
    ],
)
def test_a_file_is_not_called_like_a_digest(file: str, stem: str) -> None:
    """An image that is named by its file is not named like a digest, or like this machine."""
    assert loading.stem_of(Path(file)) == stem


# What index.json says: another tool or an older version wrote it


def write_index(store: Store, *entries: dict[str, Any]) -> None:
    """Replaces index.json as another program does."""
    path = store.path / "index.json"
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def index_entry(store: Store, image: Image, name: str, **annotations: str) -> dict[str, Any]:
    """An entry of index.json."""
    blob = descriptors.Descriptor(image.media_type, image.digest, len(store.blobs.read(image.digest)))
    return {**blob.as_json(), "annotations": {oci.REF_NAME: name, **annotations}}


@contextlib.contextmanager
def opened_again(store: Store) -> Iterator[Store]:
    """The same store as another process sees it."""
    again = Store(store.path, store.owner)
    try:
        yield again
    finally:
        again.close()


@pytest.fixture
def two(shelf: Shelf) -> tuple[Image, Image]:
    """A good image and an evil one."""
    good, evil = shelf.load(docker_archive((["good:1"], [GOOD]), (["evil:1"], [EVIL])))
    return good, evil


@pytest.mark.parametrize("name", [*(reference.parse(name).familiar for name in FALSE_DIGESTS), PIN])
def test_a_false_name_in_the_index_is_not_found(shelf: Shelf, two: tuple[Image, Image], name: str) -> None:
    """A store that holds a false name already does not find anything by it: it lists the image by its digest."""
    good, evil = two
    write_index(shelf.store, index_entry(shelf.store, good, "good:1"), index_entry(shelf.store, evil, name))
    with opened_again(shelf.store) as again:
        for store in (shelf.store, again):
            assert set(store.index.images()) == {"good:1", evil.digest}
            with pytest.raises(ImageNotFound):
                Images(store, shelf.runner).find(name, pull=library.NEVER)
            with pytest.raises(ImageNotFound):
                store.index.image(name)
            assert store.index.image(evil.digest[7:19]).digest == evil.digest
    with Tracker("verify") as tracker:
        (problem,) = verify(shelf.store, tracker)
    assert (problem.image, name in problem.what) == (evil.digest, True)
    shelf.store.index.drop_image(evil.digest)
    assert set(shelf.store.index.images()) == {"good:1"}


def test_a_false_name_in_the_index_is_replaced_by_a_true_one(shelf: Shelf, two: tuple[Image, Image]) -> None:
    """The image that has the digest takes its name from the one that had not."""
    good, evil = two
    name = f"python@{good.digest}"
    write_index(shelf.store, index_entry(shelf.store, good, "good:1"), index_entry(shelf.store, evil, name))
    assert shelf.store.index.image(name).digest == good.digest
    shelf.store.index.tag(good, name)
    assert {key: image.digest for key, image in shelf.store.index.images().items()} == {
        "good:1": good.digest,
        name: good.digest,
    }


def stated_indexes(store: Store, good: Image, evil: Image) -> dict[str, str]:
    """Digests that index.json may state as that of the index which `evil` was chosen from."""
    entry = {"mediaType": MANIFEST, "digest": good.digest, "size": 1}
    listing = store.blobs.write(json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
    return {
        "not there": PIN,
        "lists another": listing,
        "a manifest": good.digest,
        "a configuration": oci.read_manifest(store.blobs.read(evil.digest))[0].digest,
        "a layer": evil.layers[0].blob.digest,
        "a path": "sha256:../../../../../../etc/passwd",
        "no digest": "latest",
    }


@pytest.mark.parametrize(
    "case", ["not there", "lists another", "a manifest", "a configuration", "a layer", "a path", "no digest"]
)
def test_a_false_index_in_the_index_is_not_found(shelf: Shelf, two: tuple[Image, Image], case: str) -> None:
    """An entry that states an index which does not list its manifest does not get its digest."""
    good, evil = two
    index = stated_indexes(shelf.store, good, evil)[case]
    name = f"python@{index}"
    write_index(shelf.store, index_entry(shelf.store, evil, name, **{CHOSEN_FROM: index}))
    assert [(one.digest, one.index) for one in shelf.store.index.images().values()] == [(evil.digest, "")]
    with pytest.raises(ImageNotFound):
        shelf.store.index.image(name)


def test_no_file_states_the_index_of_its_image(shelf: Shelf) -> None:
    """The store's own annotation is not taken over from an archive's index.json."""
    files = LayoutFiles()
    (image,) = shelf.load(files.name(files.image(EVIL), "x/evil:1", **{CHOSEN_FROM: PIN}).tar())
    assert image.index == ""
    assert PIN not in (shelf.store.path / "index.json").read_text()
    with pytest.raises(ImageNotFound):
        shelf.store.index.image(f"x/evil@{PIN}")


def test_an_index_in_an_index_pins_an_image(shelf: Shelf) -> None:
    """The outermost index pins an image, also for another process, and all indexes stay in the store."""
    files = LayoutFiles()
    inner = files.index(platform(files.image(GOOD), "amd64"))
    outer = files.index(platform(inner, "amd64"))
    (image,) = shelf.load(files.name(outer, "x:1").tar(), platform=platforms.parse("amd64"))
    with shelf.store.lock():
        shelf.images.collect(set(), set())
    with opened_again(shelf.store) as again:
        assert again.index.image(f"x@{outer['digest']}").digest == image.digest
        assert again.index.indexes(outer["digest"], image.digest) == (outer["digest"], inner["digest"])


def test_a_size_in_the_index_is_compared(shelf: Shelf, two: tuple[Image, Image]) -> None:
    """An entry of index.json that states another size than its manifest has is damaged."""
    good, evil = two
    entry = index_entry(shelf.store, evil, "evil:1")
    write_index(shelf.store, index_entry(shelf.store, good, "good:1"), {**entry, "size": entry["size"] + 1})
    assert set(shelf.store.index.images()) == {"good:1"}
    assert shelf.store.index.damaged() == ("evil:1",)


# The way out


@pytest.mark.parametrize("where", ["archive", "directory"])
def test_what_is_saved_states_no_false_digest(shelf: Shelf, tmp_path: Path, where: str) -> None:
    """An image that is pinned by an index, or compressed on its way out, leaves without that digest as a name."""
    files = LayoutFiles()
    entry = files.image(GOOD, compress=False)
    index = files.index(platform(entry, "amd64"))
    (image,) = shelf.load(files.name(index, f"x@{index['digest']}").tar(), platform=platforms.parse("amd64"))
    for name, compression in ((image.name, Compression.NONE), (f"x@{image.digest}", Compression.GZIP)):
        pinned, target = shelf.store.index.tag(image, name), tmp_path / f"{where}-{compression}.tar"
        with Tracker("save") as tracker:
            save = save_archive if where == "archive" else save_directory
            save(shelf.store, [pinned], target, tracker, compression)
        fd = os.open(target, os.O_RDONLY)
        try:
            (back,) = shelf.load_fd(fd)
        finally:
            os.close(fd)
        assert back.name == "my-image"


def test_images_without_names_are_saved_beside_each_other(
    shelf: Shelf, two: tuple[Image, Image], tmp_path: Path
) -> None:
    """In a layout directory an image without a name takes the place of none but itself."""
    for image in (*two, *two):
        with Tracker("save") as tracker:
            save_directory(shelf.store, [image.named(image.digest)], tmp_path / "layout", tracker)
    entries = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == [image.digest for image in two]
