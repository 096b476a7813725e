"""A store on a file system that is full, or has no inode left: one line, nothing half-done, and then it goes on."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nbcontainer import api
from nbcontainer.commands.command import Invocation
from nbcontainer.commands.containers import VERBS
from nbcontainer.commands.grammar import parse
from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.engine import Engine
from nbcontainer.containers.jobs.starting import start
from nbcontainer.errors import ContainerIncomplete, NbcontainerError
from nbcontainer.store.journals import Journals
from tests.faults import acts, checks
from tests.requirements import require_root
from tests.running import run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def small(tmp_path: Path, engine: Engine) -> Iterator[Path]:
    """A tmpfs of 32 MiB and 2000 inodes (tmpfs(5))."""
    require_root()
    assert engine
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=2000,mode=755", "small", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def leave_bytes(folder: Path, number: int) -> None:
    """Fills the file system that `folder` is on, but for so many bytes."""
    with (folder / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass
    if (size := (folder / "filling").stat().st_size) > number:
        with (folder / "filling").open("r+b") as file:
            file.truncate(size - number)


def leave_inodes(folder: Path, number: int) -> None:
    """Takes all inodes of the file system that `folder` is on, but for so many."""
    made = []
    with contextlib.suppress(OSError):
        for count in itertools.count():
            (folder / f"filling-{count}").touch()
            made.append(folder / f"filling-{count}")
    for path in made[:number]:
        path.unlink()


@pytest.mark.parametrize("leave", [leave_bytes, leave_inodes])
def test_a_full_store_is_one_line(small: Path, leave: object) -> None:
    """Wherever the space ends in two cells, a commit and an import: an error of the package's own, and no rubbish."""
    acts.make_inputs(small / "inputs")
    engine = Engine(small / "store")
    said = set()
    try:
        chosen = [acts.acts(engine)[name] for name in ("named", "import")]
        for act in chosen:
            assert act.do(engine, small / "inputs") == act.says
            act.undo(engine)
        sizes = (0, 1 << 12, 1 << 14, 1 << 16) if leave is leave_bytes else (0, 1, 3, 5, 8, 13, 21, 34)
        for size, act in itertools.product(sizes, chosen):
            folder = small / "fillings"
            folder.mkdir()
            leave(folder, size)  # type: ignore[operator]
            try:
                act.do(engine, small / "inputs")
            except NbcontainerError as error:
                said.add(str(error))
            subprocess.run(["rm", "-r", folder], check=True)
            act.undo(engine)
            for _ in range(2):
                engine.background.wait()
                prune(engine)
            checks.verified(engine)
            assert acts.PLAIN.do(engine, small / "inputs") == "sound"
    finally:
        engine.close()
    assert any("No space left on device" in line for line in said)
    assert not any("\n" in line for line in said)
    assert [str(path) for name in ("tmp", "containers") for path in (small / "store" / name).iterdir()] == []


def no_space(*_: object) -> None:
    """Fails as write(2) does on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def said(engine: Engine, verb: str, *words: str) -> str:
    """The text of a verb's view."""
    return str(VERBS[verb].run(Invocation(engine, parse(VERBS[verb].command, list(words)))))


