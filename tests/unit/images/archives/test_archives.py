"""Images from files: told apart by what is in them, brought in whole or not at all."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import HostileArchive, ImageError, ImageNotFound, UsageError
from nbcontainer.images import library, trash
from nbcontainer.images.archives import loading
from nbcontainer.images.library import Images
from nbcontainer.oci import platforms
from nbcontainer.store.layout import Store
from tests.unit.images import tars
from tests.unit.images.apart import Apart
from tests.unit.images.image_files import (
    CONFIG,
    LAYER,
    MANIFEST,
    LayoutFiles,
    config,
    docker_archive,
    layer,
    platform,
    sha256,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from nbcontainer.progress import State


class Shelf:
    """A store, and files brought into it."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.runner = Apart(store.path)
        self.images = Images(store, self.runner)
        self.folder = folder

    def load(self, data: bytes, name: str = "", *, pipe: bool = False, **options: Any) -> list[Image]:
        """Brings an archive's images in, from a file called `my-image.tar` or through a pipe."""
        path = self.folder / "my-image.tar"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        try:
            if pipe:
                fd, end = self._pipe(fd)
            return self.load_fd(fd, name, **options)
        finally:
            os.close(fd)
            if pipe:
                end.join()

    def _pipe(self, file: int) -> tuple[int, threading.Thread]:
        reading, writing = os.pipe()

        def feed() -> None:
            with os.fdopen(writing, "wb") as out, os.fdopen(file, "rb") as source, contextlib.suppress(BrokenPipeError):
                out.write(source.read())

        thread = threading.Thread(target=feed)
        thread.start()
        return reading, thread

    def load_fd(self, fd: int, name: str = "", **options: Any) -> list[Image]:
        """Brings in what is open at `fd`."""
        listener = options.pop("listener", None)
        wanted = loading.ImportOptions(name, **({"stem": "my-image"} | options))
        return self.images.reporting_to(listener).load(fd, wanted)

    def load_directory(self, path: Path, **options: Any) -> list[Image]:
        """Brings in a layout directory's images."""
        fd = os.open(path, os.O_RDONLY)
        try:
            return self.load_fd(fd, **options)
        finally:
            os.close(fd)

    def tree(self, image: Image, number: int = -1) -> Path:
        """The directory of one of an image's layers."""
        return self.store.path / "layers" / self.images.lowers(image)[number] / "diff"

    def contents(self) -> dict[str, Any]:
        """All that the store holds, but for times."""
        found: dict[str, Any] = {"index": (self.store.path / "index.json").read_bytes()}
        for name in ("blobs/sha256", "layers", "layers/sha256", "partial", "tmp"):
            found[name] = sorted(path.name for path in (self.store.path / name).iterdir())
        return found


@pytest.fixture
def shelf(store: Store, tmp_path: Path) -> Shelf:
    """An empty store of the test's own to bring files into."""
    return Shelf(store, tmp_path)


BASE, TOP = layer("base", b"below"), layer("top", b"above")


# What there is


@pytest.mark.parametrize("links", [False, True], ids=["new form", "old form"])
def test_a_docker_archive(shelf: Shelf, links: object) -> None:
    """An archive of docker save gives an image by its tags, with its configuration and its layers."""
    archive = docker_archive((["docker.io/library/thing:1", "other:latest"], [BASE, TOP]), links=bool(links))
    (image,) = shelf.load(archive)
    assert set(shelf.store.index.images()) == {"thing:1", "other"}
    assert image.config.env == ("A=1",)
    assert [one.diff_id for one in image.layers] == [sha256(BASE), sha256(TOP)]
    assert (shelf.tree(image) / "top").read_bytes() == b"above"
    assert (shelf.tree(image, 0) / "base").read_bytes() == b"below"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, zstd.compress])
def test_a_docker_archives_layers_are_compressed(shelf: Shelf, pack: Callable[[bytes], bytes]) -> None:
    """gzip and zstd layers are kept as they are; xz and bzip2, which OCI has no type for, become plain ones."""
    images = shelf.load(docker_archive((["a:1"], [BASE, TOP]), (["b:1"], [BASE]), pack=pack))
    for image in images:
        assert (shelf.tree(image, 0) / "base").read_bytes() == b"below"
    kept = pack in (gzip.compress, zstd.compress)
    assert {one.blob.media_type == LAYER for image in images for one in image.layers} == {not kept}
    assert len(shelf.contents()["layers/sha256"]) == 2
    assert shelf.contents()["tmp"] == []


