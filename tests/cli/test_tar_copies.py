"""`nbcontainer cp` with `-`: a tar on standard output or input, of containers that run and that do not."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.jobs.starting import start
from nbcontainer.containers.lookup import get
from tests.cli.conftest import PROGRAM
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine
    from tests.cli.conftest import Program

MADE = (
    "mkdir -p /srv/data/sub; mkdir -m 1777 /srv/open; cd /srv/data; echo one > a; echo two > sub/b; chmod 750 sub/b; "
    "ln a hard; ln -s a near; mkfifo pipe"
)


@pytest.fixture(params=["stopped", "running"])
def box(request: pytest.FixtureRequest, engine: Engine) -> Iterator[str]:
    """A container `box` with files, which has ended, or which runs a job."""
    if request.param == "stopped":
        run_script(engine, MADE, name="box")
        yield "box"
    else:
        job = start(engine, Request("busybox", "box", script=f"{MADE}; echo ready; exec sleep 1000"), wait_for="ready")
        yield "box"
        job.stop(0)
        engine.jobs.pop("box")
    get(engine, "box").remove()


def tar_out(program: Program, *words: str) -> tarfile.TarFile:
    """The tar that `cp` writes."""
    command = [*PROGRAM, "cp", *words, "-"]
    done = subprocess.run(command, env=program.env, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return tarfile.open(fileobj=io.BytesIO(done.stdout))


def tar_in(program: Program, data: bytes, target: str) -> subprocess.CompletedProcess[bytes]:
    """What `cp` did with a tar on its standard input."""
    command = [*PROGRAM, "cp", "-", target]
    return subprocess.run(command, env=program.env, input=data, capture_output=True, check=False)


def archive(*members: tarfile.TarInfo, mode: str = "w") -> bytes:
    """A tar of these members; files have three bytes."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"new") if member.isreg() else None)
    return data.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **facts: object) -> tarfile.TarInfo:
    """A member of a tar."""
    found = tarfile.TarInfo(name)
    found.type = kind
    for key, value in facts.items():
        setattr(found, key, value)
    return found


def test_a_directory_comes_out_as_a_tar(program: Program, box: str) -> None:
    """Names begin with the directory's own; modes, hard links, links and pipes are kept."""
    tar = tar_out(program, f"{box}:/srv/data")
    names = ["data", "data/a", "data/hard", "data/near", "data/pipe", "data/sub", "data/sub/b"]
    assert [one.name for one in tar] == names
    assert tar.getmember("data/hard").linkname == "data/a"
    assert tar.getmember("data/near").linkname == "a"
    assert tar.getmember("data/pipe").isfifo()
    assert tar.getmember("data/sub/b").mode == 0o750
    found = tar.extractfile("data/sub/b")
    assert found is not None
    assert found.read() == b"two\n"


@pytest.mark.slow
def test_names_of_a_tar_follow_docker(program: Program, box: str) -> None:
    """A file is one entry; with `/.` entries have their names in the directory; `-L` follows a link."""
    assert tar_out(program, f"{box}:/srv/data/sub/b").getnames() == ["b"]
    assert tar_out(program, f"{box}:/srv/data/sub/.").getnames() == ["b"]
    assert tar_out(program, f"{box}:/srv/data/near").getmember("near").issym()
    assert tar_out(program, "-L", f"{box}:/srv/data/near").getmember("near").isreg()


@pytest.mark.parametrize("mode", ["w", pytest.param("w:gz", marks=pytest.mark.slow)])
def test_a_tar_goes_in(program: Program, engine: Engine, box: str, mode: str) -> None:
    """Files are made and replaced below the directory, whose own mode stays; the tar may be compressed."""
    data = archive(
        member(".", tarfile.DIRTYPE, mode=0o700),
        member("deep", tarfile.DIRTYPE, mode=0o751),
        member("deep/file", mode=0o640),
        member("link", tarfile.SYMTYPE, linkname="deep/file"),
        mode=mode,
    )
    done = tar_in(program, data, f"{box}:/srv/open")
    assert (done.returncode, done.stdout) == (0, f"copied 4 entries of a tar to {box}:/srv/open\n".encode())
    look = "stat -c %a,%F /srv/open /srv/open/deep /srv/open/deep/file; cat /srv/open/link"
    inside = ("exec", box) if box in engine.jobs else ("run", "--name", box, "busybox")
    shown = program.good(*inside, "sh", "-c", look)
    assert shown == "1777,directory\n751,directory\n640,regular file\nnew"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", b"the archive is empty"),
        (b"garbage" * 100, b"the file is not a tar archive"),
        (archive(member("../../out")), b"the archive tries to leave its root"),
        (archive(member("x", tarfile.LNKTYPE, linkname="/etc/passwd")), b"which is not in the archive before it"),
    ],
    ids=["empty", "garbage", "dots", "hard link"],
)
def test_a_bad_tar_is_one_line(program: Program, box: str, data: bytes, line: bytes) -> None:
    """It says what is wrong, and the exit code is 1."""
    done = tar_in(program, data, f"{box}:/srv/open")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert line in done.stderr


@pytest.mark.slow
def test_a_link_of_a_tar_leads_nowhere_else(program: Program, box: str) -> None:
    """A file below a link of the same tar stays below the target directory."""
    data = archive(member("out", tarfile.SYMTYPE, linkname="/tmp"), member("out/planted"))
    assert tar_in(program, data, f"{box}:/srv/open").returncode == 0
    assert "planted" not in tar_out(program, f"{box}:/tmp").getnames()
    assert "open/tmp/planted" in tar_out(program, f"{box}:/srv/open").getnames()


@pytest.mark.slow
def test_a_copy_that_cannot_be_done_is_one_line(program: Program, engine: Engine) -> None:
    """A missing path or container, two `-`, a full disk and a terminal; a reader that leaves ends it silently."""
    run_script(engine, "head -c 300000 /dev/urandom > /big; true", name="box")
    assert program.fails(1, "cp", "box:/none", "-").startswith("no such file in the container: /none")
    assert program.fails(1, "cp", "-", "box:/none", stdin="").startswith("no such directory in the container: /none")
    assert program.fails(1, "cp", "missing:/a", "-").startswith("no such container: 'missing'")
    assert program.fails(2, "cp", "-", "-").startswith("cp: one of the two paths must be in a container")
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run([*PROGRAM, "cp", "box:/big", "-"], env=program.env, stdout=full, stderr=-1, check=False)
    assert done.stderr.startswith(b"nbcontainer: cannot write to standard output: No space left on device")
    control, terminal = os.openpty()
    done = subprocess.run([*PROGRAM, "cp", "box:/big", "-"], env=program.env, stdout=terminal, stderr=-1, check=False)
    assert done.stderr.startswith(b"nbcontainer: cp: `-` is a tar, and this is a terminal; use a pipe or a file")
    os.close(control)
    os.close(terminal)
    with subprocess.Popen([*PROGRAM, "cp", "box:/big", "-"], env=program.env, stdout=-1, stderr=-1) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.read(10)
        reader.stdout.close()
        assert reader.stderr.read() == b""
    assert reader.returncode == 141
    get(engine, "box").remove()