@pytest.mark.parametrize("room", [1 << 20, 0], ids=["the record fits", "not even the record fits"])
def test_a_cell_whose_changes_do_not_fit_is_incomplete(small: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the cell or nothing is kept; `ps` and `history` show it, `commit` needs --force, and `undo` cures it."""
    with contextlib.closing(Engine(small / "store")) as engine:
        run_script(engine, "echo one > /f", name="box")
        engine.background.wait()
        folder = small / "fillings"
        folder.mkdir()
        leave_bytes(folder, room)
        if not room:  # not even in the last block of the journal
            monkeypatch.setattr(Journals, "append", no_space)
        with pytest.raises(NbcontainerError, match="No space left on device"):
            run_script(engine, "echo two > /f; head -c 6m /dev/urandom > /large", name="box", storage=8 << 20)
        monkeypatch.undo()
        subprocess.run(["rm", "-r", folder], check=True)
        assert "incomplete" in said(engine, "ps")
        assert "incomplete" in said(engine, "history", "box")
        with pytest.raises(ContainerIncomplete, match="--force"):
            said(engine, "commit", "box", "image")
        with pytest.raises(ContainerIncomplete):
            api.commit(api.get("box", engine=engine), "image")
        said(engine, "commit", "--force", "box", "image")
        assert run_script(engine, "cat /f; ls /large", image="image").text == "one"
        assert run_script(engine, "cat /f", name="box").text == "one"
        assert "incomplete" in said(engine, "ps")
        said(engine, "undo", "box")
        assert "incomplete" not in said(engine, "ps")
        said(engine, "commit", "box", "image")
        assert run_script(engine, "cat /f", name="box").text == "one"


@pytest.mark.parametrize("full", [leave_bytes, leave_inodes])
@pytest.mark.parametrize("words", ["rmi large", "rm box", "prune"])
def test_a_completely_full_store_can_be_emptied(small: Path, full: object, words: str) -> None:
    """With neither a byte nor an inode left, a new process removes an image, a container and unreferenced data."""
    with contextlib.closing(Engine(small / "store")) as engine:
        run_script(engine, "head -c 3m /dev/urandom > /f", name="box")
        if words == "rmi large":
            said(engine, "commit", "box", "large")
            said(engine, "rm", "box")
    if words == "prune":
        (small / "store" / "layers" / "000000.1").mkdir()
        (small / "store" / "layers" / "000000.1" / "file").write_bytes(bytes(3 << 20))
    folder = small / "fillings"
    folder.mkdir()
    leave_bytes(folder, 0)
    full(folder, 0)  # type: ignore[operator]
    before = os.statvfs(small).f_bfree
    verb, *operands = words.split()
    done = subprocess.run(
        [sys.executable, "-m", "nbcontainer", "--store", small / "store", verb, *operands],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.statvfs(small).f_bfree - before > (2 << 20) // 4096
    subprocess.run(["rm", "-r", folder], check=True)
    with contextlib.closing(Engine(small / "store")) as engine:
        checks.verified(engine)
        assert run_script(engine, "echo works").text == "works"


@pytest.mark.parametrize("full", [leave_bytes, leave_inodes])
def test_verbs_that_need_no_space_work_on_a_completely_full_store(small: Path, full: object) -> None:
    """A cell is undone, a job's log is shown, the job is stopped, and a volume is removed, which frees its space."""
    with contextlib.closing(Engine(small / "store")) as engine:
        run_script(engine, "echo > /f", name="box")
        run_script(engine, "echo > /g", name="box")
        api.run("busybox", script="head -c 4m /dev/urandom > /data/f", volumes=["data:/data"], engine=engine)
        folder = small / "fillings"
        folder.mkdir()
        job = start(engine, Request("busybox", "job", script="echo said; exec sleep 1000"))
        try:
            while "said" not in said(engine, "logs", "job"):
                job.join(0.1)
            leave_bytes(folder, 0)
            full(folder, 0)  # type: ignore[operator]
            before = os.statvfs(small).f_bfree
            assert "said" in said(engine, "logs", "job")
            said(engine, "undo", "box")
            said(engine, "stop", "job")
            said(engine, "volume", "rm", "data")
            said(engine, "prune")
            engine.background.wait()
            assert os.statvfs(small).f_bfree - before > (3 << 20) // 4096
        finally:
            job.kill()
            subprocess.run(["rm", "-r", folder], check=True)
        assert run_script(engine, "ls /f /g", name="box").text == "/f"


@pytest.mark.parametrize("full", [leave_bytes, leave_inodes])
def test_results_of_cached_cells_on_a_completely_full_store(small: Path, tmp_path: Path, full: object) -> None:
    """`prune` and `verify --remove` remove them; `cache export` and `import`, which need space, are one line each."""
    script = "head -c 3m /dev/urandom > /f; cat /proc/sys/kernel/random/uuid"
    with contextlib.closing(Engine(small / "store")) as engine:
        first = run_script(engine, script, name="box", cache="always").text
        engine.background.wait()
        said(engine, "cache", "export", str(tmp_path / "before"))
        damaged = next((small / "store" / "cache").iterdir()).with_name("f" * 64)
        damaged.write_bytes(b"damaged")
        folder = small / "fillings"
        folder.mkdir()
        leave_bytes(folder, 0)
        full(folder, 0)  # type: ignore[operator]
        for words in (("export", "after"), ("import", "before")):  # both unpack or pack layers in the store
            with pytest.raises(NbcontainerError, match="No space left on device; free some space: `%container prune`"):
                said(engine, "cache", words[0], str(tmp_path / words[1]))
        assert not (tmp_path / "after").exists()
        assert "f" * 12 in said(engine, "verify", "--remove")
        assert not damaged.exists()
        said(engine, "rm", "box")
        before = os.statvfs(small).f_bfree
        said(engine, "prune")
        engine.background.wait()
        assert os.statvfs(small).f_bfree - before > (2 << 20) // 4096
        assert list((small / "store" / "cache").iterdir()) == []
        subprocess.run(["rm", "-r", folder], check=True)
        said(engine, "cache", "import", str(tmp_path / "before"))
        assert run_script(engine, script, name="box", cache="always").text == first
        checks.verified(engine)


@pytest.fixture
def read_only(small: Path, tmp_path: Path) -> Iterator[Path]:
    """A store with an image and a container, seen through a read-only bind mount."""
    with contextlib.closing(Engine(small / "store")) as engine:
        run_script(engine, "echo kept > /f; rm -r /etc", name="box")
        said(engine, "commit", "box", "image")
        (tmp_path / "data").mkdir()
        api.run(
            "busybox",
            script="echo new > /data/f",
            name="changed",
            volumes=[f"{tmp_path}/data:/data:cow"],
            engine=engine,
        )
        job = start(engine, Request("busybox", "job", script="echo said; echo wrong >&2; exit 3"))
        job.join()
    place = tmp_path / "read-only"
    place.mkdir()
    subprocess.run(["mount", "--bind", small / "store", place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


READING = (
    "images",
    "ps",
    "history box",
    "history image",
    "inspect box",
    "inspect image",
    "diff box",
    "diff box@0 box",
    "diff image box --text",
    "df",
    "verify",
    "export box -o -",
    "export image -o -",
    "save image -o -",
    "volume ls",
    "jobs",
    "logs job",
    "logs -f -t --tail 2 job",
    "wait job",
)


WRITING = (
    "tag image other",
    "rm box",
    "rmi image",
    "commit box other",
    "undo box",
    "restore box@0 /f",
    "checkout box@1 --name fork",
    "checkout box@0 --name fork",
    "rename box other",
    "apply changed",
    "discard changed",
)


def test_verbs_that_read_work_on_a_read_only_store(read_only: Path) -> None:
    """Each verb that only reads does its work; one that writes is one line that says why it cannot."""
    with contextlib.closing(Engine(read_only)) as engine:
        for words in READING:
            verb, *operands = words.replace(" -o -", f" -o {read_only.parent}/{words[:4]}.tar").split()
            assert said(engine, verb, *operands), words
        assert "D       /etc" in said(engine, "diff", "box")
        assert "said" in said(engine, "logs", "job")
        assert "3" in said(engine, "wait", "job")
        for words in WRITING:
            verb, *operands = words.split()
            with pytest.raises(NbcontainerError, match="Read-only file system"):
                said(engine, verb, *operands)
        with pytest.raises(NbcontainerError, match="Read-only file system"):
            run_script(engine, "true")
    read = subprocess.run(
        ["tar", "-xOf", read_only.parent / "expo.tar", "f"], check=True, capture_output=True, text=True
    )
    assert read.stdout == "kept\n"
