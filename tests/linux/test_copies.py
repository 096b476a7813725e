"""`cp`: files and directories into containers and out of them, stopped and running."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.active import running_containers
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ContainerBusy, NbcontainerError, UsageError, ValueUnavailable
from tests.running import appear, marker, run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine

    Copy = Callable[..., str]

MADE = (
    "mkdir -p /srv/data/sub/empty; cd /srv/data; echo one > a; echo two > sub/b; chmod 700 sub; chmod 4755 a; "
    "ln -s a near; ln -s ../a sub/up; ln -s /etc/passwd far; ln -s ../../a sub/out; mkfifo pipe; "
    "touch -d 2001-02-03 sub/b"
)


@pytest.fixture
def cp(engine: Engine) -> Copy:
    """Runs the verb `cp`, and returns its line."""

    def run(*words: str) -> str:
        verb = VERBS["cp"]
        return str(verb.run(Invocation(engine, parse(verb.command, words))))

    return run


@pytest.fixture(params=["stopped", "running"])
def box(request: pytest.FixtureRequest, engine: Engine) -> Iterator[str]:
    """A container `box` with files, which has ended, or which runs a job."""
    if request.param == "stopped":
        run_script(engine, MADE, name="box")
        yield "box"
    else:
        job = start(engine, Request("busybox", "box", script=f"{MADE}; touch /ready; exec sleep 1000"))
        yield "box"
        job.stop(0)
    get(engine, "box").remove()


def ready(engine: Engine, cp: Copy, tmp_path: Path) -> None:
    """Waits until a running box has made its files."""
    while "box" in engine.live:
        try:
            cp("box:/ready", str(tmp_path / "ready"))
        except ValueUnavailable:
            continue
        return


def look(engine: Engine, script: str) -> list[str]:
    """The lines of a script in the box, after it has ended."""
    if (job := engine.live.get("box")) is not None:
        job.stop(0)
    return run_script(engine, script, image="", name="box").lines


def test_a_directory_comes_out_whole(engine: Engine, cp: Copy, box: str, tmp_path: Path) -> None:
    """Files, directories, modes, times and links inside it; no setuid bit, pipe, or link that leads out of it."""
    ready(engine, cp, tmp_path)
    said = cp("box:/srv/data", str(tmp_path / "out"))
    assert "1 special file was left out" in said
    assert "2 links that lead out of the copy were left out" in said
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "a",
        "near",
        "sub",
        "sub/b",
        "sub/empty",
        "sub/up",
    ]
    assert ((out / "a").read_text(), (out / "sub/b").read_text()) == ("one\n", "two\n")
    assert ((out / "near").readlink().name, str((out / "sub/up").readlink())) == ("a", "../a")
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE((out / "sub").stat().st_mode) == 0o700
    assert (out / "sub/b").stat().st_mtime < 10**9
    assert {path.lstat().st_uid for path in out.rglob("*")} == {os.geteuid()}


def test_names_follow_docker(engine: Engine, cp: Copy, box: str, tmp_path: Path) -> None:
    """Into a directory under its own name, content alone by `/.`, over existing files, and a file under a new name."""
    ready(engine, cp, tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    cp("box:/srv/data/sub", str(there))
    assert (there / "sub/b").read_text() == "two\n"
    cp("box:/srv/data/sub/.", str(there))
    assert (there / "b").read_text() == "two\n"
    (there / "a").write_text("old")
    cp("box:/srv/data/a", str(there))
    assert (there / "a").read_text() == "one\n"
    cp("box:/srv/data/a", str(there / "new"))
    assert (there / "new").read_text() == "one\n"
    (there / "new").write_text("old")
    cp("box:/srv/data/a", str(there / "new"))
    assert (there / "new").read_text() == "one\n"
    with pytest.raises(NbcontainerError, match="Not a directory"):
        cp("box:/srv/data/a", f"{there / 'new'}/")
    cp("-L", "box:/srv/data/far", str(there / "passwd"))
    assert "root" in (there / "passwd").read_text()
    (there / "new").unlink()
    (there / "new").mkdir()
    (there / "new/data").write_text("a file in the way")
    with pytest.raises(NbcontainerError, match="cannot write"):
        cp("box:/srv/data", str(there / "new"))
    assert not list(there.rglob(".nbcontainer*"))


def test_a_directory_may_be_copied_to_a_new_one_with_a_slash(
    engine: Engine, cp: Copy, box: str, tmp_path: Path
) -> None:
    """As by Docker, the new directory is the copy, and not one around it; a file needs a directory that is there."""
    ready(engine, cp, tmp_path)
    cp("box:/srv/data/sub", f"{tmp_path}/new/")
    assert (tmp_path / "new/b").read_text() == "two\n"
    cp("box:/srv/data/sub", f"{tmp_path}/new/")
    assert (tmp_path / "new/sub/b").read_text() == "two\n"
    cp(str(tmp_path / "new"), "box:/made/")
    assert "two" in look(engine, "cat /made/b /made/sub/b")


def test_a_time_that_is_too_late_is_the_latest(engine: Engine, cp: Copy, box: str, tmp_path: Path) -> None:
    """File systems have times after the year 2262, which nanoseconds in 64 bits do not: such a file is copied, too."""
    ready(engine, cp, tmp_path)
    (tmp_path / "late").write_text("late\n")
    os.utime(tmp_path / "late", (9_999_999_999, 9_999_999_999))
    assert (tmp_path / "late").stat().st_mtime == 9_999_999_999
    cp(str(tmp_path / "late"), "box:/srv/late")
    cp("box:/srv/late", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "late\n"
    assert int((tmp_path / "back").stat().st_mtime) == (1 << 63) // 10**9


def test_files_go_in(engine: Engine, cp: Copy, box: str, tmp_path: Path) -> None:
    """A directory with its files, links and modes goes in; it belongs to the container's user, and is a change."""
    ready(engine, cp, tmp_path)
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_bytes(bytes(range(256)) * 1000)
    (source / "tool").write_text("#!/bin/sh\necho ran\n")
    (source / "tool").chmod(0o755)
    (source / "link").symlink_to("deep/file")
    os.mkfifo(source / "pipe")
    assert cp(str(source), "box:/opt") == "copied 4 files to box:/opt"
    cp(f"{source}/.", "box:/srv/data")
    cp(str(source / "tool"), "box:/usr/local-tool")
    cp(str(source / "tool"), "box:/srv/data/")
    lines = look(
        engine,
        "/usr/local-tool; /srv/data/tool; cat /srv/data/link | md5sum; stat -c %u:%g /srv/data/deep/file; "
        "cat /srv/data/a; "
        "ls -d /opt /opt/source /srv/data/pipe 2>/dev/null",
    )
    digest = hashlib.md5(bytes(range(256)) * 1000).hexdigest()
    assert lines[:5] == ["ran", "ran", f"{digest}  -", "0:0", "one"]
    assert "/opt" in lines
    assert any(str(change) == "A /srv/data/deep" for change in _changes(engine))


