"""The verbs for jobs do what podman's do: `logs`, `exec`, `cp`, `top`, `kill`, and their options."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.commands.verbs.exec_command import PROGRAM_EXEC
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.starting import start
from nbcontainer.errors import NbcontainerError
from tests.cli.conftest import PROGRAM
from tests.interop.conftest import Ours, run
from tests.requirements import require
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.interop.conftest import Podman

pytestmark = pytest.mark.slow

SCRIPT = r"""
mkdir -p /srv/data/sub/empty /srv/full /srv/into; cd /srv/data
echo one > a; echo two > sub/b; echo old > /srv/full/a; echo x > "with space"; ln -s a near; ln -s ../a sub/up
trap 'echo caught' USR1
printf 'first\nsecond\nthird\n\nfifth\nthe end\n'
while :; do sleep 0.02; done
"""
LOOK = "echo $X; pwd; id -u; cat; exit 7"


class Peer:
    """A container of that script, in podman and as a job of ours."""

    def __init__(self, engine: Engine, podman: Podman) -> None:
        self.ours = Ours(engine)
        self.engine = engine
        self.podman = podman

    def both(self, *words: str, data: bytes = b"") -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        """Exit codes and standard outputs of a command of both programs: ours, podman's."""
        env = {**os.environ, "NBCONTAINER_HOME": str(self.engine.store.path)}
        own = subprocess.run([*PROGRAM, *words], env=env, input=data, capture_output=True, check=False)
        command = ["podman", *self.podman._options, *words]
        env["CONTAINERS_CONF"] = str(self.podman._conf)
        theirs = subprocess.run(command, env=env, input=data, capture_output=True, check=False)
        return (own.returncode, own.stdout), (theirs.returncode, theirs.stdout)


@pytest.fixture(scope="module")
def peer(
    store_path: Path, _containers_work: str, podman: Podman, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Peer]:
    """Both containers, when they have written all of their output."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    engine = Engine(store_path)
    made = Peer(engine, podman)
    archive = tmp_path_factory.mktemp("peer") / "busybox.tar"
    made.ours("save", "busybox", "-o", archive)
    podman("load", "-i", archive)
    podman("run", "-d", "--name", "peer", "--network", "none", "docker.io/library/busybox", "sh", "-c", SCRIPT)
    job = start(engine, Request("busybox", "peer", ("sh", "-c", SCRIPT)), wait_for="the end")
    deadline = time.monotonic() + DEADLINE
    while "the end" not in podman("logs", "peer"):
        assert time.monotonic() < deadline
    yield made
    job.stop(0)
    job.container.remove()
    engine.close()
    podman("rm", "-f", "-t", "0", "peer")


def works(program: Callable[..., str], *words: str) -> bool:
    """Whether a command ends well."""
    try:
        program(*words)
    except (NbcontainerError, AssertionError):
        return False
    return True


def test_logs_choose_the_same_lines(peer: Peer) -> None:
    """An empty line is a line; `--tail -1` is all of them, and no line is newer than a time to come."""
    for options in ((), ("--tail", "3"), ("--tail", "0"), ("--tail", "-1"), ("--since", "2100-01-01T00:00:00Z")):
        assert peer.ours("logs", *options, "peer") == peer.podman("logs", *options, "peer").removesuffix("\n"), options


def test_times_of_logs_are_those_of_podman(peer: Peer) -> None:
    """`-t` puts a time in RFC 3339 before each line."""
    own, theirs = (text.splitlines() for text in (peer.ours("logs", "-t", "peer"), peer.podman("logs", "-t", "peer")))
    assert [line.partition(" ")[2] for line in own] == [line.partition(" ")[2] for line in theirs]
    first, second = (datetime.fromisoformat(lines[0].partition(" ")[0]) for lines in (own, theirs))
    assert abs((first - second).total_seconds()) < 3600


@pytest.mark.parametrize(
    "command",
    [("no-such-program",), ("/etc/passwd",), ("/srv",), ("sh", "-c", "kill -KILL $$"), ("sh", "-c", LOOK)],
    ids=["missing", "not executable", "directory", "killed", "ran"],
)
def test_exec_ends_as_podmans(peer: Peer, command: tuple[str, ...]) -> None:
    """Output and exit code of a program, and the codes of one that is missing or that cannot be executed."""
    options = ("-i",) if command[-1] == LOOK else ()
    own, theirs = peer.both("exec", *options, "-e", "X=1", "-w", "/srv", "peer", *command, data=b"typed\n")
    assert own == theirs


def tree_of(place: Path) -> dict[str, str]:
    """What is in a directory: files by their contents, links by their targets."""
    return {str(path.relative_to(place)): described(path) for path in place.rglob("*")}


def described(path: Path) -> str:
    """A file's content, or what it is."""
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return "directory" if path.is_dir() else path.read_text()


