"""Fuzzing every parser of text that a file or a registry states: only this package's errors come out, on one line."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbcontainer.errors import ImageError, NbcontainerError
from nbcontainer.images.layers.compression import unsupported_format
from nbcontainer.images.registry import challenge, urls
from nbcontainer.images.registry.client import _message, _token_in
from nbcontainer.images.registry.endpoints import is_loopback
from nbcontainer.oci import descriptors, names, platforms, reference, untrusted_json
from nbcontainer.oci import documents as oci
from nbcontainer.sandbox.userns import idmap
from tests.fuzzing import examples
from tests.unit.images.image_files import CONFIG, LAYER, MANIFEST, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = st.text(st.characters(codec=None, categories=None), max_size=30) | st.sampled_from(
    ["\ud800", "\0", "\u00b2", "sha256:" + "0" * 64, "9" * 5000, "../..", "application/octet-stream", "http://[::1"]
)
NUMBER = st.integers() | st.floats() | st.sampled_from([2**63, -1, 10**30])
LEAF = st.none() | st.booleans() | NUMBER | TEXT
KEYS = st.sampled_from(
    "mediaType digest size config layers manifests schemaVersion annotations platform os architecture variant rootfs "
    "diff_ids history created created_by empty_layer Env Cmd Entrypoint WorkingDir User Labels Volumes ExposedPorts "
    "OnBuild StopSignal Shell artifactType errors code message token expires_in".split()
)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=5))

DIFF_ID = sha256(b"tar")


def quiet(parse: Callable[..., Any], *arguments: Any) -> None:
    """Calls a parser: it returns, or raises one of this package's errors, whose message is one line."""
    raised = None
    try:
        parse(*arguments)
    except NbcontainerError as error:
        raised = error
    assert str(raised).isprintable()


def encoded(document: Any) -> bytes:
    """JSON of a document, with escapes for all that is not ASCII, as a hostile file can have it."""
    return json.dumps(document).encode()


@examples(150)
@given(JSON)
def test_any_document(document: Any) -> None:
    """Any JSON in the place of an index, a manifest, a configuration, a token or an error."""
    data = encoded(document)
    quiet(oci.read_index, data)
    quiet(oci.read_manifest, data)
    quiet(_token_in, data)
    _message(data)
    quiet(read_config, document)


@examples(150)
@given(st.dictionaries(KEYS, JSON, max_size=4), st.dictionaries(KEYS, JSON, max_size=4))
def test_any_change_of_a_good_document(top: dict[str, Any], inner: dict[str, Any]) -> None:
    """A manifest and a configuration that are right but for some fields."""
    blob = {"mediaType": LAYER, "digest": DIFF_ID, "size": 3}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**blob, "mediaType": CONFIG}, "layers": [blob]}
    quiet(oci.read_manifest, encoded(manifest | top))
    index = {"schemaVersion": 2, "manifests": [{**blob, "mediaType": MANIFEST, **top, "platform": inner}]}
    quiet(oci.read_index, encoded(index))
    quiet(read_config, {"os": "linux", "rootfs": {"diff_ids": [DIFF_ID]}, "config": inner, **top})


def read_config(document: Any) -> None:
    """Reads a document as the configuration of an image with one layer, and uses what was read."""
    config = encoded(document)
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": CONFIG, "digest": sha256(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": DIFF_ID, "size": 3}],
    }
    image = oci.read_image(encoded(manifest), config)
    assert image.config_document().decode()
    for word in (*image.config.env, *image.config.cmd, image.config.user, image.created, str(image.platform)):
        assert b"\0" not in word.encode()


@examples(150)
@given(TEXT, TEXT)
@example("http://[::1", "//[")
@example("http://host", "http://h:\u00b2/")
def test_any_text(text: str, other: str) -> None:
    """Any text in the place of a name, a number, a URL or a challenge."""
    quiet(urls.split, text)
    quiet(urls.join, "http://host/v2/", text)
    quiet(reference.parse, text)
    quiet(platforms.parse, text)
    quiet(descriptors.check_digest, text)
    quiet(names.check, (text,), DIFF_ID)
    untrusted_json.number(text)
    challenge.choose(f'Bearer realm="{text}", {other}')
    is_loopback(text)
    unsupported_format(text.encode("utf-8", "surrogatepass"))


@examples(80)
@given(st.text(string.digits + "\u00b2\u0663:x\n", max_size=40) | st.just("1:" + "9" * 5000 + ":1"))
def test_any_table_of_ids(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Any text in /etc/subuid."""
    file = table(tmp_path_factory)
    file.write_text(f"1000:{text}\n{text}\n")
    idmap.granted(file, 1000)


def table(factory: pytest.TempPathFactory) -> Path:
    """One file for all examples."""
    return factory.getbasetemp() / "subuid"


@pytest.mark.parametrize("bad", ["\ud800", "a\0b", "\udfff\ud800"])
@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("config", "Env", 0), "config.Env[0]"),
        (("config", "Labels", "key"), "config.Labels.key"),
        (("created",), "created"),
        (("history", 0, "created_by"), "history[0].created_by"),
    ],
)
def test_the_error_says_where_the_text_is_bad(bad: str, path: tuple[str | int, ...], place: str) -> None:
    """A lone surrogate or a zero byte in a field of an image is an error that names the field."""
    value: Any = bad
    for key in reversed(path):
        value = [value] if isinstance(key, int) else {key: value}
    with pytest.raises(ImageError, match=place.replace("[", r"\[").replace("]", r"\]") + " has a (lone|zero)"):
        untrusted_json.parse(encoded(value), "the configuration")
    with pytest.raises(ImageError, match="a key of config"):
        untrusted_json.parse(encoded({"config": {bad: 1}}), "the configuration")


def test_pairs_of_surrogates_are_text() -> None:
    """An escaped character beyond the first plane is a character."""
    assert untrusted_json.parse(b'{"a": "\\ud83d\\ude00"}', "it") == {"a": "\U0001f600"}
