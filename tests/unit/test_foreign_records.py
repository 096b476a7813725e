"""Records, logs, tables and messages of containers, crashes and other versions: only this package's errors come out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import nbcontainer
from nbcontainer.containers import named_volumes
from nbcontainer.containers.active import ActiveCell
from nbcontainer.containers.cached.transfer import import_results
from nbcontainer.containers.cow import attaching
from nbcontainer.containers.history import isolation
from nbcontainer.containers.history.flats import FLATS, Flats
from nbcontainer.containers.jobs.log import FORM
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.images.builtin import host
from nbcontainer.images.cow import recovering, staging_area
from nbcontainer.linux.procfs import read_mounts, unreached_in
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.display_channel import DisplayChannel
from nbcontainer.sandbox.network.private import resolver_text
from nbcontainer.sandbox.steps.exchange.display import CHANNEL, SHOWN
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.store import cache_entries, ended_jobs
from nbcontainer.values.inert import bundle
from tests.unit.test_foreign_files import FEW, TEXT, file, json_of, quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.sandbox.display_channel import DisplayListener
    from nbcontainer.store.layout import Store


def encoded(document: Any) -> bytes:
    """JSON of a document."""
    return json.dumps(document).encode()


KEY = "0" * 64
HEADS = json_of("version key result layer created command outcome events names imported boot digest reason exit_code")
HEAD: dict[str, Any] = {
    "version": cache_entries.VERSION,
    "key": KEY,
    "result": "1" * 32,
    "layer": "",
    "created": "2026-01-01T00:00:00Z",
    "command": "c",
    "outcome": {"reason": "exited", "exit_code": 0},
    "events": [],
    "names": [],
    "imported": False,
    "boot": "",
}


def entry(changes: dict[str, Any], body: bytes) -> bytes:
    """An entry of the cache with these changes; its digest is right, so that all of it is read."""
    return json.dumps({**HEAD, "digest": hashlib.sha256(body).hexdigest(), **changes}).encode() + b"\n" + body


CHANGES = st.dictionaries(st.sampled_from([*sorted(HEAD), "digest"]), HEADS)


def test_the_seed_is_good() -> None:
    """What is changed below is a good entry to begin with."""
    assert cache_entries.parse(KEY, entry({}, b"")).result == "1" * 32


@FEW
@given(changes=CHANGES, body=st.binary(max_size=20))
@example(changes={"events": [["out", "", 5]]}, body=b"")
@example(changes={"outcome": {"reason": "exited", "exit_code": float("nan")}}, body=b"")
@example(changes={"names": 5}, body=b"")
@example(changes={"names": ["\ud800"], "command": "\ud800"}, body=b"")
def test_any_cached_result(changes: dict[str, Any], body: bytes) -> None:
    """A result in the store is read with the right types, or is bad."""
    found = None
    with contextlib.suppress(cache_entries.BadEntry):
        found = cache_entries.parse(KEY, entry(changes, body))
    if found is not None:
        assert all(isinstance(text, str) for text in (found.command, found.created, found.layer, *found.names))


@FEW
@given(head=json_of("key size layer diff_id") | st.binary(max_size=30), changes=CHANGES, rest=st.binary(max_size=30))
@example(head={"key": KEY, "size": 10**30, "layer": None}, changes={}, rest=b"")
@example(head={"key": KEY, "size": True, "layer": None}, changes={}, rest=b"")
@example(head={"key": [], "size": 5, "layer": "x"}, changes={}, rest=b"")
@example(head=b"[" * 100_000, changes={}, rest=b"")
@example(head=b"\xff", changes={}, rest=b"")
def test_any_exported_cache(store: Store, tmp_path: Path, head: Any, changes: dict[str, Any], rest: bytes) -> None:
    """`cache import` of any file is one line; nothing is added by a file that ends before its results do."""
    data = entry(changes, b"")
    if isinstance(head, dict):
        head = {"key": KEY, "size": len(data), "layer": None, **head}
    line = head if isinstance(head, bytes) else json.dumps(head).encode()
    path = file(tmp_path, "results.cache", b"nbcontainer cache 1\n" + line + b"\n" + data + rest)
    quiet(lambda: import_results(cast("Workspace", SimpleNamespace(store=store)), path))


NUMBERS = st.integers().map(str) | TEXT


@FEW
@given(fields=st.lists(NUMBERS, max_size=5), output=st.binary(max_size=40), before=st.integers(0, 3))
@example(fields=["1", "1", "o", "-9"], output=b"", before=1)
@example(fields=["1", "1", "o", "\u00b2"], output=b"", before=0)
@example(fields=["1", "1", "x", "2"], output=b"[]", before=1)
@example(fields=["1", "1", "x", "4"], output=b"null", before=0)
@example(fields=["\0" * 100], output=b"", before=2)
def test_any_log_of_a_job(tmp_path: Path, fields: list[str], output: bytes, before: int) -> None:
    """A log that a crash left is read as far as it is whole, and ends with one line."""
    whole = b"".join(b"%d 5 o 3\nabc" % number for number in range(1, before + 1))
    record = " ".join(fields).encode("utf-8", "surrogatepass") + b"\n" + output
    path = file(tmp_path, "log", f"{FORM}\n".encode() + whole + record)
    found: list[bytes] = []

    def read() -> None:
        with LogReader(path) as log:
            found.extend(record.data for record in log.records())

    quiet(read)
    assert found[:before] == [b"abc"] * before


@FEW
@given(lines=st.lists(json_of("notebook jobs killed") | TEXT, max_size=4), state=json_of("running notebook log"))
@example(lines=[], state={"running": {"a": {"log": 5, "notebook": []}}})
def test_any_list_of_ended_jobs(store: Store, lines: list[Any], state: Any) -> None:
    """Lines that are not understood are left out; what is shown of the others is one line."""
    text = "\n".join([*map(json.dumps, lines), "[" * 100_000])
    (store.path / ended_jobs.FILE).write_text(text)
    for found in (*ended_jobs.take(store, ""), *ended_jobs._jobs_of(state)):
        assert str(found).isprintable()


CELL = ActiveCell(1, "b", "i", "d", "2026", "c", "u", ("l",)).to_json()


@FEW
@given(changes=st.dictionaries(st.sampled_from(sorted(CELL)), json_of("pid born ports labels")))
@example(changes={"pid": True})
@example(changes={"stop": 10**30})
@example(changes={"network": "\ud800"})
def test_any_state_of_a_session(changes: dict[str, Any]) -> None:
    """What another process says about a cell that runs is read, or is not a cell."""
    found = ActiveCell.from_json({**CELL, **changes})
    assert found is None or isinstance(found.alive, bool)


LINES = st.lists(TEXT | st.lists(TEXT | NUMBERS, max_size=8).map(":".join), max_size=6).map("\n".join)


@FEW
@given(user=TEXT, passwd=LINES, group=LINES, more=TEXT)
@example(user="a", passwd="a:x:99999999999999999999:0::/:", group="", more="0")
@example(user="a", passwd="a:x:\u00b2:0::/:\na:x:5:5::/:", group="", more="0")
def test_any_passwd_and_group(user: str, passwd: str, group: str, more: str) -> None:
    """An image's tables give an id that setresuid(2) takes, or a failure of the step, for which it has advice."""
    kernel = RecordingKernel(read_text={"/etc/passwd": passwd, "/etc/group": group}.__getitem__)
    with contextlib.suppress(OSError):
        SetUser(user, groups=(more,)).apply(kernel, ())
        ((uid,),) = [made[1][:1] for made in kernel.calls if made[0] == "setresuid"]
        assert 0 <= uid < 2**32 - 1


