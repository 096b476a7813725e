"""`--storage`: a cell can write so much and no more, in bytes and in files, and its outcome says that it came to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nbcontainer
from nbcontainer.containers.cleanup import sweep
from nbcontainer.containers.commit import commit
from nbcontainer.containers.snapshot import frozen_copy
from nbcontainer.errors import ContainerBusy, NbcontainerError
from tests.requirements import require_linux
from tests.running import all_dead, descendants, pidfds

if TYPE_CHECKING:
    from nbcontainer.api import Result
    from nbcontainer.containers.engine import Engine

MIB = 1 << 20


def run(engine: Engine, script: str, **options: object) -> Result:
    options = {"storage": "4m", **options}
    return nbcontainer.run("busybox", script=script, engine=engine, check=False, **options)  # type: ignore[arg-type]


def left(engine: Engine) -> list[str]:
    """What is mounted below the store in the launcher's namespace."""
    mounts = Path(f"/proc/{engine.launcher.pid}/mountinfo").read_text().splitlines()
    return [line for line in mounts if f"tmp/{engine.store.session}." in line]


@pytest.mark.parametrize(
    "script",
    [
        "head -c 30m /dev/zero >/file",
        "mkdir -p /a/b; cp -a /bin /a/b; while cp -a /a/b/bin /a/b/bin$((i=i+1)) 2>/dev/null; do :; done; exit 1",
        "for i in $(seq 100000); do : >/f$i || exit 3; done",
        "for i in $(seq 100000); do mkdir /d$i || exit 3; done",
        "dd if=/dev/zero of=/etc/passwd bs=64k count=1000",
    ],
    ids=["one file", "copies", "100 000 files", "100 000 directories", "a file of the image's"],
)
def test_who_fills_it_is_told(engine: Engine, script: str) -> None:
    """Whatever it is filled with: the reason is the quota, with the limit; and nothing of it lasts."""
    ended = run(engine, script).outcome
    assert (ended.reason, ended.limit) == ("disk quota", 4 * MIB), ended
    assert ended.describe() == "storage limit reached (4 MiB)"
    assert run(engine, "ls / | wc -l").text == run(engine, "ls / | wc -l", storage="").text


def test_without_it_the_same_cell_writes_on(engine: Engine) -> None:
    """It is the limit that stops it: without one, 30 MiB are no matter."""
    assert run(engine, "head -c 30m /dev/zero >/file", storage="").outcome.ok


def test_who_stays_below_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    """3 of 4 MiB are no reason; volumes and /dev/shm do not count; df(1) in the cell says how much there is."""
    script = """
    head -c 3m /dev/zero >/file && head -c 9m /dev/zero >/volume/file && head -c 9m /dev/zero >/dev/shm/file || exit 4
    df -k / | sed -n 's/^overlay *\\([0-9]*\\) .*/\\1/p'; exit 3
    """
    result = run(engine, script, volumes=[f"{tmp_path}:/volume"])
    assert (result.outcome.reason, result.outcome.exit_code, result.text) == ("exited", 3, "4096\n")
    assert (tmp_path / "file").stat().st_size == 9 * MIB


def test_who_makes_room_again_is_left_alone(engine: Engine) -> None:
    """A cell that came to it, and has space at its end, ended by itself."""
    ended = run(engine, "head -c 30m /dev/zero >/file; rm /file; exit 5").outcome
    assert (ended.reason, ended.exit_code) == ("exited", 5)


def test_the_disk_has_none_of_it(engine: Engine) -> None:
    """While the cell runs, its files are in no directory of the store."""
    found: list[int] = []

    def look(_: bytes) -> None:
        files = [path for path in (engine.store.path / "tmp").rglob("*") if path.is_file()]
        found.append(sum(path.stat().st_blocks * 512 for path in files))

    run(engine, "head -c 3m /dev/zero >/file; echo there; read x </dev/null", stdout=look)
    assert found
    assert max(found) < MIB


def test_what_a_cell_left_is_there_for_the_next(engine: Engine, name: str) -> None:
    """Files, deletions, a directory in the place of one of the image's, links and owners are the container's layer."""
    require_linux(6, 6, "a tmpfs in which a directory of the image's can be made anew")
    script = """
    rm -rf /etc && mkdir /etc && echo new >/etc/new && rm /bin/vi && mkdir -m 700 /own && ln -s new /etc/link
    chown 7:8 /own 2>/dev/null; stat -c %u:%g /own
    """
    before = run(engine, script, name=name)
    assert before.outcome.ok
    after = run(engine, "ls /etc; cat /etc/link; [ -e /bin/vi ] || echo no vi; stat -c '%a %u:%g' /own", name=name)
    assert after.text == "hosts\nlink\nnew\nnew\nno vi\n700 " + before.text
    assert [bool(cell.layer) for cell in after.container.cells] == [True, False]


