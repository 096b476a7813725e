"""The files that are opened before a cell needs them."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.warm.warm_files import WarmFiles
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def files() -> Iterator[WarmFiles]:
    made = WarmFiles()
    yield made
    made.close()


def open_files() -> set[int]:
    return {int(link.name) for link in list(Path("/proc/self/fd").iterdir()) if link.exists() or link.is_symlink()}


@pytest.mark.parametrize("prepared", [0, 1, 3])
def test_a_cell_gets_files_of_its_own(files: WarmFiles, prepared: int) -> None:
    """Whether they were prepared or not, no two cells have one in common."""
    files.prepare(prepared)
    taken: list[int] = []
    for number in range(2):
        body = files.memory_file(b"cell %d" % number)
        assert protocol.read_memory_file(body) == b"cell %d" % number
        null = files.null_input()
        assert os.fstat(null).st_rdev == Path(os.devnull).stat().st_rdev
        taken += (body, null, *files.output_pipe())
    assert len(set(taken)) == len(taken)
    protocol.close(taken)


def test_a_body_cannot_be_changed(files: WarmFiles) -> None:
    """A prepared file is sealed once it has the body: the container cannot write to it, or make it shorter."""
    files.prepare(1)
    body = files.memory_file(b"true")
    with pytest.raises(PermissionError):
        os.pwrite(body, b"no", 0)
    with pytest.raises(PermissionError):
        os.truncate(body, 0)
    os.close(body)


def test_prepared_files_are_not_inherited(files: WarmFiles) -> None:
    """No program that the notebook starts has them."""
    before = open_files()
    files.prepare(2)
    new = open_files() - before
    assert len(new) == 2 * (4 + 1 + 1)
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in new)
    assert sum(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in new) == 8


def test_what_no_cell_took_is_closed() -> None:
    """Preparing twice opens nothing more, and the end of the engine closes all."""
    before = open_files()
    files = WarmFiles()
    files.prepare(2)
    there = open_files()
    files.prepare(2)
    assert open_files() == there
    files.close()
    assert open_files() == before
