"""Archives of `docker save` before Docker 1.10: `ID/json` and `ID/layer.tar` for each layer, and `repositories`.

Source: moby, image/spec/v1.md. The configuration of today is made of the layers' own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ImageError
from nbcontainer.images.archives.docker_archive import MANIFEST, DockerArchive, familiar_names
from nbcontainer.oci import descriptors, untrusted_json
from nbcontainer.oci import documents as oci

if TYPE_CHECKING:
    from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
    from nbcontainer.images.sources import Candidate

_REPOSITORIES = "repositories"
_LAYERS_MAX = 1024
_KEPT = ("architecture", "os", "created", "author", "config")


def is_old_docker_archive(folder: UntrustedDirectory) -> bool:
    """Whether the directory has the files of an archive of docker save before 1.10."""
    if folder.has(MANIFEST):
        return False
    try:
        ids = [*_tags(folder), *([] if folder.has(_REPOSITORIES) else _untagged(folder))]
    except (ImageError, FileNotFoundError):
        return False
    return bool(ids) and all(_is_layer(folder, one) for one in ids)


def _is_layer(folder: UntrustedDirectory, layer: str) -> bool:
    return all(folder.has(f"{layer}/{name}") for name in ("json", "layer.tar"))


def _tags(folder: UntrustedDirectory) -> dict[str, list[str]]:
    """Return the names of each image, by its id. Raises `ImageError`."""
    if not folder.has(_REPOSITORIES):
        return {}
    document = untrusted_json.parse(folder.read(_REPOSITORIES, untrusted_json.LIMIT), _REPOSITORIES)
    found: dict[str, list[str]] = {}
    for name in document:
        tags = untrusted_json.mapping(document, name, _REPOSITORIES)
        for tag in tags:
            found.setdefault(untrusted_json.text(tags, tag, _REPOSITORIES), []).append(f"{name}:{tag}")
    return found


def _untagged(folder: UntrustedDirectory) -> list[str]:
    """Return the ids of the layers that are below no other layer: `docker save ID` wrote no names."""
    layers = [name for name in folder.folders() if _is_layer(folder, name)]
    parents = {_parent(_document(folder, layer)) for layer in layers}
    return [layer for layer in layers if layer not in parents]


def _document(folder: UntrustedDirectory, layer: str) -> dict[str, Any]:
    try:
        return untrusted_json.parse(folder.read(f"{layer}/json", untrusted_json.LIMIT), f"{layer[:80]}/json")
    except FileNotFoundError:
        raise ImageError(f"layer {layer[:80]!r} is missing from the archive", hint="save the image again") from None


def _parent(document: dict[str, Any]) -> str:
    return untrusted_json.text(document, "parent", "a layer's json")


class OldDockerArchive(DockerArchive):
    """`nbcontainer.images.sources.Source` of such an archive, unpacked."""

    def candidates(self, _stem: str = "") -> list[Candidate]:
        """Return the images of the archive. Every layer is read, for its digest. Raises `ImageError`."""
        tags = _tags(self._folder) or {layer: [] for layer in _untagged(self._folder)}
        return [self._old_candidate(top, familiar_names(found, _REPOSITORIES)) for top, found in tags.items()]

    def _old_candidate(self, top: str, names: tuple[str, ...]) -> Candidate:
        chain = self._chain(top)
        layers = [self._layer(f"{layer}/layer.tar") for layer, _ in chain]
        for layer in layers:
            if layer.media_type != oci.LAYER:
                raise ImageError(f"layer {layer.digest} of the archive is compressed, which Docker before 1.10 is not")
        newest = chain[-1][1]
        config: dict[str, Any] = {key: newest[key] for key in _KEPT if key in newest}
        config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        config["history"] = [_history(document) for _, document in chain]
        return self._add(descriptors.canonical(config), layers, names)

    def _chain(self, top: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the layers of an image and their documents, from the bottom up. Raises `ImageError`."""
        found: dict[str, dict[str, Any]] = {}
        while top:
            if top in found or len(found) == _LAYERS_MAX:
                raise ImageError(f"layer {top[:80]!r} of the archive is below itself, or below too many")
            found[top] = _document(self._folder, top)
            top = _parent(found[top])
        return list(found.items())[::-1]


def _history(document: dict[str, Any]) -> dict[str, Any]:
    what = "a layer's json"
    command = untrusted_json.strings(untrusted_json.mapping(document, "container_config", what), "Cmd", what)
    return {"created": untrusted_json.text(document, "created", what), "created_by": " ".join(command)}
