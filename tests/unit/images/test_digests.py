"""Images whose digests are of other algorithms than sha256, and layers whose types are for other places."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.loading import ImportOptions, load
from nbcontainer.images.staging import Staging
from nbcontainer.images.verify import verify
from nbcontainer.progress import Tracker
from tests.unit.images import tars
from tests.unit.images.apart import Apart
from tests.unit.images.image_files import CONFIG, LAYER, MANIFEST, LayoutFiles, docker_archive, layer

if TYPE_CHECKING:
    from nbcontainer.oci.documents import Image
    from nbcontainer.store.layout import Store


def digest(algorithm: str, data: bytes) -> str:
    """A digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def archive(blobs: str, diff_ids: str, media_type: str = LAYER, content: bytes = b"") -> bytes:
    """An OCI archive of one layer, whose digests are of these algorithms."""
    content = content or layer()
    packed = gzip.compress(content, mtime=0) if media_type.endswith("gzip") else content
    rootfs = {"type": "layers", "diff_ids": [digest(diff_ids, content)]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs}).encode()
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(blobs, config), "size": len(config)},
        "layers": [
            {
                "mediaType": media_type,
                "digest": digest(blobs, packed),
                "size": len(packed),
                "urls": ["http://x.invalid/"],
            }
        ],
    }
    manifest = json.dumps(document).encode()
    entry = {"mediaType": MANIFEST, "digest": digest(blobs, manifest), "size": len(manifest)}
    named = {**entry, "annotations": {"org.opencontainers.image.ref.name": "odd"}}
    files = {f"blobs/{digest(blobs, data).replace(':', '/')}": data for data in (packed, config, manifest)}
    files |= {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(),
    }
    return tars.archive(*(tars.entry(name.encode(), data) for name, data in files.items()))


def loaded(store: Store, data: bytes) -> list[Image]:
    """The images of an archive."""
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return load(Staging(store, Apart(store.path)), fd, ImportOptions(stem="stem"))
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", [LAYER, f"{LAYER}+gzip"])
@pytest.mark.parametrize(("blobs", "diff_ids"), [("sha512", "sha512"), ("sha256", "sha512"), ("sha512", "sha256")])
def test_sha512_digests(store: Store, blobs: str, diff_ids: str, kind: str) -> None:
    """Digests of blobs and diff_ids can be sha512 ones: they stay the archive's, and the store verifies them."""
    (image,) = loaded(store, archive(blobs, diff_ids, kind))
    assert image.layers[0].diff_id == digest(diff_ids, layer())
    assert image.layers[0].blob.digest.startswith(blobs)
    assert store.layers.find(image.layers[0].diff_id)
    with Tracker("verify") as tracker:
        assert verify(store, tracker) == []
    (again,) = loaded(store, archive(blobs, diff_ids, kind))
    assert again == image


def test_a_false_sha512_diff_id_is_refused(store: Store) -> None:
    """The content of a layer is compared with its sha512 diff_id."""
    good, bad = digest("sha512", layer()), digest("sha512", b"other")
    with pytest.raises(ImageError):
        loaded(store, archive("sha256", "sha512").replace(good.encode(), bad.encode()))
    assert store.index.images() == {}


def test_another_algorithm_is_named(store: Store) -> None:
    """Digests of other algorithms are refused, and the error names those that are supported."""
    with pytest.raises(ImageError, match=r"unsupported algorithm of the digest 'sha384:.*sha256 and sha512"):
        loaded(store, archive("sha384", "sha256"))


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_a_layer_for_other_places_that_is_there(store: Store, kind: str) -> None:
    """A foreign or nondistributable layer is a layer like others if the archive has it; its addresses are not used."""
    (image,) = loaded(store, archive("sha256", "sha256", kind))
    assert store.layers.find(image.layers[0].diff_id)


@pytest.mark.parametrize("folder", [b"image/", b"./image/", b"a/b/"])
@pytest.mark.parametrize("form", ["layout", "docker"])
def test_an_archive_inside_a_folder(store: Store, form: str, folder: bytes) -> None:
    """A layout or an archive of `docker save` that was packed with its folder gives the image, not its own files."""
    layout = LayoutFiles()
    layout.name(layout.image(layer(), compress=False), "packed:1")
    whole = layout.tar() if form == "layout" else docker_archive((["packed:1"], [layer()]))
    (image,) = loaded(store, _below(folder, whole))
    assert (image.name, len(image.layers)) == ("packed:1", 1)
    assert image.layers[0].diff_id == digest("sha256", layer())


def _below(folder: bytes, data: bytes) -> bytes:
    """The same archive with all its entries below a folder, which has entries of its own."""

    entries = []
    parts = folder.rstrip(b"/").split(b"/")
    entries += [tars.directory(b"/".join(parts[: count + 1]) + b"/") for count in range(len(parts))]
    with tarfile.open(fileobj=io.BytesIO(data)) as read:
        for member in read.getmembers():
            name = folder + member.name.encode()
            file = read.extractfile(member) if member.isfile() else None
            entries.append(tars.entry(name, file.read()) if file else tars.directory(name + b"/"))
    return tars.archive(*entries)