@pytest.mark.parametrize("links", [False, True], ids=["new form", "old form"])
def test_several_images_share_their_layers(shelf: Shelf, links: object) -> None:
    """Two images of one archive are both there, and the layer they share is there once, as blob and as tree."""
    images = shelf.load(docker_archive((["a:1"], [BASE, TOP]), (["b:1"], [BASE]), links=bool(links)))
    assert [image.name for image in images] == ["a:1", "b:1"]
    assert shelf.tree(images[0], 0) == shelf.tree(images[1], 0)
    assert len(shelf.contents()["layers/sha256"]) == 2
    assert len(shelf.contents()["blobs/sha256"]) == 2 + 2 * 2


@pytest.mark.parametrize("docker", [False, True], ids=["oci types", "docker types"])
def test_a_layout_keeps_every_byte(shelf: Shelf, docker: object) -> None:
    """An image of a layout keeps its digests, whether its documents are OCI's or Docker's."""
    files = LayoutFiles()
    entry = files.image(BASE, TOP, docker=bool(docker))
    (image,) = shelf.load(files.name(entry, "registry.example/x:2").tar())
    assert (image.name, image.digest) == ("registry.example/x:2", entry["digest"])
    assert image.media_type == entry["mediaType"]
    for name, data in files.files.items():
        if name.startswith("blobs/"):
            assert (shelf.store.path / name).read_bytes() == data


def test_a_layout_directory(shelf: Shelf, tmp_path: Path) -> None:
    """A layout directory is brought in by copying: its own files stay and are not shared with the store."""
    files = LayoutFiles()
    entry = files.image(BASE)
    top = files.name(entry, "x/y").write(tmp_path / "layout")
    (image,) = shelf.load_directory(top)
    assert image.digest == entry["digest"]
    for name in files.files:
        assert (top / name).stat().st_nlink == 1
    assert shelf.contents()["partial"] == []


@pytest.mark.parametrize(
    "compress", [gzip.compress, zstd.compress, lzma.compress, bz2.compress], ids=["gzip", "zstd", "xz", "bzip2"]
)
@pytest.mark.parametrize("pipe", [False, True], ids=["file", "pipe"])
def test_archives_may_be_compressed(shelf: Shelf, compress: Callable[[bytes], bytes], pipe: object) -> None:
    """An archive of images is known as one however it is compressed, in a file and from a pipe."""
    files = LayoutFiles()
    entry = files.image(BASE)
    (image,) = shelf.load(compress(files.name(entry, "x:1").tar()), pipe=bool(pipe))
    assert image.digest == entry["digest"]
    (image,) = shelf.load(compress(docker_archive((["y:1"], [TOP]))), pipe=bool(pipe))
    assert image.name == "y:1"


def test_a_root_file_system(shelf: Shelf) -> None:
    """A tar of anything else becomes the only layer of an image, byte for byte."""
    (image,) = shelf.load(BASE, "mine", created_by="me", created="2020-01-01T00:00:00Z")
    assert [(one.diff_id, one.blob.digest) for one in image.layers] == [(sha256(BASE), sha256(BASE))]
    assert image.config.cmd == ("/bin/sh",)
    assert [step.created_by for step in image.history] == ["me"]


@pytest.mark.parametrize("first", [b"index.json", b"blobs/sha256/" + b"0" * 64, b"manifest.json", b"repositories"])
def test_a_root_file_system_that_begins_like_images(shelf: Shelf, first: bytes) -> None:
    """A file of that name at the beginning does not make an archive of images of a root file system."""
    archive = tars.archive(tars.entry(first, b"{}"), tars.entry(b"etc/passwd", b"x"))
    (image,) = shelf.load(archive, "mine")
    assert (shelf.tree(image) / "etc/passwd").exists()


