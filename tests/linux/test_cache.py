"""Cached cells: what changes a key, what a hit replays, and where it leads."""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.containers import lookup as containers
from nbcontainer.containers import run
from nbcontainer.containers.active import signal_running, stop_running
from nbcontainer.containers.cached import key, outputs
from nbcontainer.containers.cached.transfer import export_results, problems
from nbcontainer.containers.cached.use import Use
from nbcontainer.containers.cached.volume_content import Content, Digests
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.commit import commit
from nbcontainer.containers.disk_usage import usage
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.following import list_jobs, open_log
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live.joining import run_inside
from nbcontainer.containers.options import StandardInput, run_options
from nbcontainer.linux import files
from nbcontainer.store.atomic_files import replace_file
from nbcontainer.store.cache_entries import Cache
from nbcontainer.values.exchange import Exchange
from tests.requirements import require
from tests.running import DEADLINE, make_deep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.jobs.job import Job
    from nbcontainer.outcome import Outcome

FILE = "/proc/sys/kernel/random/uuid"
CLOCK = f"cat {FILE}"
"""A script whose output is never the same."""


class Cells:
    """Runs cached cells. `events` are the pieces of the last one's output, `notes` the lines about it."""

    def __init__(self, engine: Engine, salt: str = "") -> None:
        self.engine = engine
        self.salt = salt
        self.notes: list[str] = []
        self.cached: list[str] = []
        self.events: list[tuple[str, bytes]] = []
        self.container: Container | None = None

    def __call__(self, script: str | None = CLOCK, **asked: Any) -> str:
        """Returns the standard output of a cell; `asked` are fields of the request and of the options."""
        known = ("image", "name", "command", "stdin", "arguments")
        fields = {"image": "busybox", **{name: asked.pop(name) for name in known if name in asked}}
        if fields.get("name"):
            fields["name"] += self.salt
        options = {"cache": "on", "hostname": f"h{self.salt}", **asked}
        return self.run(Request(**fields, script=script, options=run_options(options)))

    def get(self, name: str) -> Container:
        """Returns the container of that name."""
        return containers.get(self.engine, name + self.salt)

    def run(self, request: Request) -> str:
        """Returns the standard output of a request."""
        self.events, self.cached = [], []
        streams = Streams(
            lambda data: self.events.append(("out", data)),
            lambda data: self.events.append(("err", data)),
            on_notice=self.notes.append,
            on_cached=self.cached.append,
        )
        self.container, outcome = run.run(self.engine, request, streams)
        assert outcome.ok
        return b"".join(data for kind, data in self.events if kind == "out").decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, _containers_work: str) -> Iterator[Engine]:
    """An engine on the module's own store."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(tmp_path_factory.mktemp("cached") / "store")
    yield engine
    engine.close()


_COUNT = itertools.count(1)


@pytest.fixture
def cells(opened: Engine) -> Cells:
    """Cached cells that have no results yet: the host name is the test's own."""
    return Cells(opened, f"-{next(_COUNT)}")


@pytest.fixture
def own(tmp_path: Path, opened: Engine) -> Iterator[Cells]:
    """Cached cells on a store of the test's own."""
    assert opened
    engine = Engine(tmp_path / "store")
    yield Cells(engine)
    engine.close()


