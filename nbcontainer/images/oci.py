"""The documents of the OCI image specification, 1.1: descriptors, manifests and configurations.

They are written canonically (sorted keys, no spaces), so that the same content has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field, replace
from typing import Any

from nbcontainer.errors import ImageError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"

LAYER = "application/vnd.oci.image.layer.v1.tar"

_CONFIG_FIELDS = frozenset({"Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Shell", "Labels"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture() -> str:
    """This machine's architecture in OCI's (Go's) words."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def canonical(document: Any) -> bytes:
    """The one JSON form of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_of(data: bytes) -> str:
    """`sha256:…` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Descriptor:
    """What a blob is, which, and how long in bytes."""

    media_type: str
    digest: str
    size: int

    def as_json(self) -> dict[str, Any]:
        """The descriptor as the specification writes it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def descriptor(document: Any) -> Descriptor:
    """The descriptor in a JSON document. Raises `ImageError`."""
    try:
        found = Descriptor(str(document["mediaType"]), str(document["digest"]), int(document["size"]))
    except (KeyError, TypeError, ValueError):
        raise ImageError("a descriptor has no media type, digest and size") from None
    algorithm, _, value = found.digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ImageError(f"{found.digest[:80]!r} is no sha256 digest")
    return found


@dataclass(frozen=True)
class LayerRecord:
    """A layer of an image: its blob, and the digest of the uncompressed tar, which names its content."""

    blob: Descriptor
    diff_id: str
    created_by: str = ""
    comment: str = ""
    created: str = ""


@dataclass(frozen=True)
class ImageConfig:
    """What an image says about running it (OCI image-spec, config.md). `other` is what nothing here looks at."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    shell: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The `config` object, without what is empty."""
        values: dict[str, Any] = {
            **self.other,
            "Env": list(self.env),
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "WorkingDir": self.working_dir,
            "User": self.user,
            "Shell": list(self.shell),
            "Labels": dict(self.labels),
        }
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True)
class Image:
    """An image, whole: what its manifest and its configuration say. `layers` from the bottom up."""

    config: ImageConfig
    layers: tuple[LayerRecord, ...]
    created: str
    author: str = ""
    architecture: str = field(default_factory=architecture)
    name: str = ""
    digest: str = ""

    @property
    def size(self) -> int:
        """Bytes of all layers' blobs."""
        return sum(layer.blob.size for layer in self.layers)

    def config_document(self) -> bytes:
        """The configuration blob."""
        history = []
        for layer in self.layers:
            entry = {"created": layer.created, "created_by": layer.created_by, "comment": layer.comment}
            history.append({key: value for key, value in entry.items() if value})
        document: dict[str, Any] = {
            "architecture": self.architecture,
            "os": "linux",
            "created": self.created,
            "config": self.config.as_json(),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": history,
        }
        if self.author:
            document["author"] = self.author
        return canonical(document)

    def manifest_document(self, config: Descriptor) -> bytes:
        """The manifest blob."""
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.as_json(),
                "layers": [layer.blob.as_json() for layer in self.layers],
            }
        )

    def named(self, name: str, digest: str) -> Image:
        """This image under a name, at a manifest digest."""
        return replace(self, name=name, digest=digest)


def read_image(manifest: bytes, config: bytes) -> Image:
    """The image that two blobs describe. Raises `ImageError` for what does not fit together."""
    try:
        outer, inner = json.loads(manifest), json.loads(config)
        layers = [descriptor(item) for item in outer["layers"]]
        diff_ids = [str(item) for item in inner["rootfs"]["diff_ids"]]
        history = [item for item in inner.get("history", []) if not item.get("empty_layer")]
        settings = inner.get("config") or {}
        read = ImageConfig(
            env=tuple(settings.get("Env") or ()),
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            cmd=tuple(settings.get("Cmd") or ()),
            working_dir=str(settings.get("WorkingDir") or ""),
            user=str(settings.get("User") or ""),
            shell=tuple(settings.get("Shell") or ()),
            labels=dict(settings.get("Labels") or {}),
            other={key: value for key, value in settings.items() if key not in _CONFIG_FIELDS},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(f"the image's manifest or configuration cannot be read: {error}") from None
    if len(diff_ids) != len(layers):
        raise ImageError(f"the image has {len(layers)} layers and {len(diff_ids)} diff_ids")
    notes = history if len(history) == len(layers) else [{}] * len(layers)
    records = tuple(
        LayerRecord(
            blob,
            diff_id,
            str(note.get("created_by", "")),
            str(note.get("comment", "")),
            str(note.get("created", "")),
        )
        for blob, diff_id, note in zip(layers, diff_ids, notes, strict=True)
    )
    return Image(
        read,
        records,
        created=str(inner.get("created", "")),
        author=str(inner.get("author", "")),
        architecture=str(inner.get("architecture", "")),
    )