@FEW
@given(text=LINES | st.lists(st.lists(NUMBERS | st.just("-"), max_size=12).map(" ".join), max_size=4).map("\n".join))
@example(text="9" * 5000 + " 1 0:1 / / rw - a b c")
@example(text="\u0663 1 0:1 / / rw - a b c")
@example(text="1 1 0:1 / /\\777 rw - a b c")
def test_any_table_of_the_kernel(tmp_path: Path, text: str) -> None:
    """Lines of mountinfo and counters that are not understood are left out; so are those of resolv.conf."""
    assert all(mount.number >= 0 for mount in read_mounts(text))
    assert all(number > 0 for number in unreached_in(text.encode("utf-8", "surrogatepass")).values())
    file(tmp_path, "resolv.conf", text.encode("utf-8", "surrogatepass"))
    assert resolver_text(Machine(proc=tmp_path, etc=tmp_path)).startswith("nameserver ")


class Page:
    """Receives what is shown."""

    def __init__(self) -> None:
        self.errors: list[bytes] = []

    def stderr(self, data: bytes) -> None:
        """Receive an error."""
        self.errors.append(data)

    def shown(self, mime: str, data: bytes) -> None:
        """Receive data."""

    def cleared(self, wait: bool) -> None:
        """Clear the page."""


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[DisplayChannel]:
    """The control directory of a container, with one file to show."""
    os.mkfifo(tmp_path / CHANNEL)
    file(tmp_path, f"{SHOWN}/file", b"x")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    opened = DisplayChannel(fd)
    yield opened
    opened.close()
    os.close(fd)