def joined(events: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Pieces of the same stream that follow each other, as one."""
    groups = itertools.groupby(events, lambda event: event[0])
    return [(kind, b"".join(data for _, data in group)) for kind, group in groups]


def test_a_hit_replays_the_output_and_says_so(cells: Cells) -> None:
    """Byte for byte, with both streams in order; the line says when it was computed."""
    script = f"printf 'a\\377\\0'; sleep 0.05; echo b >&2; sleep 0.05; printf c; {CLOCK} >&2"
    first = cells(script)
    before = cells.events
    assert cells.cached == []
    assert cells(script) == first
    assert cells.events == joined(before)
    assert len(cells.cached) == 1
    assert cells.cached[0].startswith("cached: computed at 20")
    assert cells.notes == []


def test_a_hit_leads_to_the_state(cells: Cells) -> None:
    """The container has the files of the result, one cell more, and the next cell has a key that follows from it."""
    for name in ("one", "two"):
        cells(f"{CLOCK} > /made", name=name)
    assert cells.cached
    seen = [cells("cat /made", image="", name=name) for name in ("one", "two")]
    assert seen[0] == seen[1] != ""
    assert cells.cached
    one, two = (cells.get(name) for name in ("one", "two"))
    assert [cell.command for cell in two.cells] == [f"{CLOCK} > /made", "cat /made"]
    assert two.cells[0].computed == one.cells[0].created
    assert one.layers == two.layers
    two.undo()
    assert cells("ls /made 2>/dev/null || echo gone", image="", name="two") == "gone\n"


KEYS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("nothing", {}, {}, True),
    ("source", {}, {"script": f"{CLOCK} "}, False),
    ("an argument", {"arguments": ("a",)}, {"arguments": ("b",)}, False),
    (
        "a command",
        {"script": None, "command": ("cat", "/proc/sys/kernel/random/uuid")},
        {"script": None, "command": ("sh", "-c", CLOCK)},
        False,
    ),
    ("a variable", {"env": ("A=1",)}, {"env": ("A=2",)}, False),
    ("the name of a variable", {"env": ("A=1",)}, {"env": ("B=1",)}, False),
    ("a removed variable", {}, {"env": ("PATH",)}, False),
    ("the directory", {}, {"workdir": "/tmp"}, False),
    ("the user", {}, {"user": "1"}, False),
    ("the host name", {}, {"hostname": "other"}, False),
    ("a limit", {}, {"timeout": 100.0}, False),
    ("the memory of /dev/shm", {}, {"shm_size": 1 << 20}, False),
    ("the root", {}, {"read_only": True}, False),
    ("capabilities", {}, {"capabilities": ("CHOWN",)}, False),
    ("the toolbox", {}, {"toolbox": True}, False),
    ("standard input", {"stdin": StandardInput(b"1")}, {"stdin": StandardInput(b"2")}, False),
    ("the same input", {"stdin": StandardInput(b"1")}, {"stdin": StandardInput(b"1")}, True),
    ("the same variable", {"env": ("A=1",)}, {"env": ("A=1",)}, True),
    ("the name of the container", {"name": "a"}, {"name": "b"}, True),
    ("a label", {"name": "a"}, {"name": "b", "labels": (("x", "y"),)}, True),
    ("the way to find the image", {}, {"pull": "never"}, True),
]


@pytest.mark.slow
@pytest.mark.parametrize(("what", "first", "second", "hit"), KEYS, ids=[row[0] for row in KEYS])
def test_what_changes_a_key(cells: Cells, what: str, first: dict[str, Any], second: dict[str, Any], hit: bool) -> None:
    """A cell with another value of anything in the key runs; the rest is not in the key."""
    if "user" in second and cells.engine.single_id:
        pytest.skip("needs a range of ids")
    assert (cells(**first) == cells(**second)) is hit, what
    assert bool(cells.cached) is hit


def test_the_parent_is_in_the_key(cells: Cells) -> None:
    """The same cell on another state runs. A cell that changed nothing leads to no other state."""
    base = cells(name="a")
    cells("true", name="b")
    assert cells(name="b") == base
    cells("echo > /made", name="c")
    assert cells(name="c") != base


def test_a_state_without_a_key_is_known_by_its_content(cells: Cells) -> None:
    """A cell without --cache gives a state that is compared by the files of its layer."""
    write = "echo same > /made; touch -d @1577836800 /made /"
    for name in ("a", "b"):
        cells(write, name=name, cache="")
    cells("echo other > /made", name="c", cache="")
    first = cells(name="a")
    assert cells(name="b") == first
    assert cells(name="c") != first


def test_the_digest_of_the_image_is_in_the_key(cells: Cells) -> None:
    """Another image under the same name is another key; the same image under another name is the same."""
    cells("true", name="made", cache="")
    base = cells()
    store = cells.engine.store
    store.index.tag(store.index.image("busybox"), "mine")
    assert cells(image="mine") == base
    cells("echo > /more", name="made", image="", cache="")
    commit(cells.get("made"), "mine")
    assert cells(image="mine") != base


def test_files_of_read_only_volumes_are_in_the_key(cells: Cells, tmp_path: Path) -> None:
    """By name, mode, target and content; their place on the host is not."""
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "file").write_text("one")
        (tmp_path / name / "link").symlink_to("sub/file")

    def asked(name: str = "a") -> str:
        return cells(volumes=(parse_volume(f"{tmp_path / name}:/data:ro"),))

    first = asked()
    assert asked() == first
    assert asked("b") == first
    file = tmp_path / "a" / "sub" / "file"
    changes: list[Callable[[], object]] = [
        lambda: file.write_text("two"),
        lambda: file.chmod(0o600),
        lambda: (tmp_path / "a" / "new").mkdir(),
        (tmp_path / "a" / "link").unlink,
        lambda: file.rename(file.with_name("other")),
    ]
    seen = {first}
    for change in changes:
        change()
        now = asked()
        assert now not in seen
        assert asked() == now
        seen.add(now)


def test_a_change_within_the_clocks_grain_is_seen(cells: Cells, tmp_path: Path) -> None:
    """The content has the same size and time: a fresh file is hashed again. An older one is hashed once."""
    file = tmp_path / "file"
    file.write_text("one")
    mount = parse_volume(f"{file}:/file:ro")
    first = cells(volumes=(mount,))
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with file.open("r+") as opened:
        opened.write("two")
    os.utime(file, ns=times)
    assert cells(volumes=(mount,)) != first
    digests, reads = Digests(), []
    fd = os.open(file, os.O_RDONLY)
    later = time.time_ns() + 10**10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: later)
        real = os.pread

        def counted(source: int, *words: Any) -> bytes:
            if os.path.sameopenfile(source, fd):  # other threads read other files
                reads.append(1)
            return real(source, *words)

        patch.setattr(os, "pread", counted)
        assert digests.of(fd) == digests.of(fd)
    in_memory = files.in_memory(fd)
    os.close(fd)
    assert len(reads) == (4 if in_memory else 2)


def tick(folder: Path) -> None:
    """Waits until the clock for the times of files has moved."""
    (folder / "one").touch()
    while not (folder / "two").exists() or (folder / "two").stat().st_ctime_ns <= (folder / "one").stat().st_ctime_ns:
        (folder / "two").touch()
    for name in ("one", "two"):
        (folder / name).unlink()


@pytest.mark.parametrize("place", ["the disk", "memory"])
def test_a_change_by_a_mapping_is_seen(tmp_path: Path, place: str) -> None:
    """A program that has mapped a file changes it without a system call; the times of it change late, or never."""
    folder = tmp_path if place == "the disk" else Path(tempfile.mkdtemp(prefix="nbcontainer-", dir="/dev/shm"))
    file = folder / "file"
    file.write_bytes(b"one" + bytes(5000))
    digests, later = Digests(), time.time_ns() + 10**10
    try:
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped, pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: later)
            for text in (b"two", b"six", b"ten"):
                tick(folder)
                mapped[:3] = text
                first = digests.of(opened.fileno())
                assert first == hashlib.sha256(text + bytes(5000)).digest()
                assert digests.of(opened.fileno()) == first
    finally:
        file.unlink()
        if place == "memory":
            folder.rmdir()


def test_the_input_is_the_one_that_was_hashed(cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may change between the key and the cell; then the result would be that of another input."""
    file, out = tmp_path / "file", list[bytes]()
    file.write_text("one")
    hit = Use.hit

    def late(used: Use) -> Outcome | None:
        file.write_text("other")
        return hit(used)

    monkeypatch.setattr(Use, "hit", late)
    options = run_options({"cache": "on"})
    request = Request("busybox", command=("cat",), options=options, stdin=StandardInput(path=file))
    for _ in range(2):
        file.write_text("one")
        run.run(cells.engine, request, Streams(out.append, out.append, on_notice=cells.notes.append))
    assert out == [b"one", b"one"]
    assert cells.notes == []


@pytest.mark.parametrize(
    ("changed", "waits"), [(5_000_000, 0.015), (30_000_000, 0), (10**9, 1.0), (3 * 10**9, 0), (-(10**9), 0)]
)
def test_a_cell_waits_until_a_change_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: int, waits: float
) -> None:
    """The clock of files has ticks, which are long where times are whole seconds, as 1 or 3 s ago."""
    now = 1_700_000_000 * 10**9
    slept: list[float] = []
    monkeypatch.setattr(key, "content_of", lambda *_: Content("", "", now - changed))
    monkeypatch.setattr(key, "time", SimpleNamespace(time_ns=lambda: now, sleep=slept.append))
    mount = parse_volume(f"{tmp_path}:/data:ro")
    mounts = run_options({"volumes": (mount,)}).mounts
    key.volumes_in_key(mounts, Digests(), wait=True)
    assert slept == ([pytest.approx(waits)] if waits else [])
    slept.clear()
    key.volumes_in_key(mounts, Digests(), wait=False)  # when the cell has ended
    assert slept == []


