"""`put`, `get`, `start`, `logs`, `wait` and `stop` of a container."""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest

import nbcontainer
from nbcontainer import (
    ContainerBusy,
    ContainerError,
    ContainerNotFound,
    ImageError,
    ImageNotFound,
    SetupFailed,
    UsageError,
    ValueUnavailable,
)
from nbcontainer.containers.jobs import log
from tests.running import all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine


@pytest.mark.parametrize("named", [True, False])
def test_files_go_in_and_out(engine: Engine, name: str, tmp_path: Path, *, named: bool) -> None:
    """Bytes and files of the host get into a container, with their mode and new directories, and out again."""
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool\n")
    (tmp_path / "tool").chmod(0o755)
    with nbcontainer.create("busybox", name if named else "", engine=engine) as box:
        for data in (bytearray(b"x"), memoryview(b"x"), b"\0\xff"):
            box.put(data, "/new/deep/data")
        box.put(tmp_path / "tool", "/usr/bin/tool")
        assert box.run(["tool"]).text == "tool\n"
        assert box.run(script="stat -c '%a %u' /new/deep/data /tmp").text == "644 0\n1777 0\n"
        box.run(script="echo more >> /new/deep/data")
        assert box.get("/new/deep/data", tmp_path / "out") == b"\0\xffmore\n"
        assert (tmp_path / "out").read_bytes() == b"\0\xffmore\n"
        assert "A /new/deep/data" in [str(change) for change in box.diff()]


@pytest.mark.parametrize("running", [False, True])
def test_a_file_goes_into_a_directory_under_its_own_name(engine: Engine, tmp_path: Path, *, running: bool) -> None:
    """As by `cp`: a directory that is there, or a path with a slash at its end; so does a file that comes out."""
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "out").mkdir()
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(script="mkdir -p /srv/there; ln -s there /srv/link")
        if running:
            box.start(["sleep", "1000"])
        for path in ("/srv/there", "/srv/there/", "/srv/link", "/srv/link/", "/srv/new/"):
            box.put(tmp_path / "file.txt", path)
            assert box.get(f"{path.rstrip('/')}/file.txt", tmp_path / "out") == b"text"
            (tmp_path / "out/file.txt").unlink()
        for path, error in (("/srv/", "name a file in it"), ("/srv", "Is a directory")):  # bytes have no name
            with pytest.raises((UsageError, ValueUnavailable), match=error):
                box.put(b"data", path)


def test_an_object_shows_what_others_did(engine: Engine, name: str, tmp_path: Path) -> None:
    """Cells, and other objects of a container with a name, change it; `undo` of another one does, too."""
    dev = nbcontainer.create("busybox", name, engine=engine)
    other, record = nbcontainer.get(name, engine=engine), dev.record
    other.run(script="echo one > /file")
    assert dev.get("/file") == b"one\n"
    other.run(script="echo two > /file")
    assert dev.get("/file", f"{tmp_path}/") == b"two\n"
    assert (tmp_path / "file").read_bytes() == b"two\n"
    assert len(dev.cells) == len(dev.as_dict()["cells"]) == 2
    assert dev.record is record  # a run of its own, in another thread, may be about to write it
    other.undo()
    assert dev.get("/file") == b"one\n"
    other.remove()
    with pytest.raises(ContainerNotFound):
        dev.get("/file")