WORDS = st.sampled_from(["display", "clear", "text/plain", "file", "..", "\0", "file\0", "1", ""]) | TEXT


@FEW
@given(messages=st.lists(st.lists(WORDS, max_size=5).map(" ".join), max_size=4).map("\n".join))
@example(messages="display text/plain ..\0 file")
@example(messages="display text/plain file\0x file")
@example(messages="display text/plain " + "n" * 5000 + " file\n")
def test_any_message_of_a_display(channel: DisplayChannel, messages: str) -> None:
    """Each line of a container is shown, is an error on the page, or is nothing; it never ends the cell's output."""
    page = Page()
    for fields in channel.lines(messages.encode("utf-8", "surrogatepass") + b"\n"):
        channel.serve(fields, cast("DisplayListener", page))
    assert all(line.startswith(b"nbcontainer: cannot show ") and line.count(b"\n") == 1 for line in page.errors)
    assert stat.S_ISREG(os.stat("file", dir_fd=os.open(SHOWN, os.O_PATH, dir_fd=channel.directory)).st_mode)


FLAT = {"number": 1, "level": 1, "layer": "l", "under": ""}


@FEW
@given(changes=st.dictionaries(st.sampled_from(sorted(FLAT)), json_of("number level layer under")))
@example(changes={"number": float("inf")})
@example(changes={"under": 5})
def test_any_list_of_flattened_layers(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A line that cannot be read is left out: the layers that it stands for are there."""
    place = file(tmp_path, f"{FLATS}/j", json.dumps({**FLAT, **changes}).encode() + b"\n" + b"[" * 99_999 + b"\n")
    assert place.exists()
    assert all(isinstance(flat.number, int) for flat in Flats(tmp_path).all("j"))


DOCUMENTS = json_of("moves rights directories state confinement created labels layer")


@FEW
@given(
    document=st.binary(max_size=9)
    | DOCUMENTS
    | st.fixed_dictionaries({"directories": DOCUMENTS, "labels": DOCUMENTS, "created": TEXT})
)
@example(document={"directories": ["/a", 5]})
@example(document=b"[" * 99_999)
@example(document={"labels": {"a": {}}, "created": ""})
def test_any_small_file_of_the_store(store: Store, document: Any) -> None:
    """What is beside layers and volumes is read, is left out, or is one error that names it."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    workspace = cast("Workspace", SimpleNamespace(store=store))
    for name in (host.BESIDE, attaching.BESIDE, attaching.MOVED_BACK):
        file(store.path, f"layers/l/{name}", data)
    quiet(lambda: host.directories(store, "l"))
    assert attaching.read_notes(workspace, ["l"])
    attaching.read_moved_back(workspace, ["l"])
    file(store.path, "containers/c/isolation.json", data)
    isolation.read(store.path / "containers" / "c", None)
    file(store.path, "volumes/v/volume.json", data)
    quiet(lambda: named_volumes.get(workspace, "v"))
    assert quiet(lambda: named_volumes.list_all(workspace))


MOVES = json_of("moves merges times") | st.fixed_dictionaries(
    {
        "moves": st.lists(st.lists(TEXT | st.integers() | st.floats(), max_size=4), max_size=2),
        "merges": st.just([]) | json_of("user.a user.b"),
        "times": st.just([]) | st.lists(st.tuples(TEXT, st.integers() | st.floats()), max_size=2),
    }
)
_RIGHTS = [448, 0, 0, {"user.a": "00"}]


@FEW
@given(document=MOVES)
@example(document={"moves": [["a", float("inf"), 1]], "merges": [], "times": []})
@example(document={"moves": [], "merges": [["a", _RIGHTS, _RIGHTS, float("-inf")]], "times": []})
@example(document={"moves": [], "merges": [["a", _RIGHTS, [448, 0, 0, {"user.a": "no number"}], 1]], "times": []})
@example(document={"moves": [], "merges": [["a", _RIGHTS, [448, 0, 0, ["user.a"]], 1]], "times": [["a", 1]]})
def test_any_log_of_an_application(tmp_path: Path, document: Any) -> None:
    """The log that a killed `apply` left beside a volume is used whole or not at all."""
    file(tmp_path, os.fsdecode(staging_area.LOG), json.dumps(document).encode())
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    log = recovering._read(fd)
    os.close(fd)
    if log is not None:
        assert all(isinstance(path, bytes) for path, *_ in (*log.moves, *log.merges, *log.times))


_FUZZED = {
    "containers/cached/transfer.py": "test_any_exported_cache",
    "containers/cow/attaching.py": "test_any_small_file_of_the_store",
    "containers/history/flats.py": "test_any_list_of_flattened_layers",
    "containers/history/isolation.py": "test_any_small_file_of_the_store",
    "containers/history/state.py": "test_any_record_of_a_container",
    "containers/jobs/log_reader.py": "test_any_log_of_a_job",
    "containers/named_volumes.py": "test_any_small_file_of_the_store",
    "containers/record.py": "test_any_record_of_a_container",
    "images/builtin/host.py": "test_any_small_file_of_the_store",
    "images/cow/recovering.py": "test_any_log_of_an_application",
    "images/registry/endpoints.py": "test_any_registries_conf",
    "notebook/kernel/specs/kernelspec.py": "test_any_kernelspec",
    "notebook/kernel/specs/label.py": "test_any_label_of_a_kernel",
    "oci/config_changes.py": "test_a_change",
    "oci/health.py": "test_a_change",
    "oci/untrusted_json.py": "test_any_document",
    "store/cache_entries.py": "test_any_cached_result",
    "store/ended_jobs.py": "test_any_list_of_ended_jobs",
    "store/index.py": "test_any_index_of_the_store",
    "store/sessions.py": "test_any_state_of_a_session",
    "values/inert.py": "test_any_shown_data",
    "values/plain.py": "test_a_file_of_any_content_is_a_value_or_a_value_error",
}
"""The test that gives each module that parses JSON or TOML any text."""

_OWN = {
    "containers/live/scripts/driver.py": "the notebook sends it, to a process of the container",
    "images/layers/decoder.py": "a process of this package in the sandbox sends it",
    "images/library.py": "documents that were checked when they came into the store",
    "sandbox/explanation.py": "this process has written it",
    "sandbox/launcher/client.py": "the launcher sends it",
    "sandbox/launcher/entry.py": "the notebook sends it",
    "sandbox/launcher/exec_as_user.py": "a copy of init sends it, which no process of the container can look into",
    "sandbox/launcher/function_calls.py": "the notebook sends it",
    "sandbox/network/slirp4netns.py": "the helper of the host sends it",
    "sandbox/prompts/observer.py": "a process of this package sends it",
    "sandbox/protocol.py": "launcher and init send it: tests/attacks/test_init.py",
    "store/layout.py": "it is compared as a whole",
}
"""Modules whose JSON is this program's own, each with the reason."""


@pytest.mark.parametrize("mime", ["application/json", "text/html", "text/markdown", "image/svg+xml", "image/png", "\0"])
@FEW
@given(data=st.binary() | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | json_of("a").map(encoded))
@example(data=b"[" * 99_999)
@example(data=b"<" * 9_999)
@example(data=b"![](" * 2_000)
def test_any_shown_data(mime: str, data: bytes) -> None:
    """What a container shows is inert data, or a value error whose text is on the page."""
    with contextlib.suppress(ValueError):
        assert bundle(mime, data, trust=False)


def test_each_parser_of_json_has_such_a_test() -> None:
    """A new module that parses JSON needs a test with any text, or the reason why the text is this program's own."""
    package = Path(nbcontainer.__file__).parent
    parsing = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bjson\.loads?\(|\btomllib\.loads?\(", path.read_text())
    }
    assert parsing == _FUZZED.keys() | _OWN.keys()
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name in set(_FUZZED.values()) if f"def {name}(" not in tests] == []
