"""Images to files: the same bytes each time, checked on the way out, and whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcontainer.errors import ImageError, UsageError
from nbcontainer.images.archives import loading, saving
from nbcontainer.images.archives.saving import save_archive, save_directory
from nbcontainer.images.layers import compression, pigz
from nbcontainer.images.layers.compression import Compression
from nbcontainer.images.staging import Staging
from nbcontainer.progress import Tracker
from tests.fuzzing import examples
from tests.unit.images.apart import Apart
from tests.unit.images.image_files import docker_archive, layer, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store

BASE, TOP = layer("base", b"below"), layer("top", os.urandom(1 << 20))


def bring(store: Store, data: bytes) -> list[Image]:
    """Brings an archive's images into the store."""
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return loading.load(Staging(store, Apart(store.path)), fd, loading.ImportOptions())
    finally:
        os.close(fd)


@pytest.fixture
def images(store: Store) -> list[Image]:
    """Two images that share a layer."""
    return bring(store, docker_archive((["a:1"], [BASE, TOP]), (["b:1"], [BASE])))


def members(path: Path) -> dict[str, bytes]:
    """The files of a tar."""
    with tarfile.open(path) as tar:
        return {one.name: file.read() for one in tar if (file := tar.extractfile(one)) is not None}


def test_an_archive_is_whole(store: Store, images: list[Image], tmp_path: Path) -> None:
    """An archive has every blob once, under its digest, and says the same in OCI's words and in docker's."""
    target = tmp_path / "x.tar"
    with Tracker("save") as tracker:
        size = save_archive(store, images, target, tracker)
    assert target.stat().st_size == size
    files = members(target)
    blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
    assert all(name == f"blobs/sha256/{sha256(data)[7:]}" for name, data in blobs.items())
    assert len(blobs) == 2 + 2 * 2
    index, manifest = json.loads(files["index.json"]), json.loads(files["manifest.json"])
    assert [entry["digest"] for entry in index["manifests"]] == [image.digest for image in images]
    assert [one["RepoTags"] for one in manifest] == [["docker.io/library/a:1"], ["docker.io/library/b:1"]]
    assert [len(one["Layers"]) for one in manifest] == [2, 1]
    assert all(path in blobs for one in manifest for path in (one["Config"], *one["Layers"]))


def test_names_in_an_archive(store: Store, images: list[Image], tmp_path: Path) -> None:
    """An image goes by its tag, and by its whole name where another has the same tag; so it comes back."""
    with Tracker("save") as tracker:
        save_archive(store, images, tmp_path / "both.tar", tracker)
        save_archive(store, images[:1], tmp_path / "one.tar", tracker)

    def names(path: Path) -> list[str]:
        entries = json.loads(members(path)["index.json"])["manifests"]
        return [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries]

    assert names(tmp_path / "one.tar") == ["1"]
    assert names(tmp_path / "both.tar") == ["docker.io/library/a:1", "docker.io/library/b:1"]
    for name in ("a:1", "b:1"):
        store.index.drop_image(name)
    again = bring(store, (tmp_path / "both.tar").read_bytes())
    assert [(image.name, image.digest) for image in again] == [(image.name, image.digest) for image in images]


