"""Attacks by a file of `cache import`, and by a layer in it: forged results, paths, sizes and versions."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers import run
from nbcontainer.containers.cached.outputs import ReplayedOutput
from nbcontainer.containers.cached.transfer import export_results, import_results
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.options import run_options
from nbcontainer.errors import NbcontainerError
from nbcontainer.notebook.shown_data import CellOutput
from nbcontainer.oci.descriptors import digest_of
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.store.cache_entries import FILE, SHOWN, STDOUT, Cache, Entry, Event
from nbcontainer.values.exchange import Exchange
from nbcontainer.values.show import bundles
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

GOOD = Entry("a" * 64, "b" * 32, "", "2026-01-01T00:00:00Z", "x", Outcome(Reason.EXITED, 0), (Event(STDOUT, b"said"),))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Engine]:
    """An engine on the module's own store."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(tmp_path_factory.mktemp("cache") / "store")
    yield engine
    engine.close()


def written(path: Path, *results: tuple[bytes, Any, bytes], first: str = "nbcontainer cache 1\n") -> Path:
    """Writes a file of results: each with its bytes, what it says of its layer, and the bytes of that."""
    with path.open("wb") as file:
        file.write(first.encode())
        for data, layer, tar in results:
            file.write(json.dumps({"key": "a" * 64, "size": len(data), "layer": layer}).encode() + b"\n" + data + tar)
    return path


def refused(engine: Engine, path: Path) -> str:
    """The one line with which an import fails, after which the store has no result and no leftovers."""
    before = {one.name for one in (engine.store.path / "layers").iterdir()}
    with pytest.raises(NbcontainerError) as caught:
        import_results(engine, path)
    assert Cache(engine.store.path).names() == []
    assert {one.name for one in (engine.store.path / "layers").iterdir()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(**values: Any) -> bytes:
    """The bytes of a result with other values in its first line."""
    head, _, body = GOOD.to_bytes().partition(b"\n")
    return json.dumps({**json.loads(head), **values}).encode() + b"\n" + body


@pytest.mark.parametrize(
    "values",
    [
        {"outcome": {**GOOD.outcome.as_dict(), "exit_code": 1}},
        {"outcome": {**GOOD.outcome.as_dict(), "wall_time": float("inf")}},
        {"outcome": {**GOOD.outcome.as_dict(), "peak_memory": 10**400}},
        {"outcome": {"reason": "exited"}},
        {"key": "../../../../tmp/escaped"},
        {"layer": "../../../etc"},
        {"layer": "sha256"},
        {"layer": ["x"]},
        {"result": "../x"},
        {"events": [["out", "", -4], ["out", "", 8]]},
        {"events": [["out", "", 1 << 60]]},
        {"events": [["run", "", 4]]},
        {"digest": "0" * 64},
        {"created": "\x1b[31m"},
        {"names": [5]},
        {"version": 2},
        {"boot": None},
    ],
    ids=str,
)
def test_a_forged_result_is_refused(opened: Engine, tmp_path: Path, values: dict[str, Any]) -> None:
    """Its outcome, its key, its parts, its names and its version are checked. A name of a layer in it is not used."""
    data = changed(**values)
    path = written(tmp_path / "file", (data, None, b""))
    if values == {"layer": "sha256"}:
        assert import_results(opened, path).count == 1
        entry = Cache(opened.store.path).read("a" * 64)
        assert entry is not None
        assert (entry.layer, entry.imported) == ("", True)
        Cache(opened.store.path).remove("a" * 64)
    else:
        assert str(path) in refused(opened, path)


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, -1, 1 << 70, 5.0, "9"])
def test_a_huge_size_takes_no_space(opened: Engine, tmp_path: Path, size: Any) -> None:
    """It is compared with the file before anything is read."""
    layer = {"diff_id": "sha256:" + "0" * 64, "size": size}
    line = refused(opened, written(tmp_path / "layer", (GOOD.to_bytes(), layer, b"x")))
    assert "it is cut off" in line or "a size in it is wrong" in line
    head = json.dumps({"key": "a" * 64, "size": size, "layer": None}).encode()
    (tmp_path / "result").write_bytes(b"nbcontainer cache 1\n" + head + b"\n")
    refused(opened, tmp_path / "result")


def tar_of(*members: tarfile.TarInfo) -> bytes:
    """An uncompressed tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 1) -> tarfile.TarInfo:
    """A member of a tar."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, size if kind == tarfile.REGTYPE else 0
    return found