@pytest.mark.parametrize("undone", [False, True], ids=["changed", "changed and changed back"])
def test_a_volume_that_changes_during_the_cell_keeps_no_result(own: Cells, tmp_path: Path, undone: bool) -> None:
    """What the cell saw is not what the key says, perhaps also if it is so again at the end."""
    file = tmp_path / "file"
    file.write_text("one")
    ran: list[str] = []

    def change(data: bytes) -> None:
        ran.append(data.decode())
        file.write_text("changed")
        if undone:
            file.write_text("one")

    def ask() -> str:
        options = run_options({"cache": "on", "volumes": (parse_volume(f"{file}:/file:ro"),)})
        request = Request("busybox", script=CLOCK, options=options)
        streams = Streams(change, change, on_notice=own.notes.append)
        run.run(own.engine, request, streams)
        return ran[-1]

    ask()
    assert own.notes == ["--cache: the cell runs and is not cached: its read-only volumes changed while it ran"]
    file.write_text("one")
    assert ask() != ran[0]


@pytest.mark.parametrize(
    ("asked", "why", "always"),
    [
        ({"network": "host"}, "it has a network", True),
        ({"rw": True}, "it can write to the volume at /data", True),
        ({"terminal": True}, "it has a terminal", False),
        ({"explain": True}, "--explain shows how it runs", False),
    ],
    ids=["network", "volume", "terminal", "explain"],
)
def test_cells_that_are_not_cached_run_and_say_so_once(
    cells: Cells, tmp_path: Path, asked: dict[str, Any], why: str, always: bool
) -> None:
    """`--cache=always` lifts that for all but those that cannot be replayed."""
    if asked.pop("rw", False):
        asked["volumes"] = (parse_volume(f"{tmp_path}:/data"),)
    assert cells(**asked) != cells(**asked)
    assert len(cells.notes) == 1
    assert why in cells.notes[0]
    assert ("--cache=always" in cells.notes[0]) is always
    assert (cells(**asked, cache="always") == cells(**asked, cache="always")) is always