def test_images_that_do_not_begin_like_it(shelf: Shelf) -> None:
    """An archive of images whose first file has an odd name is known by what is in it."""
    files = LayoutFiles()
    entry = files.name(files.image(BASE), "x:1").all()
    (image,) = shelf.load(tars.archive(*(tars.entry(n.encode(), d) for n, d in {"README": b"hi", **entry}.items())))
    assert image.name == "x:1"


def test_a_layer_of_an_image_may_be_a_whiteout(shelf: Shelf) -> None:
    """In a layer `.wh.NAME` hides a name below; in a root file system it is refused."""
    hiding = tars.archive(tars.entry(b".wh.base"))
    (image,) = shelf.load(docker_archive((["x:1"], [BASE, hiding])))
    assert (shelf.tree(image) / "base").is_char_device()
    with pytest.raises(HostileArchive, match="forged whiteout"):
        shelf.load(hiding, "mine")


# Names


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"name": "docker.io/library/x:1"}, "x:1"),
        ({"name": "localhost:5000/x"}, "localhost:5000/x"),
        ({"name": "1.2"}, "my-image:1.2"),
        ({"name": "latest"}, "my-image"),
        ({"name": "latest", "io.containerd.image.name": "docker.io/owner/x:3"}, "owner/x:3"),
        ({"name": "Not A Name"}, "my-image"),
        ({}, "my-image"),
    ],
)
def test_names_in_a_layout(shelf: Shelf, annotations: dict[str, str], name: str) -> None:
    """An image has the name its annotations say; a tag alone, or nothing, is filled in with the file's name."""
    files = LayoutFiles()
    (image,) = shelf.load(files.name(files.image(BASE), **annotations).tar())
    assert image.name == name


def test_a_name_of_ones_own(shelf: Shelf) -> None:
    """The only image of an archive can be given a name in place of its own; of several, none can."""
    (image,) = shelf.load(docker_archive((["a:1"], [BASE])), "mine")
    assert set(shelf.store.index.images()) == {image.name} == {"mine"}
    before = shelf.contents()
    with pytest.raises(UsageError, match="holds 2 images: a:1, b:1"):
        shelf.load(docker_archive((["a:1"], [BASE]), (["b:1"], [TOP])), "mine")
    assert shelf.contents() == before


def test_changes_are_for_root_file_systems(shelf: Shelf) -> None:
    """What --change says is not laid over the configuration that an image brings."""
    with pytest.raises(UsageError, match="leave --change out"):
        shelf.load(docker_archive((["a:1"], [BASE])), only_root=True)


# Platforms


