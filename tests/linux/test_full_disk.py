"""A store on a file system that is full, or has no inode left: one line, nothing half-done, and then it goes on."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.cleanup import prune
from nbcontainer.containers.engine import Engine
from nbcontainer.errors import NbcontainerError
from tests.faults import acts, checks
from tests.requirements import require_root

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