def test_an_image_that_was_made_from_the_host_is_not_cached(own: Cells) -> None:
    """By a name, a digest, and for a container of it: the files of the host below it are not in the key."""
    machine = own.engine.images.find("host")
    own("touch /made-on-host", image="host", name="on", cache="")
    image = commit(own.get("on"), "of-host")
    own("true", image="of-host", name="of", cache="")
    for asked in ({"image": "of-host"}, {"image": f"{image.digest}"}, {"image": machine.digest}, {"name": "of"}):
        assert own(**{"image": "", **asked}) != own(**{"image": "", **asked})
    assert ["its image changes with the files of the host" in note for note in own.notes] == [True]


def test_volumes_of_an_image_that_a_cell_can_write_to_are_not_cached(own: Cells) -> None:
    """With a read-only root they are the container's own, and change without a state. A new container has new ones."""
    own("mkdir /data", name="made", cache="")
    commit(own.get("made"), "with-volume", changes=["VOLUME /data"])
    asked: dict[str, Any] = {"image": "with-volume", "name": "v", "read_only": True}
    own("echo 1 > /data/x", **asked, cache="")
    assert own("cat /data/x; echo more >> /data/log", **asked) == "1\n"
    own("echo 2 > /data/x", **asked, cache="")
    assert own("cat /data/x; echo more >> /data/log", **asked) == "2\n"
    assert own("cat /data/log", **asked, cache="") == "more\nmore\n"
    assert ["it can write to the image's volume at /data" in note for note in own.notes] == [True]
    assert own(image="with-volume", read_only=True) == own(image="with-volume", read_only=True)
    assert own(**{**asked, "name": "w", "read_only": False}) == own(**{**asked, "name": "u", "read_only": False})


