"""Manifests, indexes and configurations that nobody trusts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nbcontainer.errors import ImageError
from nbcontainer.oci import descriptors, untrusted_json
from nbcontainer.oci import documents as oci
from nbcontainer.oci.platforms import Platform

HEX = "0123456789abcdef" * 4
BLOB = {"mediaType": f"{oci.LAYER}+gzip", "digest": f"sha256:{HEX}", "size": 7}


def config_document(**changes: Any) -> bytes:
    """A configuration with one layer."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
        "config": {"Env": ["A=1"], "Cmd": ["sh"], "StopSignal": "SIGINT", "Volumes": {"/data": {}}},
        "history": [{"created_by": "ADD"}, {"created_by": "CMD", "empty_layer": True}],
    }
    return json.dumps(document | changes).encode()


def manifest_document(config: bytes, /, **changes: Any) -> bytes:
    """A manifest of that configuration, with one layer."""
    blob = descriptors.Descriptor(oci.CONFIG, descriptors.digest_of(config), len(config))
    document = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": blob.as_json(), "layers": [BLOB]}
    return json.dumps(document | changes).encode()


def test_an_image_is_read_whole() -> None:
    """All that a configuration says is kept, what nothing here looks at included."""
    config = config_document()
    image = oci.read_image(manifest_document(config), config)
    assert image.config.env == ("A=1",)
    assert image.config.other == {"StopSignal": "SIGINT", "Volumes": {"/data": {}}}
    assert [step.created_by for step in image.history] == ["ADD", "CMD"]
    assert image.platform == Platform("linux", "amd64")
    again = json.loads(image.config_document())
    assert again["config"]["StopSignal"] == "SIGINT"
    assert again["history"] == [{"created_by": "ADD"}, {"created_by": "CMD", "empty_layer": True}]


def test_docker_types_become_oci_in_a_new_manifest() -> None:
    """An image that is committed on one of Docker's has a manifest of one kind, OCI's."""
    config = config_document()
    docker = {**BLOB, "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    manifest = manifest_document(config, layers=[docker], mediaType=oci.DOCKER_MANIFEST)
    image = oci.read_image(manifest, config, oci.DOCKER_MANIFEST)
    assert image.media_type == oci.DOCKER_MANIFEST
    made = json.loads(image.manifest_document(descriptors.Descriptor(oci.CONFIG, f"sha256:{HEX}", 3)))
    assert made["layers"] == [BLOB]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe{}", "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested deeper"),
        (b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", "nested deeper"),
        (b'{"a": "' + b" " * untrusted_json.LIMIT + b'"}', "limit of 4 MiB"),
    ],
    ids=["utf-8", "utf-16", "cut", "list", "nan", "digits", "deep", "deep by one", "huge"],
)
def test_a_hostile_document_is_refused(data: bytes, message: str) -> None:
    """What is no JSON object of a sensible size and depth is refused, and nothing breaks on it."""
    with pytest.raises(ImageError, match=message):
        untrusted_json.parse(data, "the manifest")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schemaVersion": 1}, "schema version 1"),
        ({"mediaType": oci.INDEX}, "has the media type"),
        ({"mediaType": "text/plain"}, "has the media type"),
        ({"mediaType": 2}, "mediaType is not a string"),
        ({"manifests": []}, "must have layers, and no fields"),
        ({"fsLayers": []}, "must have layers, and no fields"),
        ({"layers": {}}, "layers is not a list"),
        ({"layers": [1]}, "not a list of objects"),
        ({"layers": []}, "0 layers and 1 diff_ids"),
        ({"layers": [BLOB, BLOB]}, "2 layers and 1 diff_ids"),
        ({"layers": [{**BLOB, "size": -1}]}, "-1 bytes"),
        ({"layers": [{**BLOB, "size": 2**63}]}, "bytes"),
        ({"layers": [{**BLOB, "size": True}]}, "expected media type, digest and size"),
        ({"layers": [{**BLOB, "size": "7"}]}, "expected media type, digest and size"),
        ({"layers": [{**BLOB, "digest": "sha256:../../etc/passwd"}]}, "invalid sha256 digest"),
        ({"layers": [{**BLOB, "digest": f"sha512:{HEX}"}]}, "invalid sha512 digest"),
        ({"layers": [{**BLOB, "digest": f"sha384:{HEX}"}]}, "unsupported algorithm"),
        (
            {"layers": [{**BLOB, "mediaType": "application/vnd.in-toto+json"}]},
            "unsupported media type",
        ),
        ({"config": None}, "expected media type, digest and size"),
        ({"config": {**BLOB, "mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "not that of an image"),
    ],
)
def test_a_forged_manifest_is_refused(changes: dict[str, Any], message: str) -> None:
    """A manifest of the wrong kind, or with descriptors that are none, is refused."""
    config = config_document()
    with pytest.raises(ImageError, match=message):
        oci.read_image(manifest_document(config, **changes), config, oci.MANIFEST)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"os": "windows"}, "is for windows/amd64"),
        ({"rootfs": None}, "1 layers and 0 diff_ids"),
        ({"rootfs": {"diff_ids": ["x"]}}, "invalid sha256 digest"),
        ({"rootfs": {"diff_ids": [1]}}, "not a list of strings"),
        ({"config": []}, "config is not an object"),
        ({"config": {"Env": "PATH=/"}}, "Env is not a list"),
        ({"config": {"Cmd": [["sh"]]}}, "not a list of strings"),
        ({"config": {"Labels": {"a": 1}}}, "Labels is not an object of strings"),
        ({"config": {"User": 0}}, "User is not a string"),
        ({"history": "no"}, "history is not a list"),
    ],
)
def test_a_forged_configuration_is_refused(changes: dict[str, Any], message: str) -> None:
    """A configuration with values of the wrong type is refused, not guessed at."""
    config = config_document(**changes)
    with pytest.raises(ImageError, match=message):
        oci.read_image(manifest_document(config), config)


def test_a_configuration_is_checked_by_digest_and_size() -> None:
    """A configuration that is not the one the manifest means is refused."""
    config = config_document()
    manifest = manifest_document(config)
    with pytest.raises(ImageError, match="instead of the expected"):
        oci.read_image(manifest, config + b" ")
    with pytest.raises(ImageError, match="has the digest"):
        oci.read_image(manifest, config.replace(b"amd64", b"arm64"))


def test_a_history_that_does_not_fit_is_left_out() -> None:
    """Where history and layers do not go together, the layers have no history, and later ones can."""
    config = config_document(history=[{"created_by": "a"}, {"created_by": "b"}])
    assert oci.read_image(manifest_document(config), config).history == (oci.HistoryEntry(),)


def test_an_index_is_read() -> None:
    """The entries of an index have their platform and annotations; a forged one is refused."""
    entry = {**BLOB, "mediaType": oci.MANIFEST, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
    data = json.dumps({"schemaVersion": 2, "manifests": [{**entry, "annotations": {"a": "b"}}]}).encode()
    (found,) = oci.read_index(data, oci.INDEX)
    assert (found.platform, found.annotations) == (Platform("linux", "arm", "v7"), {"a": "b"})
    both = json.dumps({"schemaVersion": 2, "manifests": [], "layers": []}).encode()
    with pytest.raises(ImageError, match="must have manifests, and no fields"):
        oci.read_index(both)