@pytest.mark.parametrize("kind", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_the_same_image_gives_the_same_bytes(
    store: Store, images: list[Image], tmp_path: Path, kind: Compression
) -> None:
    """Two archives of one image are equal, compressed layers included, and nothing of them stays in the store."""
    for name in ("1.tar", "2.tar"):
        with Tracker("save") as tracker:
            save_archive(store, images, tmp_path / name, tracker, kind)
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    assert list((store.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("where", ["x.tar", "x.tar.gz", "layout"])
def test_a_damaged_blob_does_not_go_out(store: Store, images: list[Image], tmp_path: Path, where: str) -> None:
    """A blob that has changed on disk is an error, and the file that was there stays."""
    path = store.blobs.path(images[0].layers[1].blob.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    target = tmp_path / where
    if where != "layout":
        target.write_text("old")
    write = save_directory if where == "layout" else save_archive
    with Tracker("save") as tracker, pytest.raises(ImageError, match="in the store is damaged"):
        write(store, images, target, tracker)
    if where == "layout":
        assert not (target / "index.json").exists()
    else:
        assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"store", where}


def test_a_directory_of_something_else(store: Store, images: list[Image], tmp_path: Path) -> None:
    """A directory with other things in it is left alone."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").write_text("")
    with Tracker("save") as tracker, pytest.raises(ImageError, match="is not an image layout; name a new"):
        save_directory(store, images, tmp_path / "x", tracker)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine"]


def test_a_layout_that_was_not_finished_is_continued(store: Store, images: list[Image], tmp_path: Path) -> None:
    """A save that was killed, or failed, leaves a directory into which the next one goes."""
    target = tmp_path / "layout"
    path = store.blobs.path(images[0].layers[1].blob.digest)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    with Tracker("save") as tracker, pytest.raises(ImageError, match="in the store is damaged"):
        save_directory(store, images, target, tracker)
    path.write_bytes(good)
    assert (target / "blobs").exists()
    with Tracker("save") as tracker:
        save_directory(store, images, target, tracker)
    assert len(json.loads((target / "index.json").read_text())["manifests"]) == len(images)


def test_what_another_process_adds_to_a_layout_stays(
    store: Store, images: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two saves to one layout at the same time: the images of both are in it."""
    target = tmp_path / "layout"
    copy = saving._copy_blobs

    def meanwhile(*words: Any) -> None:
        monkeypatch.setattr(saving, "_copy_blobs", copy)
        with Tracker("save") as tracker:
            save_directory(store, images[1:], target, tracker)
        copy(*words)

    monkeypatch.setattr(saving, "_copy_blobs", meanwhile)
    with Tracker("save") as tracker:
        save_directory(store, images[:1], target, tracker)
    assert len(json.loads((target / "index.json").read_text())["manifests"]) == len(images)


def test_an_image_in_a_layout_is_replaced(store: Store, images: list[Image], tmp_path: Path) -> None:
    """An image that is saved again under its name takes the old one's place in index.json."""
    target = tmp_path / "layout"
    with Tracker("save") as tracker:
        save_directory(store, images[:1], target, tracker)
        other = store.index.tag(images[1], "a:1")
        save_directory(store, [other], target, tracker)
    (entry,) = json.loads((target / "index.json").read_text())["manifests"]
    assert entry["digest"] == other.digest


def test_an_image_in_a_layout_is_replaced_by_one_beside_another(
    store: Store, images: list[Image], tmp_path: Path
) -> None:
    """An image takes the old one's place also if it is saved beside another one with its tag, and `load` gives it."""
    target = tmp_path / "layout"
    with Tracker("save") as tracker:
        save_directory(store, images[:1], target, tracker)
        newer = [store.index.tag(images[1], "a:1"), images[1]]
        save_directory(store, newer, target, tracker)
    entries = json.loads((target / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == [image.digest for image in newer]
    with Tracker("save") as tracker:
        save_directory(store, [images[0].named("a:1")], target, tracker)
    entries = json.loads((target / "index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in entries] == [images[1].digest, images[0].digest]


def test_xz_is_not_written(store: Store, images: list[Image], tmp_path: Path) -> None:
    """A name that promises what is not written is an error."""
    with Tracker("save") as tracker, pytest.raises(UsageError, match=r"cannot write \.xz archives"):
        save_archive(store, images, tmp_path / "x.tar.xz", tracker)


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
@examples(25)
@given(chunks=st.lists(st.binary(max_size=3000), max_size=6), repeat=st.integers(1, 400))
def test_what_is_compressed_comes_back(kind: Compression, chunks: list[bytes], repeat: int) -> None:
    """Whatever is compressed on all cores, in whatever pieces, is read again by others."""
    data, digest, size = compressed(kind, chunks * repeat)
    plain = b"".join(chunks * repeat)
    assert (sha256(data), len(data)) == (digest, size)
    stream = io.BytesIO(data)
    assert compression.Reader(stream.read).read() == plain
    if kind is Compression.GZIP:
        assert gzip.decompress(data) == plain


def compressed(kind: Compression, chunks: list[bytes]) -> tuple[bytes, str, int]:
    """The chunks, compressed: the bytes, and what the compressor says of them."""
    fd = os.memfd_create("compressed")
    with contextlib.closing(os.fdopen(fd, "rb")) as file:
        with pigz.compressor(fd, kind) as out:
            for chunk in chunks:
                out.write(chunk)
        file.seek(0)
        return file.read(), out.digest, out.size


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
def test_the_number_of_cores_does_not_matter(kind: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    """One core and four give the same bytes."""
    chunks = [os.urandom(1000) * 300 for _ in range(8)]
    found: set[Any] = set()
    for cores in (1, 2, 4):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        found.add(compressed(kind, chunks)[1])
    assert len(found) == 1
