"""`cp` while the container attacks it, and streams that a hostile process could send."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import struct
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.copying import trees
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.live.exec_client import of_notebook
from nbcontainer.containers.live.joining import run_inside
from nbcontainer.errors import NbcontainerError, ValueUnavailable
from nbcontainer.images.single_files import receiving, sending
from nbcontainer.runs import container_files
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.jobs.job import Job

ROUNDS = int(os.environ.get("NBCONTAINER_COPIES", "40"))


@pytest.fixture
def attack(engine: Engine) -> Iterator[Callable[[str], Job]]:
    """Starts a job with a script of the attacker's."""
    jobs: list[Job] = []

    def run(script: str) -> Job:
        jobs.append(start(engine, Request("busybox", "attacker", script=script)))
        return jobs[-1]

    yield run
    for job in jobs:
        job.stop(0)
        job.container.remove()


def wait_until_ready(job: Job, folder: Path, engine: Engine) -> None:
    """Waits until the script of a job has made the file `/ready`."""
    assert job.handle is not None
    side = trees.of_running(job.handle, job.name)
    while True:
        try:
            trees.copy_out(side, "/ready", trees.HostPath(folder / "ready"), engine.store)
            break
        except ValueUnavailable:
            continue


def _tar_in(side: trees.Caller, source: Path, path: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(source / "planted", "planted")
    with os.fdopen(os.memfd_create("tar"), "r+b") as file:
        file.write(data.getvalue())
        file.seek(0)
        trees.receive_tar(side, file.fileno(), path, single_id=False)


def _tar_out(side: trees.Caller, target: Path, path: str) -> None:
    with target.open("wb") as file:
        trees.send_tar(side, path, file.fileno(), follow=True)


def test_a_race_with_links_reads_and_writes_nothing_of_the_host(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path
) -> None:
    """A directory that becomes a link to the host's path and back, all the time, leads nowhere (CVE-2018-15664)."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("host")
    away = "../" * 12 + str(secret)[1:]
    job = attack(
        f"mkdir -p /srv/real; echo inside > /srv/real/file; cd /srv; ln -s {away} up; ln -s {secret} abs; mkdir d; "
        "echo inside > d/file; touch /ready; while :; do mv d x; mv up d; mv d up; mv abs d; mv d abs; mv x d; done"
    )
    wait_until_ready(job, tmp_path, engine)
    source = tmp_path / "source"
    source.mkdir()
    (source / "planted").write_text("planted")
    for number in range(ROUNDS):
        assert job.handle is not None
        side = trees.of_running(job.handle, job.name)
        target = trees.HostPath(tmp_path / f"out{number}")
        for path in ("/srv/d/file", "/srv/d"):
            try:
                trees.copy_out(side, path, target, engine.store, follow=True)
            except NbcontainerError:
                continue
            found = target.path / "file" if target.path.is_dir() else target.path
            assert not found.exists() or found.read_text() == "inside\n"
        for copy in (
            lambda side: trees.copy_in(side, trees.HostPath(source, content=True), "/srv/d", engine.store),
            lambda side: _tar_in(side, source, "/srv/d"),
            lambda side: _tar_out(side, tmp_path / "out.tar", "/srv/d"),
        ):
            with contextlib.suppress(NbcontainerError):
                copy(side)
        assert b"host" not in (tmp_path / "out.tar").read_bytes()
    assert sorted(path.name for path in secret.iterdir()) == ["file"]
    assert (secret / "file").read_text() == "host"


BIG = 8 << 30
"""Bytes of a sparse file: its copy lasts longer than the moment before the interrupt."""


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("by", ["notebook", "terminal"])
def test_a_copy_that_the_container_stops_ends_with_an_interrupt(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path, way: str, by: str
) -> None:
    """The process of the copy is stopped, with its end of the pipe; one interrupt ends it and the copy."""
    job = attacked_by_stops(attack)
    side = side_of(job, by)
    make_big(tmp_path)
    copies: dict[str, Callable[[], object]] = {
        "in": lambda: trees.copy_in(side, trees.HostPath.of(str(tmp_path / "big")), "/srv", engine.store),
        "out": lambda: trees.copy_out(side, "/srv/big", trees.HostPath.of(str(tmp_path / "out")), engine.store),
    }
    began = time.monotonic()
    interrupted(copies[way])
    assert time.monotonic() - began < DEADLINE
    assert job.running


@pytest.mark.parametrize("by", ["notebook", "terminal"])
def test_an_interrupted_copy_leaves_nothing_in_the_container(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path, by: str
) -> None:
    """The process that writes there removes what it has not finished."""
    job = attack("exec sleep 1000")
    side = side_of(job, by)
    make_big(tmp_path)
    interrupted(lambda: trees.copy_in(side, trees.HostPath.of(str(tmp_path / "big")), "/srv", engine.store))
    out: list[bytes] = []
    run_inside(job, Request(name="attacker", command=("ls", "-A", "/srv")), Streams(out.append, out.append))
    assert out == []


def side_of(job: Job, by: str) -> trees.Caller:
    """The container's side of a copy: for a verb of its notebook, or for one in a terminal."""
    assert job.handle is not None
    return trees.of_running(job.handle, "attacker") if by == "notebook" else of_notebook(job.engine, "attacker")


def make_big(place: Path) -> None:
    """A directory `big` with a big file."""
    (place / "big").mkdir()
    with (place / "big/file").open("wb") as file:
        file.truncate(BIG)


def interrupted(copy: Callable[[], object]) -> None:
    """Interrupts a copy, once, while it runs."""
    interrupt = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            copy()
    finally:
        interrupt.join()


def attacked_by_stops(attack: Callable[[str], Job]) -> Job:
    """A job that has a big file in /srv/big, and stops each process of its container, again and again."""
    job = attack(f"mkdir /srv/big; truncate -s {BIG} /srv/big/file; echo up; while :; do kill -STOP -1; done")
    while b"up" not in job.log_path.read_bytes():
        pass
    return job


def test_nothing_of_the_container_is_loaded_for_a_copy(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path
) -> None:
    """Libraries, modules and settings that the container planted stay unread (CVE-2019-14271)."""
    version, here = f"python3.{sys.version_info.minor}", Path(os.__file__).parent
    job = attack(
        "for d in /lib /usr/lib /lib64 /usr/lib/x86_64-linux-gnu /lib/x86_64-linux-gnu; do mkdir -p $d; "
        "for l in libnss_files.so.2 libnss_dns.so.2 libc.so.6 libpthread.so.0; do echo broken > $d/$l; done; done; "
        "mkdir -p /etc; echo 'passwd: files dns' > /etc/nsswitch.conf; echo /lib/evil.so > /etc/ld.so.preload; "
        f"for p in /usr/lib/{version} /usr/local/lib/{version} {here} {Path.cwd()}/nbcontainer; do "
        'mkdir -p $p/encodings; echo \'open("/loaded","w")\' | tee $p/os.py $p/shutil.py $p/encodings/idna.py '
        "$p/sitecustomize.py >/dev/null; done; echo data > /data; touch /ready; exec sleep 1000"
    )
    assert job.handle is not None
    side = trees.of_running(job.handle, job.name)
    target = tmp_path / "data"
    wait_until_ready(job, tmp_path, engine)
    trees.copy_out(side, "/data", trees.HostPath(target), engine.store)
    assert target.read_text() == "data\n"
    trees.copy_in(side, trees.HostPath(target), "/again", engine.store)
    with pytest.raises(ValueUnavailable, match="no such file in the container: /loaded"):
        trees.copy_out(side, "/loaded", trees.HostPath(tmp_path / "loaded"), engine.store)
    job.stop(0)
    trees.copy_out(trees.of_stopped(job.container), "/again", trees.HostPath(tmp_path / "again"), engine.store)
    with pytest.raises(ValueUnavailable, match="no such file in the container: /loaded"):
        trees.copy_out(trees.of_stopped(job.container), "/loaded", trees.HostPath(tmp_path / "x"), engine.store)


# Streams


def test_a_file_that_grows_is_copied_as_long_as_it_is(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path
) -> None:
    """A container that appends to it faster than it is read does not fill the host's disk."""
    job = attack("head -c 100000 /dev/zero > /file; touch /ready; while :; do head -c 9999999 /dev/zero >> /file; done")
    wait_until_ready(job, tmp_path, engine)
    assert job.handle is not None
    side = trees.of_running(job.handle, job.name)
    for path in ("/file", "/file", "/proc/version"):
        trees.copy_out(side, path, trees.HostPath(tmp_path / "copy"), engine.store)
        assert (tmp_path / "copy").stat().st_size > 0


def test_a_file_that_is_read_into_memory_is_limited(
    engine: Engine, attack: Callable[[str], Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`get` of a container that runs stops at its limit, before it has copied more: a sparse file costs nothing."""
    monkeypatch.setattr(container_files, "LIMIT", 1 << 20)
    job = attack(
        "dd if=/dev/null of=/sparse bs=1M seek=999999; head -c 1048576 /dev/zero > /fits; touch /ready; sleep 1000"
    )
    wait_until_ready(job, tmp_path, engine)
    assert job.handle is not None
    side = trees.of_running(job.handle, job.name)
    with pytest.raises(ValueUnavailable, match="/sparse in container 'attacker' has more than 1 MiB"):
        container_files.get_from_running(engine.store, side, "attacker", "/sparse", None)
    assert len(container_files.get_from_running(engine.store, side, "attacker", "/fits", None)) == 1 << 20
    assert list((engine.store.path / "tmp").glob("*/sparse")) == []


def entry(kind: bytes, path: bytes = b"", link: bytes = b"", mode: int = 0o644) -> bytes:
    head = struct.pack("<cIqHH", kind, mode, 10**18, len(path), len(link)) + path + link
    return head + (struct.pack("<I", 5) + b"wrote" + struct.pack("<I", 0) if kind == b"f" else b"")


END = entry(b"e", mode=0)


def received(folder: Path, stream: bytes, *, content: bool = False, most: int | None = None) -> receiving.Counts:
    """Writes a stream to `copy` in a directory."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, stream)
    os.close(writer)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        return receiving.receive(reader, receiving.Target(fd, b"copy", content, most=most))
    finally:
        os.close(reader)
        os.close(fd)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory whose neighbour must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("host")
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


TOP = entry(b"d", mode=0o755)


@pytest.mark.parametrize(
    "stream",
    [
        TOP + entry(b"f", b"../outside/file") + END,
        TOP + entry(b"f", b"/etc/planted") + END,
        TOP + entry(b"f", b"a/../../outside/file") + END,
        TOP + entry(b"d", b"..") + END,
        TOP + entry(b"d", b".") + END,
        TOP + entry(b"f", b"a//b") + END,
        TOP + entry(b"f", b"a\0b") + END,
        TOP + entry(b"l", b"out", b"../outside") + entry(b"f", b"out/file") + END,
        TOP + entry(b"d", b"sub") + entry(b"l", b"in", b"sub") + entry(b"f", b"in/file") + END,
        TOP + entry(b"l", b"x", b"") + END,
        TOP + entry(b"f", b"b", mode=0o170000) + END,
        TOP + entry(b"z", b"b") + END,
        TOP + entry(b"f", b"b")[:-2],
        TOP,
        b"",
        END,
        entry(b"f", b"name") + END,
        entry(b"l", b"", b"/etc/passwd") + END,
        TOP + struct.pack("<cIqHH", b"f", 0o644, 0, 1, 0) + b"x" + struct.pack("<I", 1 << 31),
        TOP + entry(b"f", b"x" * 300) + END,
    ],
)
def test_a_hostile_stream_writes_nothing_outside_its_target(place: Path, stream: bytes) -> None:
    """It is an error, and nothing is left of the copy."""
    with pytest.raises((NbcontainerError, OSError)):
        received(place, stream)
    assert list(place.iterdir()) == []
    assert (place.parent / "outside/file").read_text() == "host"


def test_a_file_that_says_that_it_is_empty_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of proc(5) do; what is more than is read of them is an error, and no shorter copy."""
    monkeypatch.setattr(sending, "UNKNOWN", 10)
    reader, writer = os.pipe()
    top = os.open("/proc/version", os.O_RDONLY)
    try:
        with pytest.raises(ValueUnavailable, match="says that it is empty"):
            sending.send(top, writer, what="/proc/version")
    finally:
        for fd in (reader, writer, top):
            os.close(fd)


def test_a_stream_has_no_more_bytes_than_its_target_takes(place: Path) -> None:
    """The side of the container is not trusted to stop."""
    stream = TOP + entry(b"f", b"one") + entry(b"f", b"two") + END
    with pytest.raises(receiving.TooLarge):
        received(place, stream, most=9)
    assert list(place.iterdir()) == []
    received(place, stream, most=10)


def test_a_deep_copy_that_breaks_off_leaves_nothing(place: Path) -> None:
    """A container may nest directories as deep as it likes, and end the stream early."""
    nested = b"".join(entry(b"d", b"/".join([b"d"] * depth), mode=0o755) for depth in range(1, 1500))
    with pytest.raises(ValueUnavailable, match="the copy ended too early"):
        received(place, TOP + nested)
    assert list(place.iterdir()) == []


def test_links_that_are_there_are_not_followed(place: Path) -> None:
    """A copy over a directory with links to other places replaces the links, or fails."""
    (place / "copy").mkdir()
    (place / "copy/file").symlink_to(place.parent / "outside/file")
    (place / "copy/sub").symlink_to(place.parent / "outside")
    received(place, TOP + entry(b"f", b"file") + END)
    assert (place / "copy/file").read_bytes() == b"wrote"
    assert not (place / "copy/file").is_symlink()
    for stream in (entry(b"d", b"sub") + entry(b"f", b"sub/file"), entry(b"f", b"sub/file")):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            received(place, TOP + stream + END)
    assert (place.parent / "outside/file").read_text() == "host"


@pytest.mark.parametrize(
    ("link", "depth", "inside"),
    [
        (b"a", 0, True),
        (b"a/b", 0, True),
        (b"./a", 0, True),
        (b"../a", 1, True),
        (b"../../a", 2, True),
        (b"..", 0, False),
        (b"../a", 0, False),
        (b"/a", 9, False),
        (b"a/..", 0, False),
        (b"a/../..", 5, False),
        (b"../a/..", 5, False),
        (b"//a", 0, False),
    ],
)
def test_links_of_a_copy_stay_in_it(link: bytes, depth: int, inside: bool) -> None:
    """Up as far as the top, then down: `..` after a name could leave by another link."""
    assert receiving.leads_inside(link, depth) is inside


def test_damaged_streams_are_errors(place: Path) -> None:
    """Any change of bytes gives a copy inside the target, or an error of this package or of the kernel."""
    whole = TOP + entry(b"d", b"sub", mode=0o755) + entry(b"f", b"sub/a") + entry(b"l", b"sub/l", b"a") + END
    chance = random.Random(18)
    for number in range(ROUNDS * 10):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        folder = place / str(number)
        folder.mkdir()
        try:
            received(folder, bytes(data[: chance.randrange(len(data)) + 1] if number % 2 else data))
        except (NbcontainerError, OSError):
            assert list(folder.iterdir()) == []
    assert sorted(path.name for path in place.parent.iterdir()) == ["outside", "place"]
    assert (place.parent / "outside/file").read_text() == "host"
