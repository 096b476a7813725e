"""Images as files, byte by byte: layouts and docker archives, right ones and, changed in one place, wrong ones."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.unit.images import tars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"

MANIFEST, INDEX, CONFIG = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json", f"{OCI}.config.v1+json"
LAYER = f"{OCI}.layer.v1.tar"


def sha256(data: bytes) -> str:
    """`sha256:…` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(name: str = "file", data: bytes = b"data") -> bytes:
    """A layer with one file."""
    return tars.archive(tars.entry(name.encode(), data))


def config(*layers: bytes, **changes: Any) -> bytes:
    """A configuration of (uncompressed) layers."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["A=1"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in layers]},
    }
    return json.dumps(document | changes).encode()


@dataclass
class LayoutFiles:
    """The files of a layout, by name; `blob` and `image` add to them, and `entries` become index.json."""

    files: dict[str, bytes] = field(default_factory=lambda: {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'})
    entries: list[dict[str, Any]] = field(default_factory=list)

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Adds a blob; its descriptor."""
        self.files[f"blobs/sha256/{sha256(data)[7:]}"] = data
        return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}

    def image(self, *layers: bytes, compress: bool = True, docker: bool = False, **changes: Any) -> dict[str, Any]:
        """Adds an image; the descriptor of its manifest. `changes` are the configuration's."""
        kinds = (
            (f"{DOCKER}.distribution.manifest.v2+json", f"{DOCKER}.container.image.v1+json")
            if docker
            else (MANIFEST, CONFIG)
        )
        tar = f"{DOCKER}.image.rootfs.diff.tar.gzip" if docker else f"{LAYER}+gzip" if compress else LAYER
        blobs = [self.blob(gzip.compress(one, mtime=0) if compress else one, tar) for one in layers]
        settings = self.blob(config(*layers, **changes), kinds[1])
        manifest = {"schemaVersion": 2, "mediaType": kinds[0], "config": settings, "layers": blobs}
        return self.blob(json.dumps(manifest).encode(), kinds[0])

    def index(self, *entries: dict[str, Any]) -> dict[str, Any]:
        """Adds an index; its descriptor."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return self.blob(json.dumps(document).encode(), INDEX)

    def name(self, entry: dict[str, Any], name: str = "", **annotations: str) -> LayoutFiles:
        """Puts an image into index.json, under a name."""
        said = {"org.opencontainers.image.ref.name": name} if name else {}
        self.entries.append({**entry, "annotations": said | annotations})
        return self

    def all(self) -> dict[str, bytes]:
        """All files, index.json last but one as skopeo has it."""
        index = json.dumps({"schemaVersion": 2, "manifests": self.entries}).encode()
        return {**{name: data for name, data in self.files.items() if "/" in name}, "index.json": index} | self.files

    def tar(self) -> bytes:
        """The layout as an OCI archive."""
        folders = [tars.directory(b"blobs/"), tars.directory(b"blobs/sha256/")]
        return tars.archive(*folders, *(tars.entry(name.encode(), data) for name, data in self.all().items()))

    def write(self, top: Path) -> Path:
        """The layout as a directory."""
        for name, data in self.all().items():
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_bytes(data)
        return top


def platform(entry: dict[str, Any], architecture: str, variant: str = "") -> dict[str, Any]:
    """An index's entry for a platform."""
    return {**entry, "platform": {"os": "linux", "architecture": architecture, "variant": variant}}


def docker_archive(
    *images: tuple[list[str], list[bytes]],
    links: bool = False,
    pack: Callable[[bytes], bytes] = bytes,
    **changes: Any,
) -> bytes:
    """What `docker save` writes: (tags, layers) each. With `links` in the old form, shared layers being links.

    `pack` compresses each layer.
    """
    entries: list[bytes] = []
    manifest = []
    written: dict[bytes, str] = {}
    for number, (tags, layers) in enumerate(images):
        paths = []
        for depth, data in enumerate(layers):
            path = f"{sha256(b'%d %d' % (number, depth))[7:]}/layer.tar" if links else f"{sha256(data)[7:]}.tar"
            if links and data in written:
                entries.append(tars.symlink(path.encode(), f"../{written[data]}".encode()))
            elif data not in written:
                entries.append(tars.entry(path.encode(), pack(data)))
                written[data] = path
            paths.append(path)
        settings = config(*layers, **changes)
        entries.append(tars.entry(f"{sha256(settings)[7:]}.json".encode(), settings))
        manifest.append({"Config": f"{sha256(settings)[7:]}.json", "RepoTags": tags, "Layers": paths})
    return tars.archive(*entries, tars.entry(b"manifest.json", json.dumps(manifest).encode()))