def test_links_stay_inside(engine: Engine, tmp_path: Path) -> None:
    """Links of the container lead nowhere outside it, and a link that is written to is replaced."""
    (tmp_path / "secret").write_text("secret")
    with nbcontainer.create("busybox", engine=engine) as box:
        box.run(script=f"ln -s {tmp_path} /out-of-it; ln -s {tmp_path}/secret /link; mkfifo /fifo; ln -s /srv /inside")
        for path in ("/link", "/out-of-it/secret", "/fifo", "/srv", "/proc/self/environ"):
            with pytest.raises(ValueUnavailable, match="has no file"):
                box.get(path)
        box.put(b"mine", "/link")
        box.put(b"inside", "/inside/file")
        assert (tmp_path / "secret").read_text() == "secret"
        assert (box.get("/link"), box.get("/srv/file")) == (b"mine", b"inside")
        with pytest.raises(ValueUnavailable, match="cannot write /fifo/x in the container: Not a directory"):
            box.put(b"x", "/fifo/x")
        with pytest.raises(ValueUnavailable, match="cannot write /srv in the container: Is a directory"):
            box.put(b"x", "/srv")
        assert box.run(["ls", "-A", "/srv"]).text == "file\n"
        assert list(tmp_path.iterdir()) == [tmp_path / "secret"]


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b", "/a/..", "/a\0b", ""])
def test_bad_paths_are_refused(engine: Engine, path: str) -> None:
    """A path that is not absolute, or that leads up, is refused before anything is done."""
    box = nbcontainer.create("busybox", engine=engine)
    with pytest.raises(UsageError, match="invalid path in the container"):
        box.get(path)
    with pytest.raises(UsageError, match="invalid path in the container"):
        box.put(b"x", path)


def test_bad_sources_are_refused(engine: Engine, tmp_path: Path) -> None:
    """A missing file and a directory of the host cannot be put; a missing target directory is named."""
    box = nbcontainer.create("busybox", engine=engine)
    with pytest.raises(ImageNotFound, match="no file"):
        box.put(tmp_path / "missing", "/x")
    with pytest.raises(ImageError, match="cannot write"):
        box.get("/etc/passwd", tmp_path / "missing" / "file")
    assert box.diff() == []


