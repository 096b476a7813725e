"""What an operation costs as the store grows, counted in calls; and what is read while it is being removed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers import cleanup, container, disk_usage, lookup, record
from nbcontainer.containers.diff import MergedChanges, diff
from nbcontainer.containers.engine import Engine
from nbcontainer.images.layers import inspect
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.history.states import States


@pytest.fixture
def own(engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a store of the test's own."""
    assert engine
    opened = Engine(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture
def records_read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each container's record was read, by its name."""
    read: Counter[str] = Counter()

    def counting(path: Path | str, states: States | None = None) -> record.Record:
        read[Path(path).name] += 1
        return original(path, states)

    original = record.read_record
    for module in (record, container, lookup, cleanup, disk_usage):
        monkeypatch.setattr(module, "read_record", counting)
    return read


def verb(engine: Engine, name: str, *words: str) -> object:
    """Do what a verb of `%container` does, and wait for what it left to the background."""
    found = VERBS[name]
    view = found.run(Invocation(engine, parse(found.command, list(words))))
    engine.background.wait()
    engine.background.wait()
    return view


def test_removing_containers_reads_each_record_a_few_times(own: Engine, records_read: Counter[str]) -> None:
    """`rm` of N containers that wrote reads N records a constant number of times each, committed ones included."""
    for number in range(12):
        run_script(own, "echo > /f", name=f"n{number}")
    verb(own, "commit", "n0", "image")
    own.background.wait()
    records_read.clear()
    verb(own, "rm", *(f"n{number}" for number in range(12)))
    assert max(records_read.values()) <= 3
    verb(own, "prune")
    # busybox's layer and the image's are all that is left.
    assert len([path for path in (own.store.path / "layers").iterdir() if path.name != "sha256"]) == 2


def test_a_cell_reads_the_record_of_its_own_container_only(own: Engine, records_read: Counter[str]) -> None:
    """An anonymous cell that writes, and the removal of the one before it, read no other container's record."""
    for number in range(4):
        run_script(own, "echo > /f", name=f"n{number}")
    own.background.wait()
    records_read.clear()
    for _ in range(3):
        run_script(own, "echo > /f")
        own.background.wait()
    assert not records_read.keys() & {f"n{number}" for number in range(4)}
    run_script(own, "echo > /f", name="n0")
    verb(own, "undo", "n0")
    assert not records_read.keys() & {f"n{number}" for number in range(1, 4)}


def settle(store: Path) -> None:
    """Make the last changes in a store's directories older than a cleanup needs to trust their times."""
    names = "layers layers/sha256 containers journals flats cache blobs blobs/sha256 index.json"
    for name in names.split():
        os.utime(store / name, (1_700_000_000, 1_700_000_000))


def test_a_start_reads_no_record_if_nothing_has_changed(own: Engine, records_read: Counter[str]) -> None:
    """The cleanup at a notebook's start and end reads containers once, and again only after a change of the store."""
    for number in range(3):
        run_script(own, "echo > /f", name=f"n{number}")
    own.background.wait()
    settle(own.store.path)
    records_read.clear()
    cleanup.sweep(own)
    assert set(records_read.values()) == {1}
    cleanup.sweep(own)
    cleanup.end_session(own)
    assert set(records_read.values()) == {1}
    run_script(own, "echo > /f", name="n3")
    cleanup.sweep(own)
    assert set(records_read.values()) >= {2}


def test_what_a_killed_notebook_left_is_found_in_a_store_that_looks_unchanged(own: Engine) -> None:
    """A session that died since the last cleanup has its anonymous container removed, whatever the times say."""
    run_script(own, "true")
    own.background.wait()
    settle(own.store.path)
    cleanup.sweep(own)
    script = (
        "import os, sys, nbcontainer\n"
        "from pathlib import Path; from nbcontainer.containers.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1])); box = nbcontainer.create('busybox', engine=engine)\n"
        "box.run(script='echo > /f'); engine.background.wait(); os.kill(os.getpid(), 9)"
    )
    before = {path.name for path in (own.store.path / "layers").iterdir()}
    assert subprocess.run([sys.executable, "-c", script, own.store.path], check=False).returncode == -9
    assert {path.name for path in (own.store.path / "layers").iterdir()} != before
    settle(own.store.path)
    cleanup.sweep(own)
    assert {path.name for path in (own.store.path / "layers").iterdir()} == before
    assert not list((own.store.path / "containers").iterdir())


def test_the_layer_of_a_committed_container_stays(own: Engine) -> None:
    """A layer that an image uses outlives its container, and one that a frozen copy uses outlives an undo."""
    run_script(own, "echo kept > /f", name="one")
    verb(own, "commit", "one", "image")
    verb(own, "rm", "one")
    verb(own, "prune")
    assert run_script(own, "cat /f", image="image").text == "kept"


def test_diff_of_removed_files_is_linear(own: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 removed files are 1001 changes, each of which is merged once (5000 took 11 s)."""
    merged = 0
    original = MergedChanges._forget_below

    def counting(changes: MergedChanges, path: str) -> None:
        nonlocal merged
        before = len(changes.last)
        original(changes, path)
        merged += before - len(changes.last) + 1

    monkeypatch.setattr(MergedChanges, "_forget_below", counting)
    run_script(own, "mkdir /m; cd /m; seq 1000 | xargs touch", name="a")
    verb(own, "commit", "a", "base")
    run_script(own, "cd /m; ls | xargs rm", image="base", name="b")
    assert len(diff(lookup.get(own, "b"))) == 1001
    assert merged == 1000


def test_diff_names_a_path_that_is_too_long(own: Engine) -> None:
    """Directories nested deeper than a path can be are one line with the path and the way out."""
    script = "n=0; mkdir /d; cd /d; while [ $n -lt 30 ]; do d=$(printf '%0200d' 0); mkdir $d; cd $d; n=$((n+1)); done"
    run_script(own, script, name="deep")
    with pytest.raises(Exception, match=r"is a path of \d+ bytes; move it up in a cell"):
        diff(lookup.get(own, "deep"))


def test_disk_usage_does_not_fail_beside_removals(own: Engine) -> None:
    """`df` counts what is there while another process runs cells whose files are removed (3 to 8 of 30 failed)."""
    run_script(own, "true")
    script = "mkdir /m; cd /m; seq 300 | xargs touch"
    cells = (
        "import sys; from pathlib import Path; from nbcontainer.containers.engine import Engine; import nbcontainer\n"
        "engine = Engine(Path(sys.argv[1]))\n"
        f"while not Path(sys.argv[2]).exists(): nbcontainer.run('busybox', script={script!r}, engine=engine)\n"
        "engine.close()"
    )
    stop = own.store.path.parent / "stop"
    process = subprocess.Popen([sys.executable, "-c", cells, own.store.path, stop])
    try:
        for _ in range(5):
            assert verb(own, "df")
    finally:
        stop.touch()
        assert process.wait(60) == 0


@pytest.mark.parametrize("when", ["lstat", "open", "scandir"])
def test_what_is_removed_during_the_count_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """At each call of the walk the entry, or its directory, can be gone: the rest is counted."""
    (tmp_path / "tree" / "gone" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "gone" / "file").write_text("x")
    (tmp_path / "tree" / "stays").write_text("x" * 5000)
    original: Callable[..., object] = getattr(os, when)

    def removing(path: object, *arguments: object, **keywords: object) -> object:
        if path == "gone" or when == "scandir":
            subprocess.run(["rm", "-rf", tmp_path / "tree" / "gone"], check=True)
        return original(path, *arguments, **keywords)

    monkeypatch.setattr(os, when, removing)
    root = os.open(tmp_path / "tree", os.O_RDONLY)
    try:
        assert inspect.usage(root)["stays"] >= 5000
    finally:
        monkeypatch.undo()
        os.close(root)


def close_after(thread: threading.Thread, descriptor: int) -> None:
    """Close a descriptor when a thread has ended."""
    thread.join()
    os.close(descriptor)


@pytest.mark.parametrize(("what", "name"), [("export", "container"), ("export", "image"), ("save", "image")])
def test_what_is_read_outlives_its_removal(own: Engine, tmp_path: Path, name: str, what: str) -> None:
    """`export` and `save` are complete, though another process removes container and image, and prunes, meanwhile."""
    run_script(own, "head -c 300000 /dev/urandom > /f", name="container")
    verb(own, "commit", "container", "image")
    other = Engine(own.store.path)
    try:
        fifo, writer = os.pipe()
        thread = threading.Thread(target=verb, args=(own, what, name, "-o", f"/dev/fd/{writer}"))
        thread.start()
        data = os.read(fifo, 1024)  # it has begun, and waits for the pipe
        verb(other, "rm", "container")
        verb(other, "rmi", "image")
        verb(other, "prune")
        closing = threading.Thread(target=close_after, args=(thread, writer))
        closing.start()
        while more := os.read(fifo, 1 << 16):
            data += more
        closing.join()
        os.close(fifo)
    finally:
        other.close()
    (tmp_path / "read.tar").write_bytes(data)
    listed = subprocess.run(["tar", "-tf", tmp_path / "read.tar"], check=True, capture_output=True, text=True).stdout
    assert ("f" if what == "export" else "index.json") in listed.splitlines()
    verb(own, "prune")
    assert len([path for path in (own.store.path / "layers").iterdir() if path.name != "sha256"]) == 1
