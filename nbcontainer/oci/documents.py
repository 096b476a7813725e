"""The documents of the OCI image specification, 1.1, and Docker's equivalents: index, manifest, configuration.

They are written canonically (sorted keys, no spaces): the same content has the same digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from nbcontainer.errors import ImageError
from nbcontainer.oci import platforms, untrusted_json
from nbcontainer.oci.descriptors import Descriptor, canonical, check_diff_id, descriptor, digest_of
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
CONFIGS = frozenset(
    {CONFIG, _DOCKER_CONFIG, "application/octet-stream", "application/json", "text/html", "text/plain", ""}
)
"""Media types of an image's configuration; registries stored the last five until 2017 (distribution, ImageTypes)."""

_TARS = {
    LAYER: "+",
    "application/vnd.oci.image.layer.nondistributable.v1.tar": "+",
    _DOCKER_LAYER: ".",
    "application/vnd.docker.image.rootfs.foreign.diff.tar": ".",
}
"""Media types of a plain layer, and the character between each of them and the name of a compression."""

_LAYERS = {
    name + suffix: LAYER + oci_suffix
    for name, sign in _TARS.items()
    for suffix, oci_suffix in (("", ""), (f"{sign}gzip", "+gzip"), (f"{sign}zstd", "+zstd"))
}

PLAIN_LAYERS = frozenset(_TARS)

_CONFIG_FIELDS = frozenset({"Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Shell", "Labels"})


class NotAnImage(ImageError):
    """A manifest that describes something else: a signature, an SBOM or a chart."""


@dataclass(frozen=True)
class IndexEntry:
    """An entry of an index: what it describes, its platform (None if not stated), its annotations and artifact type."""

    blob: Descriptor
    platform: Platform | None
    annotations: dict[str, str]
    artifact_type: str = ""


def read_index(data: bytes, media_type: str = "") -> tuple[IndexEntry, ...]:
    """Return the entries of an image index, or of Docker's manifest list. Raises `ImageError`."""
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
        kind = untrusted_json.text(item, "artifactType", "the image index")
        entries.append(IndexEntry(descriptor(item), platform, annotations, kind))
    return tuple(entries)


def _platform(document: dict[str, Any], what: str) -> Platform:
    names = (untrusted_json.text(document, key, what) for key in ("os", "architecture", "variant"))
    return Platform(*names)