def scene(place: Path) -> Path:
    """A directory with a file and a directory."""
    (place / "there").mkdir(parents=True)
    (place / "there" / "a").write_text("old")
    (place / "file").write_text("old")
    return place


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/srv/data/a", "there"),
        ("/srv/data/a", "new"),
        ("/srv/data", "there"),
        ("/srv/data", "new"),
        ("/srv/data/", "there"),
        ("/srv/data/.", "there"),
        ("/srv/data/.", "new"),
        ("/srv/data/with space", "there/"),
        ("/srv/data/a", "none/deep"),
        ("/srv/data/a", "new/"),
        ("/srv/data/a", "file"),
        ("/srv/data", "file"),
        ("/srv/none", "new"),
        ("srv/data/a", "new"),
    ],
)
def test_a_copy_out_has_the_names_of_podman(peer: Peer, tmp_path: Path, source: str, target: str) -> None:
    """The same files have the same names, or both fail and change nothing.

    A directory to `new/` is another matter: podman 4.3 refuses it, Docker makes the directory.
    """
    own, theirs = (scene(tmp_path / kind) for kind in ("own", "theirs"))
    mine = works(peer.ours, "cp", f"peer:{source}", f"{own}/{target}")
    assert works(peer.podman, "cp", f"peer:{source}", f"{theirs}/{target}") == mine
    assert tree_of(own) == tree_of(theirs)


def test_copies_in_have_the_names_of_podman(peer: Peer, tmp_path: Path) -> None:
    """The same files have the same names, or both fail and change nothing."""
    place = scene(tmp_path / "place")
    for source, target in (
        ("there/a", "/srv/into"),
        ("there/a", "/srv/into/named"),
        ("there", "/srv/into"),
        ("there", "/srv/into/fresh"),
        ("there/.", "/srv/into"),
        ("there/.", "/srv/into/fresh2"),
        ("file", "/srv/full/a"),
        ("there", "/srv/full/a"),
        ("file", "/srv/none/deep"),
        ("none", "/srv/into"),
    ):
        words = ("cp", f"{place}/{source}", f"peer:{target}")
        assert works(peer.ours, *words) == works(peer.podman, *words), (source, target)
    look = "cd /srv; find into full | sort; cat full/a into/a into/named into/*/a 2>/dev/null"
    own, theirs = peer.both("exec", "peer", "sh", "-c", look)
    assert own == theirs


def test_tars_have_the_names_of_podman(peer: Peer) -> None:
    """`cp NAME:PATH -`: names, kinds, owners and modes in the tar, of a directory, a file, and a content."""
    for path in ("/srv/data", "/srv/data/a", "/srv/data/sub/."):
        facts = []
        for code, data in peer.both("cp", f"peer:{path}", "-"):
            assert code == 0
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                found = {(one.name.removeprefix("./"), one.type, one.linkname, one.uid, one.mode) for one in tar}
                facts.append({fact for fact in found if fact[0] not in ("", ".")})
        assert facts[0] == facts[1], path


def test_a_tar_goes_to_the_same_place(peer: Peer) -> None:
    """`cp - NAME:PATH` unpacks below a directory, and refuses one that is missing."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("packed/file")
        member.size, member.mode = 3, 0o640
        tar.addfile(member, io.BytesIO(b"new"))
    for target, good in (("/srv/into", True), ("/srv/none", False)):
        own, theirs = peer.both("cp", "-", f"peer:{target}", data=data.getvalue())
        assert (own[0] == 0, theirs[0] == 0) == (good, good)
    own, theirs = peer.both("exec", "peer", "sh", "-c", "cd /srv/into/packed; stat -c '%u %a' file; cat file")
    assert own == theirs == (0, b"0 640\nnew")


def test_top_lists_the_program(peer: Peer) -> None:
    """The program of the container is in both lists, with its arguments."""
    rows: Any = VERBS["top"].run(Invocation(peer.engine, parse(VERBS["top"].command, ["peer"]))).as_json()
    own = [" ".join(row["command"].split()) for row in rows]
    theirs = " ".join(peer.podman("top", "peer", "args").split())
    program = " ".join(("sh", "-c", *SCRIPT.split()))
    assert program in own
    assert program in theirs


def test_a_signal_reaches_the_program(peer: Peer) -> None:
    """`kill -s` runs the program's trap, in both; the log has it."""
    for program in (peer.ours, peer.podman):
        program("kill", "-s", "USR1", "peer")
        deadline = time.monotonic() + DEADLINE
        while "caught" not in program("logs", "peer"):
            assert time.monotonic() < deadline


@pytest.mark.parametrize("verb", ["logs", "stop", "kill", "wait", "top", "port"])
def test_a_container_that_is_missing_is_an_error_in_both(peer: Peer, verb: str) -> None:
    """No verb ends well."""
    assert (works(peer.ours, verb, "missing"), works(peer.podman, verb, "missing")) == (False, False)


@pytest.mark.parametrize("verb", "logs exec cp stop kill wait top stats port restart".split())
def test_each_option_of_podman_is_there_or_has_an_answer(verb: str) -> None:
    """The options are those that podman's help text lists; `-n` of `logs` is Docker's."""
    require("podman")
    command = PROGRAM_EXEC if verb == "exec" else VERBS[verb].command
    known = command.spelled.keys() | command.answers.keys()
    listed = re.findall(r"^ +(?:(-\w), )?(--[a-z-]+)", run("podman", verb, "--help"), re.MULTILINE)
    assert [flag for flags in listed for flag in flags if flag and flag not in known] == []
