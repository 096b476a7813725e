"""The documents of the OCI image specification, 1.1, and Docker's twins of them: index, manifest, configuration.

They are written canonically (sorted keys, no spaces), so that the same content has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from nbcontainer.errors import ImageError
from nbcontainer.oci import platforms, untrusted_json
from nbcontainer.oci.platforms import Platform

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({INDEX, DOCKER_LIST})
_CONFIGS = frozenset({CONFIG, _DOCKER_CONFIG})
_LAYERS = {
    LAYER: LAYER,
    f"{LAYER}+gzip": f"{LAYER}+gzip",
    f"{LAYER}+zstd": f"{LAYER}+zstd",
    _DOCKER_LAYER: LAYER,
    f"{_DOCKER_LAYER}.gzip": f"{LAYER}+gzip",
    f"{_DOCKER_LAYER}.zstd": f"{LAYER}+zstd",
}

PLAIN_LAYERS = frozenset({LAYER, _DOCKER_LAYER})

_CONFIG_FIELDS = frozenset({"Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Shell", "Labels"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SIZE_MAX = 1 << 62


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

    def check(self, data: bytes) -> bytes:
        """`data`, if it is what this describes. Raises `ImageError`."""
        if len(data) != self.size:
            raise ImageError(f"{self.digest} has {len(data)} bytes where {self.size} were promised")
        if digest_of(data) != self.digest:
            raise ImageError(f"the bytes that are said to be {self.digest} are {digest_of(data)}")
        return data


def descriptor(document: Any) -> Descriptor:
    """The descriptor in a JSON document. Raises `ImageError`."""
    try:
        media_type, digest, size = document["mediaType"], document["digest"], document["size"]
    except (KeyError, TypeError):
        raise ImageError("a descriptor has no media type, digest and size") from None
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise ImageError("a descriptor has no media type, digest and size")
    if not 0 <= size < _SIZE_MAX:
        raise ImageError(f"a descriptor says that {digest[:80]} has {size} bytes")
    return Descriptor(media_type, check_digest(digest), size)


def check_digest(text: str) -> str:
    """`text`, if it is a digest. Raises `ImageError`."""
    if not _DIGEST.fullmatch(text):
        raise ImageError(f"{text[:80]!r} is no sha256 digest")
    return text


@dataclass(frozen=True)
class IndexEntry:
    """One of an index: what it describes, the platform it is for where that is said, and its annotations."""

    blob: Descriptor
    platform: Platform | None
    annotations: dict[str, str]


def read_index(data: bytes, media_type: str = "") -> tuple[IndexEntry, ...]:
    """The entries of an image index, or of Docker's manifest list. Raises `ImageError`."""
    document = untrusted_json.parse(data, "the image index")
    _check_kind(document, media_type, INDEXES, "manifests", ("layers", "config"))
    entries = []
    for item in untrusted_json.objects(document, "manifests", "the image index"):
        annotations = {
            key: value
            for key, value in untrusted_json.mapping(item, "annotations", "the image index").items()
            if isinstance(value, str)
        }
        place = untrusted_json.mapping(item, "platform", "the image index")
        platform = _platform(place, "the image index") if place else None
        entries.append(IndexEntry(descriptor(item), platform, annotations))
    return tuple(entries)


def _platform(document: dict[str, Any], what: str) -> Platform:
    names = (untrusted_json.text(document, key, what) for key in ("os", "architecture", "variant"))
    return Platform(*names)


def read_manifest(data: bytes, media_type: str = "") -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The configuration and the layers that an image manifest describes. Raises `ImageError`."""
    document = untrusted_json.parse(data, "the manifest")
    _check_kind(document, media_type, MANIFESTS, "layers", ("manifests", "fsLayers"))
    config = descriptor(document.get("config"))
    if config.media_type not in _CONFIGS:
        raise ImageError(f"this is no image of a file system, but {config.media_type[:100]}")
    layers = tuple(descriptor(item) for item in untrusted_json.objects(document, "layers", "the manifest"))
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise ImageError(f"layer {layer.digest} is of a type that is not known here: {layer.media_type[:100]!r}")
    return config, layers


def _check_kind(
    document: dict[str, Any], media_type: str, known: frozenset[str], needed: str, others: tuple[str, ...]
) -> None:
    """One document must not be read as two things by two readers (CVE-2021-41190)."""
    said = untrusted_json.text(document, "mediaType", "the manifest")
    if media_type and media_type not in known:
        raise ImageError(f"{media_type[:100]!r} is no type of image that is known here")
    if said and (said not in known or (media_type and said != media_type)):
        raise ImageError(f"the manifest says that it is {said[:100]!r}, and was announced as {media_type or 'another'}")
    if document.get("schemaVersion") != 2:
        hint = "push it again with a current tool"
        raise ImageError(f"the manifest has the schema version {document.get('schemaVersion')!r}, not 2", hint=hint)
    if needed not in document or any(key in document for key in others):
        raise ImageError(f"the manifest does not have {needed} alone, as one of its type has")


@dataclass(frozen=True)
class LayerRecord:
    """A layer of an image: its blob, and the digest of the uncompressed tar, which names its content."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True)
