"""Files that others wrote, changed at random: only this package's errors come out, on one line."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbcontainer.containers.record import RECORD, read_record
from nbcontainer.errors import NbcontainerError
from nbcontainer.images.archives.docker_archive import DockerArchive, is_docker_archive
from nbcontainer.images.archives.old_docker_archive import OldDockerArchive, is_old_docker_archive
from nbcontainer.images.archives.untrusted_directory import UntrustedDirectory
from nbcontainer.images.registry import credentials, endpoints
from nbcontainer.notebook.kernel.specs import kernelspec
from nbcontainer.notebook.kernel.specs.label import KernelLabel, read_label
from nbcontainer.oci import reference
from tests.fuzzing import examples
from tests.unit.images import tars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.store.layout import Store

FEW = examples(60)

TEXT = st.text(st.characters(codec=None, categories=None), max_size=12) | st.sampled_from(
    ["\ud800", "\0", "../..", "a\nb", "sha256:" + "0" * 64, "l1", "l2", "9" * 5000, "localhost:5000/a", "*.b", "\u00b2"]
)
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT


def json_of(keys: str) -> st.SearchStrategy[Any]:
    """JSON values whose objects often have these keys."""
    known = st.sampled_from(keys.split())
    return st.recursive(
        LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known | TEXT, inner, max_size=4), max_leaves=8
    )


def quiet(do: Callable[[], Any]) -> Any:
    """Does something: its result, or None after one of this package's errors, whose message is one line."""
    try:
        return do()
    except NbcontainerError as error:
        message = str(error)
    assert message.isprintable(), message
    return None


def file(folder: Path, name: str, data: bytes) -> Path:
    """Writes a file below a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


AUTHS = json_of("auths auth identitytoken username password credHelpers credsStore docker.io localhost:5000")


@FEW
@given(document=AUTHS | st.fixed_dictionaries({"auths": st.dictionaries(st.just("localhost:5000"), AUTHS)}))
@example(document={"auths": {"localhost:5000": {"auth": base64.b64encode(b"a:\xff").decode()}}})
@example(document={"auths": {"localhost:5000": {"identitytoken": "a\r\nX: y"}}})
@example(document={"auths": {"localhost:5000": {"username": "a\nb", "password": "\r"}}})
def test_any_file_of_credentials(tmp_path: Path, document: Any) -> None:
    """auth.json and config.json; what is found can be sent in a header and in a form."""
    path = file(tmp_path, "auth.json", json.dumps(document).encode())
    found = quiet(lambda: credentials.find("localhost:5000", "a/b", [path]))
    if found is not None:
        assert found.basic.isprintable()
        assert found.identity.encode().isascii() or found.identity


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"{", b"null", b"[]", b'"' + b"a" * 5_000_000])
def test_a_file_of_credentials_that_is_none(tmp_path: Path, data: bytes) -> None:
    """Bytes that are not JSON, or too many of them, are one error that names the file."""
    path = file(tmp_path, "auth.json", data)
    with pytest.raises(NbcontainerError, match=r"cannot read .*auth\.json: "):
        credentials.find("localhost:5000", "a", [path])


@pytest.mark.parametrize(
    "answer",
    [b"\xff", b'{"Username": "\\ud800", "Secret": "s"}', b"[]", b'{"Username": "\\u0000", "Secret": "s"}', b"[" * 9999],
)
def test_any_answer_of_a_credential_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """A helper that prints something else than credentials is one error that names it."""
    helper = file(tmp_path, "docker-credential-odd", b"")
    helper.write_text(f"#!/bin/sh\ncat {file(tmp_path, 'answer', answer)}\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = file(tmp_path, "config.json", b'{"credsStore": "odd"}')
    with pytest.raises(NbcontainerError, match="docker-credential-odd printed no valid credentials"):
        credentials.find("localhost:5000", "a", [path])


RULES = json_of("prefix location mirror insecure blocked registry")


def toml(value: Any) -> str:
    """A TOML value, of a JSON one."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value) if value is not None else '""'