def several_platforms() -> tuple[LayoutFiles, dict[str, dict[str, Any]]]:
    """A layout with one image for three platforms, and an attestation beside them."""
    files = LayoutFiles()
    made = {
        "linux/amd64": files.image(layer("amd64")),
        "linux/arm64": files.image(layer("arm64"), architecture="arm64"),
        "linux/arm/v7": files.image(layer("arm"), architecture="arm", variant="v7"),
    }
    note = platform(files.image(layer("note")), "unknown")
    note["platform"]["os"] = "unknown"
    note["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    entries = [platform(entry, *name.split("/")[1:]) for name, entry in made.items()]
    files.name(files.index(*entries, note), "x:1")
    return files, made


@pytest.mark.parametrize("wanted", ["linux/amd64", "linux/arm64", "linux/arm/v7"])
def test_a_platform_is_chosen(shelf: Shelf, wanted: str) -> None:
    """Of an image for several platforms, the one that was asked for comes in, and no layer of another."""
    files, made = several_platforms()
    (image,) = shelf.load(files.tar(), platform=platforms.parse(wanted))
    assert image.digest == made[wanted]["digest"]
    assert str(image.platform) == wanted
    assert len(shelf.contents()["layers/sha256"]) == 1


def test_the_index_pins_an_image(shelf: Shelf) -> None:
    """An image that was chosen from an index is found by the index's digest, by its own, and by the first digits."""
    files, made = several_platforms()
    (image,) = shelf.load(files.tar(), platform=platforms.parse("linux/arm64"))
    index, own = files.entries[0]["digest"], made["linux/arm64"]["digest"]
    assert image.index == index
    for word in (f"x@{index}", f"x@{own}", f"any/name:1@{own}", own, own[7:19]):
        assert shelf.images.find(word, pull=library.NEVER).digest == own
    with shelf.store.lock():
        shelf.images.collect(set(), set())
    assert shelf.store.blobs.read(index)


def test_a_platform_that_is_not_there(shelf: Shelf) -> None:
    """A platform that is not offered is an error that names those that are, and nothing comes in."""
    files, _ = several_platforms()
    before = shelf.contents()
    with pytest.raises(ImageNotFound, match=r"no image for linux/s390x.*linux/amd64, linux/arm64, linux/arm/v7"):
        shelf.load(files.tar(), platform=platforms.parse("linux/s390x"))
    with pytest.raises(ImageNotFound, match="is for linux/amd64, not for linux/s390x"):
        shelf.load(docker_archive((["a:1"], [BASE])), platform=platforms.parse("linux/s390x"))
    assert shelf.contents() == before


def test_images_without_names_are_one_for_several_platforms(shelf: Shelf) -> None:
    """A layout's index.json with nothing but platforms in it is an index like any other."""
    files = LayoutFiles()
    files.entries = [platform(files.image(layer(name), architecture=name), name) for name in ("amd64", "arm64")]
    (image,) = shelf.load(files.tar(), platform=platforms.parse("arm64"))
    assert image.name == "my-image"
    assert image.platform.architecture == "arm64"


def test_a_layer_twice_in_an_image(shelf: Shelf) -> None:
    """A layer that an image has twice is a lower once, at its upper place: overlayfs refuses the same one again."""
    (image,) = shelf.load(docker_archive((["x:1"], [BASE, TOP, BASE])))
    assert [shelf.store.layers.find(sha256(one)) for one in (TOP, BASE)] == list(shelf.images.lowers(image))


@pytest.mark.parametrize(
    "architectures", [("s390x", platforms.host().architecture), (platforms.host().architecture,) * 2]
)
def test_an_index_without_platforms(shelf: Shelf, architectures: tuple[str, str]) -> None:
    """Of images without a platform in the index, the first is taken whose configuration has one that suits."""
    files = LayoutFiles()
    first, second = (files.image(one, architecture=arch) for one, arch in zip((BASE, TOP), architectures, strict=True))
    files.name(files.index(first, second), "x:1")
    (image,) = shelf.load(files.tar())
    assert image.digest == (second if architectures[0] == "s390x" else first)["digest"]


@pytest.mark.parametrize("where", ["archive", "directory"])
def test_a_layout_without_its_mark(shelf: Shelf, tmp_path: Path, where: str) -> None:
    """Without the file `oci-layout`, index.json and blobs alone are a layout: podman takes it, too."""
    files = LayoutFiles()
    files.name(files.image(BASE), "x:1")
    del files.files["oci-layout"]
    (image,) = shelf.load(files.tar()) if where == "archive" else shelf.load_directory(files.write(tmp_path / "layout"))
    assert image.name == "x:1"


def test_a_root_file_system_with_such_names(shelf: Shelf) -> None:
    """With a file beside them, index.json and blobs are those of a root file system."""
    names = (b"index.json", b"blobs/a", b"etc/passwd")
    (image,) = shelf.load(tars.archive(*(tars.entry(name, b"{}") for name in names)))
    assert image.name == "my-image"


# Hostile and broken ones


def broken_layouts() -> dict[str, tuple[Callable[[LayoutFiles], object], str]]:
    """By name: what is done to a good layout, and what is said of it."""

    def path(data: bytes) -> str:
        return f"blobs/sha256/{sha256(data)[7:]}"

    blob = gzip.compress(BASE, mtime=0)
    other = gzip.compress(TOP, mtime=0)

    def nested(files: LayoutFiles) -> None:
        entry = files.image(BASE)
        for _ in range(5):
            entry = files.index(platform(entry, "amd64"))
        files.entries = [entry]

    def manifest(files: LayoutFiles, **changes: Any) -> None:
        settings = files.blob(config(BASE), CONFIG)
        layers = [files.blob(blob, f"{LAYER}+gzip")]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": layers} | changes
        files.entries = [files.blob(json.dumps(document).encode(), MANIFEST)]

    return {
        "other bytes": (
            lambda f: f.files.update({path(blob): other[:-1] + b"x"}),
            "instead of the expected|has the digest",
        ),
        "longer": (lambda f: f.files.update({path(blob): blob + b"\0"}), "has more than the expected"),
        "cut off": (lambda f: f.files.update({path(blob): blob[:-1]}), "instead of the expected"),
        "empty": (lambda f: f.files.update({path(blob): b""}), "has 0 bytes"),
        "missing": (lambda f: f.files.pop(path(blob)), "is missing from the image's files"),
        "no config": (lambda f: f.files.pop(path(config(BASE))), "is missing from the image's files"),
        "other config": (
            lambda f: f.files.update({path(config(BASE)): config(BASE).replace(b"A=1", b"A=2")}),
            "has the digest",
        ),
        "size": (
            lambda f: manifest(f, layers=[{"mediaType": f"{LAYER}+gzip", "digest": sha256(blob), "size": 5}]),
            "has more than the expected",
        ),
        "diff_id": (
            lambda f: setattr(f, "entries", [f.image(BASE, rootfs={"diff_ids": [sha256(TOP)]})]),
            "has the content sha256",
        ),
        "nested": (nested, "more than 4 indexes"),
        "media type": (
            lambda f: f.entries[0].update(mediaType=f"{MANIFEST}x"),
            "holds no image: its index has '.*jsonx'",
        ),
        "schema 1": (
            lambda f: f.entries[0].update(mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"),
            "holds no image: its index has .*v1.prettyjws'; save it again with a current tool",
        ),
        "empty index": (lambda f: f.entries.clear(), "the file holds no image; for a root"),
        "no platform that suits": (
            lambda f: setattr(
                f,
                "entries",
                [f.index(*(f.image(one, architecture="s390x") for one in (BASE, TOP)))],
            ),
            "no image for linux/.*; its index states no platform",
        ),
        "artifact": (
            lambda f: manifest(f, config=f.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")),
            "not that of an image",
        ),
        "version": (
            lambda f: f.files.update({"oci-layout": b'{"imageLayoutVersion": "2"}'}),
            "version '2' of the image layout",
        ),
        "no json": (lambda f: f.files.update({"index.json": b"{"}), "is not JSON"),
        "no tar": (lambda f: setattr(f, "entries", [f.image(b"x" * 2048)]), "layer sha256.* is not a tar"),
    }


@pytest.mark.parametrize("where", ["archive", "directory"])
@pytest.mark.parametrize("broken", broken_layouts())
def test_a_broken_layout_is_refused(shelf: Shelf, tmp_path: Path, broken: str, where: str) -> None:
    """Whatever is wrong with an image, one line says what, and the store is as it was before."""
    files = LayoutFiles()
    files.name(files.image(BASE), "x:1")
    change, message = broken_layouts()[broken]
    change(files)
    before = shelf.contents()
    with pytest.raises(ImageError, match=message):
        shelf.load(files.tar()) if where == "archive" else shelf.load_directory(files.write(tmp_path / "layout"))
    assert shelf.contents() == before


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (lambda name: tars.symlink(name, b"/etc/passwd"), "cannot open"),
        (lambda name: tars.symlink(name, b"../../../../../etc/passwd"), "cannot open"),
        (lambda name: tars.header(name, kind=tars.FIFO), "not a regular file"),
        (lambda name: tars.directory(name), "not a regular file"),
        (lambda name: tars.symlink(name, name.rpartition(b"/")[2]), "cannot open"),
    ],
    ids=["absolute link", "link upwards", "fifo", "directory", "loop"],
)
def test_blobs_are_nothing_but_files(shelf: Shelf, replacement: Callable[[bytes], bytes], message: str) -> None:
    """A link out of an archive is not followed, a FIFO is not waited for: the store is as it was before."""
    files = LayoutFiles()
    files.name(files.image(BASE), "x:1")
    blob = f"blobs/sha256/{sha256(gzip.compress(BASE, mtime=0))[7:]}"
    entries = [tars.entry(name.encode(), data) for name, data in files.all().items() if name != blob]
    before = shelf.contents()
    with pytest.raises(ImageError, match=message):
        shelf.load(tars.archive(*entries, replacement(blob.encode())))
    assert shelf.contents() == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"Layers": ["', b'"Layers": ["../', "cannot open|missing"),
        (b'"Layers": ["', b'"Layers": ["/etc/passwd", "', "cannot open|missing"),
        (b'"Config": "', b'"Config": "x', "is missing from the archive"),
        (
            b'"Config": "',
            b'"Config": "manifest.json", "x": "',
            "not a JSON object|not that of an image|unsupported media type",
        ),
        (b'"RepoTags": ["a:1"]', b'"RepoTags": ["A B"]', "invalid image name 'A B'"),
        (b'"RepoTags": ["a:1"]', b'"RepoTags": [1]', "not a list of strings"),
    ],
)
def test_a_broken_docker_archive_is_refused(shelf: Shelf, old: bytes, new: bytes, message: str) -> None:
    """A manifest.json that leads out of the archive, or to what is not in it, is refused."""
    archive = docker_archive((["a:1"], [BASE]))
    start = archive.index(b'[{"Config"')
    document = archive[start:].rstrip(b"\0").replace(old, new)
    entry = tars.entry(b"manifest.json", document)
    before = shelf.contents()
    with pytest.raises(ImageError, match=message):
        shelf.load(archive[: start - tars.BLOCK] + entry + tars.END)
    assert shelf.contents() == before