def read_manifest(data: bytes, media_type: str = "") -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return the configuration and the layers that an image manifest describes. Raises `ImageError`."""
    document = untrusted_json.parse(data, "the manifest")
    _check_kind(document, media_type, MANIFESTS, "layers", ("manifests", "fsLayers"))
    config = descriptor({"mediaType": "", **untrusted_json.mapping(document, "config", "the manifest")})
    if config.media_type.partition(";")[0] not in CONFIGS:
        raise NotAnImage(f"the manifest is not that of an image: its configuration is {config.media_type[:100]!r}")
    layers = tuple(descriptor(item) for item in untrusted_json.objects(document, "layers", "the manifest"))
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise _unsupported(layer)
    return config, layers


def _unsupported(layer: Descriptor) -> ImageError:
    """Return the error for a layer that is not a tar, or whose compression is not supported."""
    for name, sign in _TARS.items():
        if layer.media_type.startswith(name + sign):
            form = layer.media_type.removeprefix(name + sign)[:100]
            hint = "push or save the image again with gzip layers"
            return ImageError(f"layer {layer.digest} has the unsupported compression {form!r}", hint=hint)
    return NotAnImage(f"layer {layer.digest} has the unsupported media type {layer.media_type[:100]!r}")


def _check_kind(
    document: dict[str, Any], media_type: str, known: frozenset[str], needed: str, others: tuple[str, ...]
) -> None:
    """Raise `ImageError` if two readers could read the document as two different things (CVE-2021-41190)."""
    stated = untrusted_json.text(document, "mediaType", "the manifest")
    if media_type and media_type not in known:
        raise ImageError(f"unsupported media type {media_type[:100]!r} of an image")
    if stated and (stated not in known or (media_type and stated != media_type)):
        raise ImageError(
            f"the manifest has the media type {stated[:100]!r}, but was announced as {media_type or 'another'}"
        )
    if document.get("schemaVersion") != 2:
        hint = "push the image again with a current tool"
        raise ImageError(f"the manifest has schema version {document.get('schemaVersion')!r} instead of 2", hint=hint)
    if needed not in document or any(key in document for key in others):
        raise ImageError(f"the manifest must have {needed}, and no fields of another type")


@dataclass(frozen=True)
class LayerRecord:
    """A layer of an image: its blob, and the digest of its uncompressed tar."""

    blob: Descriptor
    diff_id: str


@dataclass(frozen=True)
class HistoryEntry:
    """One entry of an image's history (OCI image-spec, config.md); `empty` if it made no layer."""

    created: str = ""
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the specification writes it."""
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
    """How an image is run (OCI image-spec, config.md). `other` has the fields that nothing here uses."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    shell: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the `config` object, without empty fields."""
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
    """An image: the content of its manifest and its configuration. `layers` are from the bottom up.

    `history` has an entry for each layer, and empty ones. `digest` and `media_type` are its manifest's. `index` is the
    digest of the index that it was chosen from; empty for none.

    >>> find_image("busybox").config.cmd
    ('sh',)
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

    def _repr_html_(self) -> str:
        from nbcontainer.rendering.fields import Size, When
        from nbcontainer.rendering.table import facts

        return facts(
            f"image {self.name}",
            (
                ("digest", self.digest),
                ("platform", str(self.platform)),
                ("layers", str(len(self.layers))),
                ("size", Size(self.size)),
                ("created", When(self.created)),
            ),
        )

    @property
    def size(self) -> int:
        """The size of all layers' blobs, in bytes."""
        return sum(layer.blob.size for layer in self.layers)

    def named(self, name: str) -> Image:
        """Return this image under another name."""
        return replace(self, name=name)

    def config_document(self) -> bytes:
        """Return the configuration blob."""
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
        """Return the manifest blob: an OCI one, with OCI's media types for layers that have Docker's."""
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
    """Return the image that two blobs describe. Raises `ImageError` if they are invalid or do not fit together."""
    described, blobs = read_manifest(manifest, media_type)
    described.check(config)
    what = "the image's configuration"
    document = untrusted_json.parse(config, what)
    diff_ids = untrusted_json.strings(untrusted_json.mapping(document, "rootfs", what), "diff_ids", what)
    if len(diff_ids) != len(blobs):
        raise ImageError(f"the image has {len(blobs)} layers and {len(diff_ids)} diff_ids")
    layers = tuple(LayerRecord(blob, check_diff_id(diff_id)) for blob, diff_id in zip(blobs, diff_ids, strict=True))
    _check_twins(layers)
    platform = _platform(document, what)
    if platform.os not in ("", "linux"):
        raise ImageError(f"the image is for {platform}, but only images for linux are supported")
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


def _program(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return an entry point; `[""]` is what `--entrypoint ""` of older versions of Docker left, and is none."""
    return () if words == ("",) else words


def _settings(document: dict[str, Any], what: str) -> ImageConfig:
    labels = untrusted_json.mapping(document, "Labels", what)
    if not all(isinstance(value, str) for value in labels.values()):
        raise ImageError(f"{what}: Labels is not an object of strings")
    for key in ("Volumes", "ExposedPorts"):
        untrusted_json.mapping(document, key, what)
    untrusted_json.strings(document, "OnBuild", what)
    untrusted_json.text(document, "StopSignal", what)
    return ImageConfig(
        env=untrusted_json.strings(document, "Env", what),
        entrypoint=_program(untrusted_json.strings(document, "Entrypoint", what)),
        cmd=untrusted_json.strings(document, "Cmd", what),
        working_dir=untrusted_json.text(document, "WorkingDir", what),
        user=untrusted_json.text(document, "User", what),
        shell=untrusted_json.strings(document, "Shell", what),
        labels=labels,
        other={key: value for key, value in document.items() if key not in _CONFIG_FIELDS},
    )