def test_directories_are_copied_in_and_out(engine: Engine, tmp_path: Path) -> None:
    """`put` of a directory gives the container all of it, and `get` with a target brings it back."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("text")
    with nbcontainer.create("busybox", engine=engine) as box:
        box.put(source, "/srv")
        assert box.run(["cat", "/srv/source/sub/file"]).text == "text"
        assert box.get("/srv/source", tmp_path / "back") == b""
        assert (tmp_path / "back/sub/file").read_text() == "text"
        assert [str(change) for change in box.diff()][:2] == ["C /srv", "A /srv/source"]
        with pytest.raises(ValueUnavailable, match="no file /srv/source"):
            box.get("/srv/source")


@pytest.mark.parametrize("user", ["", "1000"])
def test_files_go_into_a_running_container(engine: Engine, name: str, tmp_path: Path, user: str) -> None:
    """What runs sees them at once; they belong to its user, and it cannot lead them out of the container by links."""
    if user and engine.single_id:
        pytest.skip("a single id has one user")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("text")
    (tmp_path / "tool").write_text("#!/bin/sh\necho tool\n")
    (tmp_path / "tool").chmod(0o755)
    links = f"ln -s {tmp_path} out; ln -s {tmp_path}/secret link"
    script = f"cd /dev/shm; {links}; echo up; until [ -e go ]; do :; done; sh tool; sleep 1000"
    options: dict[str, Any] = {"user": user} if user else {}
    with nbcontainer.create("busybox", name, engine=engine) as box:
        box.start(script=script, wait_for="up", **options)
        box.put(tmp_path / "tool", "/dev/shm/tool")
        box.put(tmp_path / "source", "/dev/shm")
        box.put(b"mine", "/dev/shm/link")
        with pytest.raises(ValueUnavailable, match="cannot write /dev/shm/source in the container: Is a directory"):
            box.put(b"x", "/dev/shm/source")
        with pytest.raises(ImageNotFound, match="no file"):
            box.put(tmp_path / "missing", "/dev/shm/x")
        if user:
            with pytest.raises(ImageError, match="cannot write /srv/x in the container: Permission denied"):
                box.put(b"x", "/srv/x")
        else:
            box.put(b"kept", "/srv/kept")
        box.put(b"", "/dev/shm/go")
        while box.logs() != b"up\ntool\n":
            pass
        assert box.stop()
        assert [one.name for one in tmp_path.iterdir()] == ["source", "tool"]
        assert [str(change) for change in box.diff()] == ([] if user else ["C /srv", "A /srv/kept"])


def test_a_run_of_another_kind_takes_no_files(engine: Engine) -> None:
    """While `run` runs in another thread, the container is busy."""
    mark = marker()
    with nbcontainer.create("busybox", engine=engine) as box:
        other = threading.Thread(target=lambda: box.run(["sleep", mark], check=False))
        other.start()
        appear(mark, 1)
        with pytest.raises(ContainerBusy, match="is running in another thread"):
            box.put(b"x", "/x")
        box.stop()
        other.join()


def test_a_started_run_has_logs_and_a_result(engine: Engine) -> None:
    """The output and the files are there while it runs, and nothing else can be started in it."""
    mark = marker()
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(script=f"echo made > /made; echo up; echo err >&2; sleep {mark}; exit 3")
        fds = pidfds(appear(mark, 1))
        while len(box.logs()) < len("err up "):
            pass
        assert sorted(box.logs().splitlines()) == [b"err", b"up"]
        assert box.get("/made") == b"made\n"
        with pytest.raises(ContainerBusy):
            box.start(["true"])
        with pytest.raises(ContainerError, match=r"still runs after 0\.05 s"):
            nbcontainer.Container.wait(box, timeout=0.05)
        assert box.stop()
        assert all_dead(fds)
        assert not box.stop()


def test_a_start_that_is_refused_leaves_the_job_that_runs(engine: Engine, name: str) -> None:
    """A second start is refused, and the first one can still be joined, shares its network, and ends with a signal."""
    with nbcontainer.create("busybox", name, engine=engine) as box:
        box.start(
            script="trap 'echo saved > /saved; exit 5' TERM; echo up; while :; do sleep 0.01; done", wait_for="up"
        )
        for one in (box, nbcontainer.get(name, engine=engine)):
            with pytest.raises(ContainerBusy):
                one.start(["true"])
        assert engine.live[name].handle is not None
        assert nbcontainer.get(name, engine=engine).exec(["cat", "/proc/1/comm"]).text == "nbcontainer-ini\n"
        assert nbcontainer.run("busybox", ["true"], network=f"container:{name}", engine=engine).ok
        assert box.stop(timeout=60)
        assert box.run(["cat", "/saved"]).text == "saved\n"


def test_another_object_has_the_logs_and_the_end_of_a_job(engine: Engine, name: str) -> None:
    """What `get` returns knows the job of the container, of any process, while it runs and afterwards."""
    with nbcontainer.create("busybox", name, engine=engine) as box:
        other = nbcontainer.get(name, engine=engine)
        with pytest.raises(ContainerError, match="has no log"):
            other.logs()
        with pytest.raises(ContainerError, match="has no log"):
            other.wait()
        box.start(script="echo up; until [ -e /go ]; do sleep 0.01; done; exit 3")
        while not other.logs():
            pass
        with pytest.raises(ContainerError, match=r"still runs after 0\.01 s"):
            other.wait(timeout=0.01)
        with contextlib.suppress(ContainerError):  # it may end before the copy has reported
            box.put(b"", "/go")
        assert other.wait().exit_code == 3
        assert (other.logs(), nbcontainer.get(name, engine=engine).logs()) == (b"up\n", b"up\n")


def test_logs_are_followed_to_the_end_of_a_job(engine: Engine, name: str) -> None:
    """Output comes as it is written, by this object and by another one; closing the iterator leaves the job."""
    script = "echo one; echo two >&2; while read line; do echo $line; done < /pipe; exit 3"
    with nbcontainer.create("busybox", name, engine=engine) as box:
        box.run(["mkfifo", "/pipe"])
        box.start(script=script)
        first = box.logs(follow=True)
        found = [next(first)]
        while b"".join(event.data for event in found) != b"one\ntwo\n":
            found.append(next(first))
        assert {event.stream for event in found} == {"stdout", "stderr"}
        first.close()
        second = nbcontainer.get(name, engine=engine).logs(follow=True, tail=1)
        assert next(second).text == "two\n"
        box.exec(["sh", "-c", "echo three > /pipe"], check=False)  # the job may end first
        assert [event.text for event in second] == ["three\n"]
        assert [event.text for event in box.logs(follow=True, tail=0)] == []
        assert (box.logs(tail=2), box.logs(until=0), box.logs(since="1h", tail=1)) == (b"two\nthree\n", b"", b"three\n")
        assert box.wait().exit_code == 3


@pytest.mark.parametrize("bad", [-1, "1", "soon", float("nan"), True, 1j])
def test_a_wait_without_a_time_is_refused(engine: Engine, name: str, bad: Any) -> None:
    """The seconds of `stop` and `wait` are a number that is not negative, also for the job of another object."""
    with nbcontainer.create("busybox", name, engine=engine).start(["sleep", "1000"]) as box:
        for wait in (box.stop, box.wait, nbcontainer.get(name, engine=engine).wait):
            with pytest.raises(UsageError, match=r"invalid timeout: .*; write a number of seconds"):
                wait(timeout=bad)
        assert box.exec(["true"]).ok


def test_files_come_out_of_a_running_container(engine: Engine, tmp_path: Path) -> None:
    """What `put` wrote there is read again: also in a tmpfs or a volume. Links stay inside."""
    (tmp_path / "data").mkdir(mode=0o777)
    (tmp_path / "data").chmod(0o777)
    (tmp_path / "secret").write_text("secret")
    script = f"ln -s {tmp_path}/secret /leak; ln -s /dev/shm/f /link; mkfifo /fifo; mkdir /d; echo 1 >/d/a; echo up"
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(script=f"{script}; sleep 1000", volumes=[f"{tmp_path}/data:/data"])
        while not box.logs():
            pass
        before = set((engine.store.path / "tmp").iterdir())
        for path in ("/dev/shm/f", "/data/f", "/f"):
            box.put(b"x" * 100_000, path)
            assert box.get(path, tmp_path / "copy") == b"x" * 100_000
            assert (tmp_path / "copy").read_bytes() == b"x" * 100_000
        assert box.get("/link") == b"x" * 100_000
        for path in ("/leak", "/fifo", "/d", "/nowhere"):
            with pytest.raises(ValueUnavailable):
                box.get(path)
        assert box.get("/d", tmp_path / "copied") == b""
        assert (tmp_path / "copied" / "a").read_text() == "1\n"
        assert [path for path in (engine.store.path / "tmp").iterdir() if path.is_file() and path not in before] == []


@pytest.mark.parametrize("long", [1e30, 10**400, float("inf")])
def test_a_wait_may_be_as_long_as_one_likes(engine: Engine, long: float) -> None:
    """A time that Python's own waits refuse is like none."""
    with nbcontainer.create("busybox", engine=engine).start(script="sleep 0.1; exit 3") as box:
        assert box.wait(timeout=long).exit_code == 3


def test_the_end_of_the_block_ends_a_started_run(engine: Engine, name: str) -> None:
    """After the block nothing of it runs."""
    mark = marker()
    with nbcontainer.create("busybox", name, engine=engine).start(["sleep", mark]):
        fds = pidfds(appear(mark, 1))
    assert all_dead(fds)


def test_a_start_that_fails_raises(engine: Engine) -> None:
    """A program that is not there is an error of `start` or of `wait`; without a start, `logs` says so."""
    box: Any = nbcontainer.create("busybox", engine=engine)
    with pytest.raises(ContainerError, match="nothing was started"):
        box.logs()
    with pytest.raises(SetupFailed, match="cannot run no-such-program"):
        box.start(["no-such-program"]).wait()
    gc.collect()


def test_logs_are_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of endless output, the newest part is kept."""
    monkeypatch.setattr(log, "KEPT", 1 << 20)
    with nbcontainer.create("busybox", engine=engine) as box:
        box.start(script="yes | head -c 5000000; echo last").wait()
        assert box.logs().endswith(b"last\n")
        assert 1 << 19 < len(box.logs()) <= 2 << 20