def test_a_layer_of_a_docker_archive_is_checked(shelf: Shelf) -> None:
    """A layer that is not the one the configuration says is refused."""
    archive = docker_archive((["a:1"], [BASE]))
    with pytest.raises(ImageError, match=r"has the content sha256.*configuration expects"):
        shelf.load(archive.replace(b"below", b"BELOW"))


def test_a_directory_that_is_no_layout(shelf: Shelf, tmp_path: Path) -> None:
    """A directory of anything else is not taken for a root file system."""
    with pytest.raises(ImageError, match="not an OCI image layout; for a root file system, give a tar"):
        shelf.load_directory(tmp_path)


# Others at the same store


def test_an_interrupt_leaves_the_store_as_it_was(shelf: Shelf) -> None:
    """Ctrl-C while layers come in ends the work in every thread, and nothing of it is left."""
    before = shelf.contents()

    def interrupt(state: State) -> None:
        if state.layers and not state.finished:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shelf.load(docker_archive((["a:1"], [BASE, TOP])), listener=interrupt)
    assert shelf.contents() == before


def test_a_prune_in_between_takes_nothing_of_it(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that was there at the beginning, and that a prune took away meanwhile, is brought in after all."""
    shelf.load(docker_archive((["base:1"], [BASE])))
    other = Store(shelf.store.path, shelf.store.owner)

    def prune(state: State) -> None:
        if state.layers and "base:1" in other.index.images():
            other.index.drop_image("base:1")
            with other.lock():
                for path in Images(other, shelf.runner).collect(set(), set()):
                    trash.discard(other, shelf.runner, [path])

    try:
        (image,) = shelf.load(docker_archive((["top:1"], [BASE, TOP])), listener=prune)
    finally:
        other.close()
    assert set(shelf.store.index.images()) == {"top:1"}
    assert (shelf.tree(image, 0) / "base").exists()
    assert (shelf.tree(image) / "top").exists()


def test_two_at_once_share_a_layer(shelf: Shelf) -> None:
    """Two threads that bring the same image in at the same time end with one of each layer, and no error."""
    archive = docker_archive((["a:1"], [BASE, TOP]))
    errors: list[BaseException] = []

    def load() -> None:
        with io.BytesIO(archive) as source:
            fd = os.memfd_create("archive")
            os.write(fd, source.read())
            os.lseek(fd, 0, os.SEEK_SET)
        try:
            shelf.load_fd(fd)
        except BaseException as error:
            errors.append(error)
        finally:
            os.close(fd)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    contents = shelf.contents()
    assert len(contents["layers/sha256"]) == 2
    assert contents["partial"] == contents["tmp"] == []