def _changes(engine: Engine) -> list[object]:
    from nbcontainer.containers.diff import diff

    return [*diff(get(engine, "box"))]


REFUSED = (
    (("box:/missing", "x"), "no such file in the container: /missing"),
    (("box:/srv/data/pipe", "x"), "cannot copy /srv/data/pipe in the container: it is a pipe"),
    (("box:/srv/data/far", "x"), "cannot copy a link that leads out of the copy"),
    (("box:/srv/data/a", "missing/x"), "cannot write"),
    (("box:/srv/data/a", "missing/"), "No such file or directory; mkdir -p"),
    (("box:../x", "x"), "invalid path in the container"),
    (("missing", "box:/x"), "cannot read"),
    (("tool", "box:/missing/x"), "no such directory in the container: /missing"),
    (("tool", "box:/srv/data/a/x"), "no such directory in the container: /srv/data/a"),
    (("folder", "box:/srv/data/a"), "cannot write /srv/data/a in the container"),
    (("a", "b"), "one of the two paths must be in a container"),
    (("box:/a", "box:/b"), "one of the two paths must be on the host; copy to a path of the host first"),
    (("box@1:/a", "b"), "make a container of that state first: `checkout box@1 --name NAME`"),
    (("tool", "box:/missing/"), "in the container: No such file or directory"),
    (("box:/a", "-"), "a notebook has no standard input and output for a tar; use a terminal"),
    (("none:/a", "x"), "no such container: 'none'"),
)


def test_what_cannot_be_copied_is_one_line(
    engine: Engine, cp: Copy, box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the path, and nothing is left half done."""
    ready(engine, cp, tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/tool").write_text("x")
    (tmp_path / "work/folder").mkdir()
    for words, error in REFUSED:
        with pytest.raises(NbcontainerError) as raised:
            cp(*words)
        assert error in str(raised.value), words
        assert "\n" not in str(raised.value)
        assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["folder", "tool"], words


def test_a_cell_that_cannot_be_joined_is_read_and_not_written(engine: Engine, cp: Copy, tmp_path: Path) -> None:
    """Of an ordinary cell's container the present state is copied; nothing is copied into it."""
    mark = marker()
    cell = threading.Thread(target=run_script, args=(engine, f"echo x > /made; sleep {mark}"), kwargs={"name": "plain"})
    cell.start()
    appear(mark, 1)
    while "plain" not in running_containers(engine.store):
        pass
    cp("plain:/made", str(tmp_path / "made"))
    assert (tmp_path / "made").read_text() == "x\n"
    with pytest.raises(ContainerBusy):
        cp(str(tmp_path / "made"), "plain:/x")
    get(engine, "plain").stop()
    cell.join()
    get(engine, "plain").remove()


def test_a_job_of_another_user_writes_with_that_users_rights(engine: Engine, cp: Copy, tmp_path: Path) -> None:
    """In a job with `-u`, a copy has the rights of the job's program, and no more."""
    if engine.single_id:
        pytest.skip("a single id has one user")
    request = Request("busybox", "box", script="exec sleep 1000", options=run_options({"user": "1000"}))
    job = start(engine, request)
    (tmp_path / "file").write_text("x")
    cp(str(tmp_path / "file"), "box:/tmp/file")
    with pytest.raises(ValueUnavailable, match="Permission denied"):
        cp(str(tmp_path / "file"), "box:/etc/file")
    job.stop(0)
    get(engine, "box").remove()


def test_a_copy_is_refused_without_two_paths(cp: Copy) -> None:
    """One path is not enough."""
    with pytest.raises(UsageError):
        cp("box:/a")