@pytest.mark.parametrize(("levels", "cached"), [(190, True), (600, False)])
def test_a_deep_read_only_volume_is_not_read(own: Cells, tmp_path: Path, levels: int, cached: bool) -> None:
    """The cell runs, and one line says why."""
    make_deep(tmp_path / "deep", levels)
    mount = parse_volume(f"{tmp_path / 'deep'}:/data:ro")
    assert (own(volumes=(mount,)) == own(volumes=(mount,))) is cached
    text = "--cache: the cell runs and is not cached: a read-only volume is nested deeper than 200 levels"
    assert own.notes == ([] if cached else [text])


def test_a_failure_is_not_kept(cells: Cells) -> None:
    """The cell runs again."""
    request = Request("busybox", script=f"{CLOCK}; false", options=run_options({"cache": "on"}))
    out: list[bytes] = []
    for _ in range(2):
        assert not run.run(cells.engine, request, Streams(out.append, out.append))[1].ok
    assert len(set(out)) == 2


def test_values_are_nowhere_in_the_store(own: Cells) -> None:
    """A key has a keyed hash of them, and a result their names alone. Another store has another key."""
    own("true", env=("TOKEN=swordfish-1",), stdin=StandardInput(b"swordfish-2"))
    cache = Cache(own.engine.store.path)
    ((key, entry),) = cache.entries()
    assert entry.names == ("TOKEN", "standard input")  # type: ignore[union-attr]
    assert b"swordfish" not in (cache.folder / key).read_bytes()
    (own.engine.store.path / "cache.key").write_bytes(os.urandom(32))
    own("true", env=("TOKEN=swordfish-1",), stdin=StandardInput(b"swordfish-2"))
    assert not own.cached


class Valued:
    """Runs cells with an `/out`; `trusted` is whether their store computed the last one's."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.trusted = True

    def __call__(self, script: str, read: str = "x", *, output: bool = True, **asked: Any) -> bytes:
        """Returns the bytes of the file `/out/READ.*` after a cell."""
        options = run_options({"cache": "on", "hostname": f"h{self.cells.salt}", **asked})
        self.cells.cached.clear()
        with Exchange({}, output=output) as exchange:
            streams = Streams(
                lambda _: None,
                lambda _: None,
                on_notice=self.cells.notes.append,
                on_cached=self.cells.cached.append,
                values=exchange.values,
                on_values=exchange.send,
                values_digest=exchange.digest,
                on_output=exchange.replay,
            )
            _, outcome = run.run(self.cells.engine, Request("busybox", script=script, options=options), streams)
            assert outcome.ok
            self.trusted = exchange.trusted
            return exchange.raw(read, 1 << 20)[1] if output else b""


def left_in_tmp(cells: Cells) -> list[Path]:
    """Directories in the store's `tmp` that have a file of an `/out`."""
    return [path for path in (cells.engine.store.path / "tmp").glob("*") if (path / "x.txt").exists()]