@FEW
@given(rule=st.dictionaries(st.sampled_from("prefix location mirror insecure blocked".split()), RULES))
@example(rule={"prefix": "docker.io", "mirror": 5})
@example(rule={"prefix": "docker.io", "mirror": [5, {"location": "\u00b2:\u00b2"}]})
def test_any_registries_conf(tmp_path: Path, rule: dict[str, Any]) -> None:
    """registries.conf, with any rule for a registry."""
    text = f"registry = [{toml({'prefix': 'docker.io', **rule})}]"
    path = file(tmp_path, "registries.conf", text.encode("utf-8", "surrogatepass"))
    quiet(lambda: endpoints.endpoints(reference.parse("docker.io/library/a"), [path]))


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "\ud800", "registry = 5", "registry = [[[]]]", "=", "a = 1e999"])
def test_a_registries_conf_that_is_none(tmp_path: Path, text: str) -> None:
    """Text that is not TOML, or nested too deeply, is one error."""
    path = file(tmp_path, "registries.conf", text.encode("utf-8", "surrogatepass"))
    quiet(lambda: endpoints.endpoints(reference.parse("docker.io/library/a"), [path]))


LAYER = tars.archive(tars.entry(b"f", b"x"))
OF_ARCHIVES = json_of("l1 l2 id parent Config Layers RepoTags config rootfs os architecture created container_config")


def read_archive(folder: Path) -> None:
    """Reads the archive in a folder as `load` does: its form, and its images."""
    directory = UntrustedDirectory(folder)

    def decompress(_fd: int) -> Any:
        raise AssertionError("no layer is compressed")

    try:
        for is_one, kind in ((is_docker_archive, DockerArchive), (is_old_docker_archive, OldDockerArchive)):
            if is_one(directory):
                quiet(kind(directory, decompress).candidates)
    finally:
        directory.close()


@FEW
@given(top=OF_ARCHIVES, inner=OF_ARCHIVES, manifest=OF_ARCHIVES)
@example(top={"a": {"latest": "l1"}}, inner={"id": "l1", "parent": "l1"}, manifest=None)
@example(top={"a": {"latest": "../l1"}}, inner={"parent": "x" * 300}, manifest=None)
@example(top={"a": {"latest": "l1"}}, inner={"config": 5, "created": {}}, manifest=[{"Config": "l1", "Layers": ["l1"]}])
def test_any_archive_of_docker(tmp_path_factory: pytest.TempPathFactory, top: Any, inner: Any, manifest: Any) -> None:
    """`docker save`, of before 1.10 and of today, with any documents."""
    folder = tmp_path_factory.mktemp("archive")
    for layer in ("l1", "l2"):
        file(folder, f"{layer}/json", json.dumps(inner).encode())
        file(folder, f"{layer}/layer.tar", LAYER)
    file(folder, "repositories", json.dumps(top).encode())
    if manifest is not None:
        file(folder, "manifest.json", json.dumps(manifest).encode())
    read_archive(folder)


RECORDS = json_of("name image image_digest base created session cells labels layer command outcome reason volumes")
CELL = {
    "layer": "l", "command": "c", "created": "2026-01-01T00:00:00Z", "outcome": {"reason": "exited", "exit_code": 0}
}  # fmt: skip
STATE = {"number": 1, "parent": "", "under": "", "layers": ["l"], "depth": 1, "height": 1, "losses": 0, "cell": CELL}
GOOD: dict[str, Any] = {
    "name": "a",
    "image": "i",
    "image_digest": "d",
    "base": ["l"],
    "created": "2026-01-01T00:00:00Z",
    "session": "",
    "labels": {},
}


