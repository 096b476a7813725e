"""Images that exist in the world, which podman and Docker load: each small file follows a public report."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.diff import diff
from nbcontainer.errors import ImageError, SetupFailed
from nbcontainer.images.archives import loading
from nbcontainer.images.archives.loading import ImportOptions
from nbcontainer.images.builtin import busybox
from tests.benchmarks.growth import verb
from tests.linux.test_hostile_images import entry, image
from tests.running import run_script
from tests.unit.images import tars
from tests.unit.images.image_files import LayoutFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image

    Load = Callable[..., tuple[list[Image], list[str]]]

__all__ = ["image"]

FILES = Path(__file__).parent / "images"


@pytest.fixture
def load(engine: Engine) -> Load:
    """Loads a file: its images, and the notices about them."""

    def do(name: str) -> tuple[list[Image], list[str]]:
        images = engine.images.reporting_to(None)
        fd = os.open(FILES / name, os.O_RDONLY)
        try:
            stem = loading.stem_of(FILES / name)
            return images.load(fd, ImportOptions(stem=stem)), images.notices
        finally:
            os.close(fd)

    return do


RUNS = {
    "aufs-metadata.oci.tar.gz": "",
    "chart-beside.oci.tar.gz": r"chart is left out: .*helm",
    "config-octet-stream.oci.tar.gz": "",
    "docker-1.9-save.tar.gz": "",
    "docker25-index-null.tar.gz": "",
    "dotdot-inside.oci.tar.gz": "",
    "empty-layer-0-bytes.oci.tar.gz": "",
    "entry-without-name.oci.tar.gz": "",
    "layer-foreign-docker.oci.tar.gz": "",
    "one-tag-two-platforms.oci.tar.gz": r"for linux/arm64 is left out",
    "sha512.oci.tar.gz": "",
    "signature-beside.oci.tar.gz": r"sha256:cda91de3dfe1… is left out",
}


@pytest.mark.parametrize("name", RUNS)
def test_it_loads_and_runs(engine: Engine, load: Load, name: str) -> None:
    """The file gives one image, whose program runs; a notice names what is left out, and nothing else is said."""
    (loaded,), notices = load(name)
    assert run_script(engine, None, image=loaded.name).text == "tiny ok"
    assert bool(notices) == bool(RUNS[name])
    for notice in notices:
        assert re.search(RUNS[name], notice)


@pytest.mark.parametrize("name", ["two-untagged.oci.tar.gz", "docker-two-by-digest.tar.gz"])
def test_two_images_without_names(engine: Engine, load: Load, name: str) -> None:
    """Two images that have neither tag nor platform are two images, named by their digests."""
    loaded, notices = load(name)
    assert [len(one.layers) for one in loaded] == [1, 2]
    assert all(one.name.endswith(f":{one.digest[7:19]}") for one in loaded)
    assert notices == []
    assert {run_script(engine, None, image=one.name).text for one in loaded} == {"tiny ok"}


def test_the_old_format_has_its_name(load: Load) -> None:
    """An archive of before Docker 1.10 gives the image by the name in its file `repositories`, with its settings."""
    (loaded,), _ = load("docker-1.9-save.tar.gz")
    assert (loaded.name, loaded.config.cmd) == ("app:1", ("/bin/tiny",))


def test_aufs_records_are_left_out(engine: Engine, load: Load) -> None:
    """No file of AUFS is in the image."""
    (loaded,), _ = load("aufs-metadata.oci.tar.gz")
    trees = [engine.store.path / "layers" / layer / "diff" for layer in engine.images.lowers(loaded)]
    assert not [path for tree in trees for path in tree.rglob("*") if ".wh." in path.name]


def test_dots_that_stay_inside(engine: Engine, load: Load) -> None:
    """The entry etc/../etc/q is the file /etc/q."""
    (loaded,), _ = load("dotdot-inside.oci.tar.gz")
    tree = engine.store.path / "layers" / engine.images.lowers(loaded)[-1] / "diff"
    assert [path.relative_to(tree).as_posix() for path in tree.rglob("*")] == ["etc", "etc/q"]


def test_no_layers(engine: Engine, load: Load) -> None:
    """An image without layers loads, is kept by a prune, and runs as far as a root without files allows."""
    (loaded,), _ = load("no-layers.oci.tar.gz")
    assert loaded.layers == ()
    with pytest.raises(SetupFailed, match="/bin/tiny: No such file or directory"):
        run_script(engine, None, image=loaded.name)


def layered(engine: Engine, folder: Path, *layers: bytes) -> str:
    """Loads an image of busybox and these layers above it, and returns its name."""
    (top, *_), name = (busybox.busybox(), f"layered-{len(layers)}-{hash(layers) % 10**8}:1")
    files = LayoutFiles()
    files.name(files.image(top, *layers), name).write(folder)
    fd = os.open(folder, os.O_RDONLY)
    try:
        engine.images.load(fd, ImportOptions())
    finally:
        os.close(fd)
    return name


HIDING = {
    "a whiteout in a directory that no layer below has": [(b"q/.wh.nosuch", b"q/f")],
    "two levels of it": [(b"q/r/.wh.nosuch", b"q/r/f"), (b"other",)],
    "a whiteout below what is a file there": [(b"q",), (b"q/.wh.nosuch", b"q/f")],
    "a whiteout in a directory that is hidden itself": [(b"q/old",), (b".wh.q",), (b"q/.wh.old", b"q/f")],
}


@pytest.mark.parametrize("layers", HIDING.values(), ids=HIDING)
def test_a_whiteout_of_nothing_hides_nothing(engine: Engine, tmp_path: Path, layers: list[tuple[bytes, ...]]) -> None:
    """It is not a file that is listed and cannot be opened: ls, rm, export and commit work."""
    name = layered(engine, tmp_path / "layout", *(tars.archive(*map(tars.entry, one)) for one in layers))
    ran = run_script(engine, "ls -lR /q && rm -r /q && ls -d /q", image=name)
    assert "nosuch" not in ran.stdout.decode()
    assert b"old" not in ran.stdout
    assert b" f\n" in ran.stdout
    assert ran.stderr == b"ls: /q: No such file or directory\n"
    verb(engine, "export", name, "-o", str(tmp_path / "root.tar"))
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert [name for name in tar.getnames() if name.startswith("q")] in (["q", "q/f"], ["q", "q/r", "q/r/f"])


def test_a_layer_that_hides_all_below_it(engine: Engine, tmp_path: Path) -> None:
    """An opaque mark in the root of a layer hides the layers below (image-spec, layer.md), and not those above."""
    marked = tars.archive(tars.entry(b".wh..wh..opq"), tars.entry(b"new"))
    name = layered(
        engine, tmp_path / "layout", tars.archive(tars.entry(b"old")), marked, tars.archive(tars.entry(b"top"))
    )
    verb(engine, "export", name, "-o", str(tmp_path / "root.tar"))
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert sorted(tar.getnames()) == ["new", "top"]


def test_no_end_mark(load: Load) -> None:
    """A root file system without its two blocks of zeros is an image, with a notice."""
    (loaded,), (notice,) = load("no-end-mark.rootfs.tar")
    assert len(loaded.layers) == 1
    assert "without its end mark" in notice


def test_a_cell_that_brings_an_image_in_shows_the_note(engine: Engine, tmp_path: Path) -> None:
    """The first cell on a file shows with which tolerance it was taken; the next one finds the image and does not."""
    path = tmp_path / "signature-beside.oci.tar.gz"
    path.write_bytes((FILES / path.name).read_bytes())
    first, second = (run_script(engine, None, image=str(path)) for _ in range(2))
    assert re.fullmatch(rb"nbcontainer: note: .* is left out.*\n", first.stderr)
    assert (first.text, second.text, second.stderr) == ("tiny ok", "tiny ok", b"")


def test_an_owner_above_65535(engine: Engine, load: Load) -> None:
    """Root's containers have the owner; a plain user's have root in its place, with a notice, and the same digests."""
    (loaded,), notices = load("owner-197609.rootfs.tar.gz")
    assert loaded.layers[0].blob.size == (FILES / "owner-197609.rootfs.tar.gz").stat().st_size
    tree = engine.store.path / "layers" / engine.images.lowers(loaded)[-1] / "diff"
    owner = (tree / "app" / "f").stat().st_uid
    ids = engine.idmap
    if ids.maps(197121):
        assert notices == []
        assert any(one.outside <= owner < one.outside + one.count for one in ids.uids if one.inside >= 65536)
    else:
        assert owner == ids.root_uid
        assert not notices or "'app/f' of 197609:197121" in notices[0]


def test_an_owner_that_is_squashed_is_no_change(engine: Engine, image: Callable[..., str]) -> None:
    """An image with owners that do not exist here works, its files belong to root, and diff shows no change."""
    info, data = entry("odd", b"0", data=b"x", mode=0o4644)
    info.uid = info.gid = 0x7FFF_FFFF
    where = image((info, data))
    ran = run_script(engine, "stat -c %u:%g:%a /odd; touch /new", image=where)
    assert ran.lines[0] == ("0:0:4644" if engine.idmap.kind == "single" else "0:0:644")
    assert [change.path for change in diff(ran.container)] == ["/new"]


def test_a_user_above_65535(engine: Engine, load: Load) -> None:
    """Root runs an image whose user is 1000660000; for others the error says that the id does not exist here."""
    (loaded,), _ = load("user-1000660000.oci.tar.gz")
    if engine.idmap.maps(0) and os.geteuid() == 0 and len(engine.idmap.uids) > 1:
        assert run_script(engine, None, image=loaded.name).text == "tiny ok"
    else:
        with pytest.raises(SetupFailed, match="not mapped"):
            run_script(engine, None, image=loaded.name)


@pytest.mark.parametrize("claim", ["host", "busybox:latest", "docker.io/library/busybox"])
def test_a_name_of_this_programs(engine: Engine, tmp_path: Path, claim: str) -> None:
    """An archive that names its image host or busybox is refused, also in the old format."""
    name, _, tag = claim.partition(":")
    layer = tars.archive(tars.entry(b"f"))
    data = tars.archive(
        tars.entry(b"l1/json", json.dumps({"id": "l1"}).encode()),
        tars.entry(b"l1/layer.tar", layer),
        tars.entry(b"repositories", json.dumps({name: {tag or "latest": "l1"}}).encode()),
    )
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(ImageError, match="a name of nbcontainer's own"):
        engine.images.load(fd, ImportOptions())
    os.close(fd)