def test_files_of_out_are_replayed(cells: Cells) -> None:
    """All files of `/out` are kept, so that a hit has those of another `--get`, too; nothing stays in `tmp`."""
    valued = Valued(cells)
    script = f"{CLOCK} >/out/x.txt; mkdir -p /out/d; echo below >/out/d/y.txt; printf '\\0\\377' >/out/z.bin"
    first = valued(script)
    assert not cells.cached
    assert valued(script) == first
    assert len(cells.cached) == 1
    assert valued(script, "z") == b"\0\xff"
    assert valued.trusted
    assert left_in_tmp(cells) == []


def test_the_first_value_is_the_one_that_was_kept(
    cells: Cells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another container could change a file of `/out` when it has been kept: the value would differ from each hit's."""
    valued, write = Valued(cells), Use._write

    def late(used: Use, outcome: Outcome) -> None:
        write(used, outcome)
        assert used.recorder.directory is not None
        fd = os.open("x.txt", os.O_WRONLY, dir_fd=used.recorder.directory)
        os.write(fd, b"later")
        os.close(fd)

    monkeypatch.setattr(Use, "_write", late)
    mount = parse_volume(f"{tmp_path}:/shared:ro")
    values = [valued("printf first > /out/x.txt", volumes=(mount,)) for _ in range(2)]
    assert values == [b"first", b"first"]
    assert len(cells.cached) == 1
    assert left_in_tmp(cells) == []


def test_a_cell_without_out_has_another_key(cells: Cells) -> None:
    """There is no `/out` in it, which the script can see."""
    valued = Valued(cells)
    script = "mkdir -p /out; echo 1 >/out/x.txt"
    valued(script)
    valued(script, output=False)
    assert not cells.cached


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("ln -s /etc/passwd /out/link", "a link, a pipe or a device"),
        ("mkfifo /out/pipe", "a link, a pipe or a device"),
        ("mkdir /out/d; ln -s /etc /out/d/e", "a link, a pipe or a device"),
        ("truncate -s 65M /out/large", "more than 64 MiB"),
        ("cd /out; for i in $(seq 101); do mkdir d; cd d; done", "deeper than 100 levels"),
    ],
)
def test_what_cannot_be_replayed_is_not_kept(cells: Cells, script: str, why: str) -> None:
    """`--get` refuses a link, and would not find it in a replay: the cell runs each time, and says once why."""
    valued = Valued(cells)
    cells.engine._noted.clear()
    assert valued(f"{CLOCK} >/out/x.txt; {script}") != valued(f"{CLOCK} >/out/x.txt; {script}")
    assert len(cells.notes) == 1
    assert why in cells.notes[0]