def test_a_file_of_any_name_is_there_for_the_next(engine: Engine, name: str) -> None:
    """The limits of image archives do not hold for it: names with `.wh.`, long ones that it removes, and any depth."""
    long, deep = "n" * 255, "d" * 250
    run(engine, f"mkdir /old; touch /old/{long}", name=name, storage="")
    script = f"""
    echo 1 >/.wh.x; rm /old/{long}; echo important >/result
    mkdir /deep; cd /deep; for i in $(seq 20); do mkdir {deep} && cd {deep}; done; echo bottom >file
    """
    assert run(engine, script, name=name).outcome.ok
    bottom = f"cd /deep; for i in $(seq 20); do cd {deep}; done; cat file"
    after = run(engine, f"cat /.wh.x /result; ls /old; {bottom}", name=name)
    assert after.text == "1\nimportant\nbottom\n"
    assert after.container.record.lost == 0


def test_it_holds_for_each_cell(engine: Engine, name: str) -> None:
    """What the cells before wrote does not count; changing a byte of theirs copies the file, and does."""
    run(engine, "head -c 3m /dev/urandom >/a", name=name)
    assert run(engine, "head -c 3m /dev/zero >/b", name=name).outcome.ok
    assert run(engine, "echo x >>/a; head -c 3m /dev/zero >/c", name=name).outcome.reason == "disk quota"


def test_a_commit_while_it_runs(engine: Engine, name: str, tmp_path: Path) -> None:
    """In its own notebook, the image has what is written so far; in another one, one line says why not."""
    seen: list[str] = []

    def look(_: bytes) -> None:
        with frozen_copy(engine, name) as copy:
            commit(copy, f"{name}:now")
        other = f"import nbcontainer.cli, sys; sys.exit(nbcontainer.cli.main(['commit', {name!r}, 'other']))"
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "NBCONTAINER_HOME": str(engine.store.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", other], env=environment, capture_output=True, text=True, check=False
        )
        seen.append(done.stderr)
        (tmp_path / "done").touch()

    script = "echo so far >/file; echo there; until [ -e /volume/done ]; do sleep 0.05; done"
    assert run(engine, script, name=name, volumes=[f"{tmp_path}:/volume"], stdout=look).outcome.ok
    assert nbcontainer.run(f"{name}:now", script="cat /file", engine=engine).text == "so far\n"
    assert "`--storage` layer is in another notebook" in seen[0]
    assert len(seen[0].splitlines()) == 1
    assert issubclass(ContainerBusy, NbcontainerError)


def test_nothing_is_left(engine: Engine) -> None:
    """The memory goes with the cell, however it ended, and so does its place in the store."""
    run(engine, "head -c 3m /dev/zero >/file")
    run(engine, "head -c 30m /dev/zero >/file")
    seen: list[list[str]] = []
    script = "head -c 3m /dev/zero >/file; echo up; sleep 60"
    run(engine, script, timeout=5, stdout=lambda _: seen.append(left(engine)))
    assert seen[0]
    with pytest.raises(NbcontainerError):
        run(engine, "true", workdir="/etc/passwd")
    engine.replace_last(None)
    engine.background.wait()
    assert left(engine) == []


def test_a_killed_notebook_leaves_nothing(engine: Engine) -> None:
    """kill -9 of the notebook ends the launcher, whose mount it is; the empty directory is swept."""
    script = (
        "import sys, nbcontainer\n"
        "from pathlib import Path\n"
        "from nbcontainer.containers.engine import Engine\n"
        "engine = Engine(Path(sys.argv[1]))\n"
        "nbcontainer.run('busybox', script='echo x >/x; echo up; sleep 1000', storage='4m', engine=engine,\n"
        "                stdout=lambda data: print(data.decode(), end='', flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    before = set((engine.store.path / "tmp").iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", script, str(engine.store.path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        below = pidfds(descendants(process.pid))
        process.kill()
    assert all_dead(below)
    sweep(engine)
    engine.background.wait()
    mine = f"{process.pid:x}."
    assert not [path for path in set((engine.store.path / "tmp").iterdir()) - before if path.name.startswith(mine)]


def test_it_is_shown(engine: Engine) -> None:
    """`inspect` has it among the limits, in bytes."""
    result = run(engine, "true")
    assert result.container.as_dict()["confinement"]["limits"]["storage"] == 4 * MIB
