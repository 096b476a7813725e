"""Files that lie about their image: a digest that it does not have, a name that is this program's own, a false size."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers import lookup as containers
from nbcontainer.containers import run
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerError, ImageError, ImageNotFound, NbcontainerError
from nbcontainer.images import library
from nbcontainer.images.archives import loading
from nbcontainer.images.verify import verify
from nbcontainer.oci import documents as oci
from nbcontainer.progress import Tracker
from tests.attacks.attacker import Node, archive
from tests.unit.images.image_files import CONFIG, LAYER, MANIFEST, LayoutFiles, config, docker_archive, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.oci.documents import Image
    from tests.attacks.attacker import Attacker

PIN = "sha256:" + "ab" * 32
EVIL = "cat /evil"


class Victim:
    """A store of the test's own, and a user who loads what came from elsewhere."""

    def __init__(self, engine: Engine, evil: bytes) -> None:
        self.engine = engine
        self.evil = evil

    def load(self, data: bytes) -> list[Image]:
        """Loads an archive."""
        fd = os.memfd_create("archive")
        try:
            os.write(fd, data)
            os.lseek(fd, 0, os.SEEK_SET)
            return self.engine.images.load(fd, loading.ImportOptions())
        finally:
            os.close(fd)

    def run(self, image: str, name: str = "") -> bytes:
        """What a cell says that looks whether it is in the attacker's image."""
        said: list[bytes] = []
        request = Request(image, name, script=EVIL, options=run_options({"pull": library.NEVER}))
        run.run(self.engine, request, Streams(said.append, said.append))
        return b"".join(said)

    def contents(self) -> dict[str, Any]:
        """All that the store holds."""
        found: dict[str, Any] = {"index": (self.engine.store.path / "index.json").read_bytes()}
        for name in ("blobs/sha256", "layers", "layers/sha256", "partial", "tmp"):
            found[name] = sorted(path.name for path in (self.engine.store.path / name).iterdir())
        return found

    def write_name(self, name: str) -> None:
        """Writes a name of the only image into index.json, as an older version did."""
        path = self.engine.store.path / "index.json"
        document = json.loads(path.read_text())
        document["manifests"][0]["annotations"][oci.REF_NAME] = name
        (path.parent / "tmp" / "index").write_text(json.dumps(document))
        (path.parent / "tmp" / "index").replace(path)


@pytest.fixture
def victim(attack: Attacker, tmp_path: Path) -> Iterator[Victim]:
    """An empty store, and a layer with the attacker's programs."""
    with contextlib.closing(Engine(tmp_path / "store")) as engine:
        yield Victim(engine, archive(attack.busybox | {"evil": Node(b"evil")}))


def in_docker(layer: bytes, name: str) -> bytes:
    """A docker archive of an image of that name."""
    return docker_archive(([name], [layer]))


def in_layout(layer: bytes, name: str, key: str = oci.REF_NAME) -> bytes:
    """An OCI archive of an image of that name."""
    files = LayoutFiles()
    return files.name(files.image(layer), "", **{key: name}).tar()


def in_containerds(layer: bytes, name: str) -> bytes:
    """The same, as containerd writes it."""
    return in_layout(layer, name, "io.containerd.image.name")


FORMS = [in_docker, in_layout, in_containerds]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [f"python@{PIN}", f"ghcr.io/a/b:1@{PIN}", PIN, f"docker.io/library/{PIN[7:19]}"])
def test_no_image_runs_by_a_digest_that_is_not_its_own(
    victim: Victim, form: Callable[[bytes, str], bytes], name: str
) -> None:
    """An archive that calls its image by another's digest, whole or short, is refused, and nothing runs by that."""
    before = victim.contents()
    with contextlib.suppress(ImageError):
        victim.load(form(victim.evil, name))
    with pytest.raises(ImageNotFound):
        victim.run(name)
    assert victim.contents() == before


def test_a_store_with_a_false_digest_runs_nothing_by_it(victim: Victim) -> None:
    """A name that an older version, or another tool, wrote into the store is not found if its digest is false."""
    (image,) = victim.load(in_docker(victim.evil, "mine:1"))
    assert victim.run("mine:1") == b"evil"
    for name in (f"python@{PIN}", PIN, PIN[7:19]):
        victim.write_name(name)
        with pytest.raises(ImageNotFound):
            victim.run(name)
        assert victim.run(image.digest) == b"evil"


def test_a_container_of_a_false_digest_is_not_gone_on_with(victim: Victim) -> None:
    """A container that was made by a false digest does not run for that digest any more."""
    (image,) = victim.load(in_docker(victim.evil, "mine:1"))
    containers.create(victim.engine, image.named(f"python@{PIN}"), "box")
    with pytest.raises((ImageNotFound, ContainerError)):
        victim.run(f"python@{PIN}", "box")
    assert victim.run("", "box") == b"evil"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["host:latest", "busybox:latest", "file/x:0123456789ab"])
def test_no_file_names_its_image_as_this_program_does(
    victim: Victim, form: Callable[[bytes, str], bytes], name: str
) -> None:
    """An archive cannot pass for this machine, for busybox, or for the image of another file."""
    before = victim.contents()
    with pytest.raises(ImageError, match="a name of nbcontainer's own"):
        victim.load(form(victim.evil, f"docker.io/library/{name}" if "/" not in name else name))
    assert victim.contents() == before


def of_size(layer: bytes, size: int, *, twice: bool = False) -> bytes:
    """An OCI archive without the layer, the size of which it states; with `twice` the right one, too."""
    files = LayoutFiles()
    sizes = [len(layer), size] if twice else [size]
    blobs = [{"mediaType": LAYER, "digest": sha256(layer), "size": one} for one in sizes]
    settings = files.blob(config(*[layer] * len(sizes)), CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": blobs}
    return files.name(files.blob(json.dumps(manifest).encode(), MANIFEST), "liar:1").tar()


@pytest.mark.parametrize("size", [0, 1, 1 << 61])
@pytest.mark.parametrize("twice", [False, True], ids=["alone", "beside the right one"])
def test_no_image_states_a_false_size_for_a_layer_that_is_there(victim: Victim, size: int, twice: object) -> None:
    """A size is compared with that of the store's layer: what is honest is not damaged by what is not."""
    victim.load(in_docker(victim.evil, "good:1"))
    before = victim.contents()
    with pytest.raises(NbcontainerError, match=r"bytes for|two sizes"):
        victim.load(of_size(victim.evil, size, twice=bool(twice)))
    assert victim.contents() == before
    with Tracker("verify") as tracker:
        assert verify(victim.engine.store, tracker) == []