class HistoryEntry:
    """One line of an image's history (OCI image-spec, config.md); `empty` where it made no layer."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty: bool = False

    def as_json(self) -> dict[str, Any]:
        """The step as the specification writes it."""
        values = {
            "created": self.created,
            "created_by": self.created_by,
            "comment": self.comment,
            "author": self.author,
            "empty_layer": self.empty,
        }
        return {key: value for key, value in values.items() if value}


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
    """An image, whole: what its manifest and its configuration say. `layers` from the bottom up.

    `history` has a step for each layer, and empty ones. `digest` and `media_type` are its manifest's, `index` is the
    digest of the index that it was chosen from, empty where there was none.
    """

    config: ImageConfig
    layers: tuple[LayerRecord, ...]
    created: str
    history: tuple[HistoryEntry, ...] = ()
    author: str = ""
    platform: Platform = field(default_factory=platforms.host)
    name: str = ""
    digest: str = ""
    media_type: str = MANIFEST
    index: str = ""

    def __repr__(self) -> str:
        return f"<Image '{self.name}' {self.digest[:19]}: {self.platform}, {len(self.layers)} layers>"

    @property
    def size(self) -> int:
        """Bytes of all layers' blobs."""
        return sum(layer.blob.size for layer in self.layers)

    def named(self, name: str) -> Image:
        """This image under a name."""
        return replace(self, name=name)

    def config_document(self) -> bytes:
        """The configuration blob."""
        document: dict[str, Any] = {
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "created": self.created,
            "config": self.config.as_json(),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [step.as_json() for step in self.history],
        }
        if self.platform.variant:
            document["variant"] = self.platform.variant
        if self.author:
            document["author"] = self.author
        return canonical(document)

    def manifest_document(self, config: Descriptor) -> bytes:
        """The manifest blob: OCI's, whatever the layers below were called where they came from."""
        layers = [replace(layer.blob, media_type=_LAYERS[layer.blob.media_type]) for layer in self.layers]
        return canonical(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.as_json(),
                "layers": [layer.as_json() for layer in layers],
            }
        )


def read_image(manifest: bytes, config: bytes, media_type: str = "") -> Image:
    """The image that two blobs describe. Raises `ImageError` for what does not fit together."""
    described, blobs = read_manifest(manifest, media_type)
    described.check(config)
    what = "the image's configuration"
    document = untrusted_json.parse(config, what)
    diff_ids = untrusted_json.strings(untrusted_json.mapping(document, "rootfs", what), "diff_ids", what)
    if len(diff_ids) != len(blobs):
        raise ImageError(f"the image has {len(blobs)} layers and {len(diff_ids)} diff_ids")
    if not blobs:
        raise ImageError("the image has no layers")
    layers = tuple(LayerRecord(blob, check_digest(diff_id)) for blob, diff_id in zip(blobs, diff_ids, strict=True))
    _check_twins(layers)
    platform = _platform(document, what)
    if platform.os not in ("", "linux"):
        raise ImageError(f"the image is for {platform}, and only images for linux run here")
    history = tuple(_step(item, what) for item in untrusted_json.objects(document, "history", what))
    if sum(not step.empty for step in history) != len(blobs):
        history = (HistoryEntry(),) * len(blobs)
    return Image(
        _settings(untrusted_json.mapping(document, "config", what), what),
        layers,
        created=untrusted_json.text(document, "created", what),
        history=history,
        author=untrusted_json.text(document, "author", what),
        platform=replace(platform, os="linux", architecture=platform.architecture or platforms.host().architecture),
        digest=digest_of(manifest),
        media_type=media_type or untrusted_json.parse(manifest, "the manifest").get("mediaType") or MANIFEST,
    )


def _check_twins(layers: tuple[LayerRecord, ...]) -> None:
    """Raise `ImageError` if a blob that is there more than once has two sizes, or two contents."""
    first: dict[str, LayerRecord] = {}
    for layer in layers:
        other = first.setdefault(layer.blob.digest, layer)
        if other.blob.size != layer.blob.size:
            raise ImageError(f"layer {layer.blob.digest} has two sizes: {other.blob.size} and {layer.blob.size}")
        if other.diff_id != layer.diff_id:
            raise ImageError(f"layer {layer.blob.digest} has two contents: {other.diff_id} and {layer.diff_id}")


def _step(document: dict[str, Any], what: str) -> HistoryEntry:
    texts = {key: untrusted_json.text(document, key, what) for key in ("created", "created_by", "comment", "author")}
    return HistoryEntry(**texts, empty=document.get("empty_layer") is True)


def _settings(document: dict[str, Any], what: str) -> ImageConfig:
    labels = untrusted_json.mapping(document, "Labels", what)
    if not all(isinstance(value, str) for value in labels.values()):
        raise ImageError(f"{what}: Labels is no object of strings")
    return ImageConfig(
        env=untrusted_json.strings(document, "Env", what),
        entrypoint=untrusted_json.strings(document, "Entrypoint", what),
        cmd=untrusted_json.strings(document, "Cmd", what),
        working_dir=untrusted_json.text(document, "WorkingDir", what),
        user=untrusted_json.text(document, "User", what),
        shell=untrusted_json.strings(document, "Shell", what),
        labels=labels,
        other={key: value for key, value in document.items() if key not in _CONFIG_FIELDS},
    )