@FEW
@given(
    changes=st.dictionaries(st.sampled_from([*sorted(GOOD), "journal"]), RECORDS),
    state=st.dictionaries(st.sampled_from(sorted(STATE)), RECORDS),
    cell=st.dictionaries(st.sampled_from(sorted(CELL)), RECORDS),
    old=st.booleans(),
)
@example(changes={"base": [5]}, state={}, cell={}, old=False)
@example(changes={"created": 5}, state={}, cell={}, old=True)
@example(changes={"labels": {"a": 5}}, state={}, cell={}, old=False)
@example(changes={"journal": ".."}, state={}, cell={}, old=False)
@example(changes={}, state={"height": float("inf")}, cell={}, old=False)
@example(changes={}, state={"parent": "j/1"}, cell={}, old=False)
@example(changes={}, state={}, cell={"layer": None}, old=False)
@example(changes={}, state={}, cell={"outcome": {"reason": "exited", "exit_code": "x"}}, old=True)
def test_any_record_of_a_container(
    tmp_path: Path, changes: dict[str, Any], state: dict[str, Any], cell: dict[str, Any], old: bool
) -> None:
    """A record and its journal, of this version or an older one, are read with the right types, or are damaged."""
    cells = {"cells": [{**CELL, **cell}]} if old else {"journal": "j"}
    place = file(tmp_path, f"containers/a/{RECORD}", json.dumps({**GOOD, **cells, **changes}).encode()).parent
    file(tmp_path, "journals/j", json.dumps({**STATE, "cell": {**CELL, **cell}, **state}).encode() + b"\n")
    if (record := quiet(lambda: read_record(place))) is None:
        return
    texts = (record.name, record.image, record.created, record.session, *record.base, *record.labels.values())
    assert all(isinstance(text, str) for text in texts)
    if record.last is not None:
        assert record.last.layer + record.last.outcome.describe() + record.last.command + record.last.created


ENTRIES = json_of("mediaType digest size annotations org.opencontainers.image.ref.name platform os architecture")


@FEW
@given(entries=ENTRIES | st.lists(ENTRIES, max_size=3))
@example(entries={})
@example(entries=5)
@example(entries=[{"annotations": {"org.opencontainers.image.ref.name": 5}}])
@example(entries=[{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": 5, "size": "x"}])
def test_any_index_of_the_store(store: Store, entries: Any) -> None:
    """index.json of the store, with any entries: images that cannot be read are damaged."""
    (store.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    quiet(lambda: store.index.catalog().damaged)
    quiet(lambda: store.index.image("a"))


LABELS = json_of("argv language interrupt_mode shell env display_name metadata")


@FEW
@given(changes=st.dictionaries(st.sampled_from("argv language interrupt_mode shell".split()), LABELS))
@example(changes={"language": "x" * 4000})
@example(changes={"language": "../../x"})
@example(changes={"language": "<script>"})
@example(changes={"argv": ["{connection_file}", "a\u202eb"]})
def test_any_label_of_a_kernel(changes: dict[str, Any]) -> None:
    """A label that is accepted has printable arguments, a plain language, and nothing else."""
    good = {"argv": ["p", "{connection_file}"], "language": "python"}
    label = quiet(lambda: read_label(json.dumps({**good, **changes})))
    if isinstance(label, KernelLabel):
        assert all(word.isprintable() for word in label.argv)
        assert label.language.isprintable()
        assert not set(label.language) & set("/<>&\"'{}\\")
        assert len(label.language) <= 64
        document = kernelspec.document_labelled(json.dumps(good | changes), ["busybox"], "t", notebooks="", store="")
        assert set(document) == {"argv", "display_name", "language", "interrupt_mode", "metadata"}


@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning")
@FEW
@given(document=json_of("argv display_name language metadata kernel_provisioner provisioner_name config run env"))
@example(document={"argv": [], "metadata": {"kernel_provisioner": {"provisioner_name": "nbcontainer"}}})
@example(document={"argv": 5})
@example(document={"argv": [None]})
def test_any_kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: Any) -> None:
    """A kernel.json that others wrote is listed, or left out; it ends no command."""
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "own"))
    file(tmp_path, "kernels/odd/kernel.json", json.dumps(document).encode())
    quiet(kernelspec.installed)
    quiet(lambda: kernelspec.document_inside("odd", ["busybox"], "t"))