def test_a_layer_leads_nowhere(opened: Engine, tmp_path: Path) -> None:
    """It is unpacked in a sandbox, like that of an image: no path and no link in it leaves it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = (
        tar_of(member("../escaped")),
        tar_of(member("link", tarfile.SYMTYPE, str(outside)), member("link/escaped")),
        tar_of(member("hard", tarfile.LNKTYPE, "/etc/passwd")),
    )
    for tar in hostile:
        layer = {"diff_id": digest_of(tar), "size": len(tar)}
        path = written(tmp_path / "file", (GOOD.to_bytes(), layer, tar))
        with contextlib.suppress(NbcontainerError):
            import_results(opened, path)
        Cache(opened.store.path).remove("a" * 64)
        assert list(outside.iterdir()) == []
        assert not list(opened.store.path.glob("escaped")) + list(opened.store.path.glob("*/escaped"))


def test_a_layer_that_is_not_the_named_one_is_refused(opened: Engine, tmp_path: Path) -> None:
    """Its digest is compared, and nothing of the results before it is added."""
    tar = tar_of(member("file"))
    layer = {"diff_id": "sha256:" + "0" * 64, "size": len(tar)}
    path = written(tmp_path / "file", (GOOD.to_bytes(), None, b""), (GOOD.to_bytes(), layer, tar))
    assert "a layer in it is not the one of its digest" in refused(opened, path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is not an exported cache"),
        (b"PK\3\4 zip", "it is not an exported cache"),
        (b"nbcontainer cache 2\n{}", "another version of nbcontainer wrote it ('2', not 1)"),
        (b"nbcontainer cache 1\n{", "it is damaged"),
        (b"nbcontainer cache 1\n" + b"[" * 3000 + b"\n", "it is damaged"),
        (b"nbcontainer cache 1\n" + b"x" * 100_000, "it is damaged"),
    ],
    ids=["empty", "zip", "version", "cut", "deep", "long"],
)
def test_other_files_are_refused(opened: Engine, tmp_path: Path, content: bytes, why: str) -> None:
    """One line says why, and what to do."""
    (tmp_path / "file").write_bytes(content)
    line = refused(opened, tmp_path / "file")
    assert why in line
    assert "cache export FILE" in line


def test_displays_of_an_import_are_inert_although_the_cell_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--trust-output` trusts what the user's own cell shows, and not what another store says that it showed."""
    from nbcontainer.containers.cached.recording import replay

    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, **_: shown.append(bundle))
    event = Event(SHOWN, b"<script>x()</script><b>bold</b>", "text/html")
    for trust in (True, False):
        output = CellOutput(lambda _: None, lambda _: None, trust=True)
        replay((event,), Streams(lambda _: None, lambda _: None, display=output), trust=trust)
    assert "<script>x()" in str(shown[0])
    assert "<script>x()" not in str(shown[1])
    assert "sandbox" in str(shown[1]) or "<script" not in str(shown[1])


@pytest.mark.parametrize(
    "path", ["../escaped", "/tmp/escaped", "a/../../escaped", "", ".", "a//b", "a\0b", "..", "../"]
)
def test_a_file_of_a_result_leads_nowhere(opened: Engine, tmp_path: Path, path: str) -> None:
    """A forged result whose files of `/out` would be elsewhere is refused as a whole."""
    forged = replace(GOOD, events=(Event(FILE, b"x", path),))
    assert "the path of a file is not one in /out" in refused(
        opened, written(tmp_path / "f", (forged.to_bytes(), None, b""))
    )


@pytest.mark.parametrize("second", ["a/b", "a", f"{'n' * 300}", "a/"])
def test_files_of_a_result_that_cannot_be_made_are_a_miss(opened: Engine, second: str) -> None:
    """Two files of one path, a file in a file, or a name that is too long: nothing is replayed, and nothing is left."""
    before = sorted((opened.store.path / "tmp").iterdir())
    with pytest.raises(OSError, match=r"."):
        ReplayedOutput(opened.store, (Event(FILE, b"x", "a"), Event(FILE, b"y", second)))
    assert sorted((opened.store.path / "tmp").iterdir()) == before


def test_shown_files_of_an_import_are_inert_although_the_cell_is_trusted() -> None:
    """`--show --trust-output` shows the files of the user's own result as they are, and not those of an import."""
    for trusted in (True, False):
        with tempfile.TemporaryDirectory() as place, Exchange({}, output=True) as exchange:
            (Path(place) / "page.html").write_text("<script>x()</script><b>bold</b>")
            exchange.replay(os.open(place, os.O_RDONLY), lambda: None, trusted=trusted)
            assert ("<script>x()" in str(list(bundles(exchange, trust=True)))) is trusted


def test_an_import_takes_the_place_of_no_result_of_the_store(opened: Engine, tmp_path: Path) -> None:
    """A forged result for a key that the store has is left out; for another key it is marked as imported."""
    options = run_options({"cache": "on"})
    seen: list[bytes] = []
    said: list[str] = []

    def ask() -> None:
        streams = Streams(seen.append, seen.append, on_cached=said.append)
        assert run.run(opened, Request("busybox", script="echo own; echo > /made", options=options), streams)[1].ok

    ask()
    path = tmp_path / "file"
    assert export_results(opened, path).count == 1
    cache = Cache(opened.store.path)
    ((key, own),) = cache.entries()
    assert isinstance(own, Entry)
    forged = replace(own, events=(Event(STDOUT, b"forged\n"),), layer="", boot="").to_bytes()
    head = json.dumps({"key": key, "size": len(forged), "layer": None}).encode()
    (tmp_path / "forged").write_bytes(b"nbcontainer cache 1\n" + head + b"\n" + forged)
    assert import_results(opened, tmp_path / "forged").count == 0
    ask()
    assert seen == [b"own\n", b"own\n"]
    opened.background.wait()  # it brings the result to disk, and writes its entry again
    cache.remove(key)
    assert import_results(opened, path).count == 1
    ask()
    assert seen[2:] == [b"own\n"]
    assert said[-1].endswith(", imported")
    last = opened.last
    assert last is not None
    assert len(last.layers) == 2
    cache.remove(key)