def test_a_full_disk_makes_a_miss_of_a_hit_with_files(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell runs, and the directory of its files is gone."""
    valued = Valued(cells)
    script = f"{CLOCK} >/out/x.txt"
    first = valued(script)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs, "_make", fail)
    before = set((cells.engine.store.path / "tmp").iterdir())
    assert valued(script) != first
    assert not cells.cached
    assert all(path.name.count(".") for path in set((cells.engine.store.path / "tmp").iterdir()) - before)
    assert left_in_tmp(cells) == []


def test_a_result_that_was_not_on_disk_at_a_crash_is_not_exported(own: Cells, tmp_path: Path) -> None:
    """It is a miss here, and its data may lack: another store must not get it as a whole one."""
    own()
    own.engine.background.wait()
    cache = Cache(own.engine.store.path)
    (name,) = cache.names()
    entry = cache.read(name)
    assert entry is not None
    replace_file(cache.folder / name, tmp_path / "new", replace(entry, boot="earlier").to_bytes())
    assert export_results(own.engine, tmp_path / "results").count == 0
    replace_file(cache.folder / name, tmp_path / "new", replace(entry, boot="").to_bytes())
    assert export_results(own.engine, tmp_path / "results").count == 1


def test_a_result_that_could_not_be_read_is_not_written(own: Cells) -> None:
    """One line says why: the names of its files have more than 4 MiB."""
    name = "x" * 70
    script = f"for i in $(seq 56); do mkdir {name}; cd {name}; done; for i in $(seq 1100); do > $i; done"
    Valued(own)(f"{CLOCK} > /out/x.txt; cd /out; {script}")
    assert own.notes == [
        "--cache: the cell runs and is not cached: its output has too many parts, or a name in it is too long"
    ]
    assert Cache(own.engine.store.path).names() == []


@pytest.mark.slow
def test_a_large_output_is_not_kept(cells: Cells) -> None:
    """It is shown, and the cell runs again."""
    for _ in range(2):
        assert len(cells("yes | head -c 70000000")) == 70_000_000
    assert not cells.cached
    assert cells.notes == ["--cache: the cell runs and is not cached: its output is too large"]


def test_prune_keeps_results_that_containers_have(own: Cells) -> None:
    """`df` counts them; a result that no container has goes, with its layer, and its cell runs again."""
    kept = own("cat /proc/sys/kernel/random/uuid | tee /made", name="kept")
    gone = own(f"{CLOCK} | tee /other")
    own("true")
    row = next(row for row in usage(own.engine) if row.kind == "cached results")
    assert row.own > 0
    assert row.shared > 0
    own.engine.background.wait()
    assert prune(own.engine) >= 2
    assert own("cat /proc/sys/kernel/random/uuid | tee /made", name="again") == kept
    assert own(f"{CLOCK} | tee /other") != gone
    containers.get(own.engine, "kept").remove()
    containers.get(own.engine, "again").remove()
    own("true", cache="")
    own.engine.background.wait()
    prune(own.engine)
    assert Cache(own.engine.store.path).names() == []


def test_a_result_that_is_pruned_while_it_is_settled_stays_away(own: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prune` begins in another thread when the result has been read, and waits until it is written."""
    pruned: list[int] = []

    def remove_all() -> None:
        own.get("gone").remove()
        pruned.append(prune(own.engine))

    other = Thread(target=remove_all)

    def prune_first(*words: Any, **options: Any) -> None:
        if "sync" not in options:  # the second write, by `settle`
            other.start()
            other.join(1)
        replace_file(*words, **options)

    monkeypatch.setattr("nbcontainer.store.cache_entries.replace_file", prune_first)
    own(f"{CLOCK} | tee /made", name="gone")
    own.engine.background.wait()
    other.join()
    assert pruned
    assert Cache(own.engine.store.path).names() == []
    assert problems(own.engine, remove=False) == []


def test_a_result_survives_its_container(cells: Cells) -> None:
    """Its layer stays in the store until `prune`."""
    first = cells(f"{CLOCK} | tee /made", name="a")
    cells.get("a").remove()
    cells.engine.background.wait()
    assert cells(f"{CLOCK} | tee /made", name="b") == first
    assert cells("cat /made", name="b", image="") == first


@pytest.mark.slow
def test_a_damaged_result_is_a_miss(own: Cells) -> None:
    """Cut off, changed, replaced by a link or a pipe, or of another version: the cell runs, and its result is kept."""
    cache = Cache(own.engine.store.path)
    base = own()
    own.engine.background.wait()
    (key,) = cache.names()
    path = cache.folder / key
    whole = path.read_bytes()

    def link() -> None:
        other = path.with_name("other")
        other.write_bytes(whole)
        path.symlink_to(other)

    for spoil in (
        lambda: path.write_bytes(whole[:-3]),
        lambda: path.write_bytes(whole.replace(base.encode()[:8], b"forgeddd")),
        lambda: path.write_bytes(whole.replace(b'"version": 1', b'"version": 2')),
        lambda: path.write_bytes(b"[" * 100_000),
        link,
        lambda: os.mkfifo(path),
    ):
        path.unlink()
        spoil()
        assert own() != base
        assert not own.cached
        assert own()
        assert own.cached


@pytest.mark.slow
def test_two_notebooks_share_results(cells: Cells) -> None:
    """Another process on the store has them at once."""
    first = cells()
    other = Cells(Engine(cells.engine.store.path), cells.salt)
    try:
        assert other() == first
        assert other.cached
    finally:
        other.engine.close()


def test_the_options_of_a_request_are_compared_without_cache(cells: Cells) -> None:
    """`--cache=off` runs the cell, whatever the results are."""
    first = cells()
    request = Request("busybox", script=CLOCK, options=run_options({"cache": "off", "hostname": f"h{cells.salt}"}))
    assert cells.run(request) != first
    assert cells.run(replace(request, options=replace(request.options, cache="always"))) == first


@pytest.mark.parametrize("name", ["", "cached-job"], ids=["without a name", "with a name"])
@pytest.mark.parametrize("script", ["echo > /file", "echo ready; echo > /file"], ids=["silent", "with output"])
def test_a_job_whose_result_is_in_the_cache_is_a_job_that_ended(engine: Engine, name: str, script: str) -> None:
    """It has a log, an end, and a place in the list of jobs; what it waits for is looked up in its log."""
    for _ in range(2):
        request = Request("busybox", name, script=script, options=run_options({"cache": "on", "hostname": "of-jobs"}))
        job = start(engine, request, wait_for="ready" if "ready" in script else None)
        assert job.wait(DEADLINE).ok
        with open_log(engine, job.name) as log:
            assert b"".join(record.data for record in log.records()) == (b"ready\n" if "ready" in script else b"")
            assert log.end is not None
        assert job.name in [facts.name for facts in list_jobs(engine)]
        job.container.remove()
        engine.jobs.pop(job.name)


WAITS = f"""trap 'exit 0' TERM USR1
cat {FILE} > /id
(nc -l -p 7777; touch /go) > /dev/null &
echo ready
while ! test -e /go; do sleep 0.01; done"""
"""A script that ends well at a signal, after a connection, and after another command has made the file `/go`."""


def act(cells: Cells, job: Job, way: str) -> None:
    """Has a job end that runs `WAITS`."""
    streams = Streams(lambda _: None, lambda _: None)
    ways: dict[str, Callable[[], object]] = {
        "stop": lambda: stop_running(cells.engine.store, job.name),
        "kill": lambda: signal_running(cells.engine.store, job.name, signal.SIGUSR1),
        "stop of the job": job.ask,
        "signal of the job": lambda: job.send(signal.SIGUSR1),
        "exec": lambda: run_inside(job, Request(name=job.name, command=("touch", "/go")), streams),
        "network": lambda: cells(
            "until echo | nc 127.0.0.1 7777; do sleep 0.01; done", network=f"container:{job.name}", cache=""
        ),
    }
    ways[way]()


@pytest.mark.parametrize("way", ["stop", "kill", "stop of the job", "signal of the job", "exec", "network"])
def test_a_job_on_which_something_acts_from_outside_keeps_no_result(own: Cells, way: str) -> None:
    """A signal, another command in the container, or a container in its network: the job runs again."""
    for _ in range(2):
        request = Request("busybox", "j", script=WAITS, options=run_options({"cache": "on"}))
        streams = Streams(lambda _: None, lambda _: None, on_notice=own.notes.append)
        job = start(own.engine, request, streams, wait_for="ready")
        assert job.running, "a result was kept"
        act(own, job, way)
        assert job.wait(DEADLINE).ok
        job.container.remove()
        own.engine.jobs.pop("j", None)
    why = {"exec": "another command ran in its container", "network": "another container joined its network"}
    assert own.notes == [f"--cache: the cell runs and is not cached: {why.get(way, 'it got a signal from outside')}"]
    assert not list((own.engine.store.path / "tmp").glob("*.signalled"))
