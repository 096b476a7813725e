"""What init sees of the notebook, and when it acts in its place."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.launcher.notebook_watch import (
    PATIENCE,
    Notebook,
    NotebookWatch,
    TimeLimit,
    open_status,
    state_in,
)

if TYPE_CHECKING:
    from pathlib import Path

ALIVE = b"Name:\tpython\nState:\tS (sleeping)\nVmSize:\t  2928 kB\n"
NONE = b"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n"
INT = b"SigPnd:\t0000000000000000\nShdPnd:\t0000000000000002\n"
KILL = b"SigPnd:\t0000000000000100\nShdPnd:\t0000000000000100\n"
WAITS = ALIVE.replace(b"S (sleeping)", b"D (disk sleep)")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (ALIVE + NONE, Notebook.ACTS),
        (WAITS + NONE, Notebook.ACTS),
        (ALIVE + INT, Notebook.ACTS),
        (WAITS + INT, Notebook.INTERRUPTED),
        (WAITS + KILL, Notebook.GONE),
        (b"Name:\tpython\nState:\tZ (zombie)\n" + NONE, Notebook.GONE),
    ],
)
def test_the_state_is_read_from_the_status(status: bytes, state: Notebook) -> None:
    """A SIGINT counts only while the notebook waits in the kernel; without memory, the notebook is ending."""
    assert state_in(status) is state


@pytest.mark.parametrize("groups", [0, 400, 65_536])
def test_a_user_may_have_any_number_of_groups(tmp_path: Path, groups: int) -> None:
    """They come before the lines that count, ten bytes for each."""
    line = b"Groups:\t" + b" ".join(b"123450%04d" % (group % 10_000) for group in range(groups)) + b" \n"
    (tmp_path / "status").write_bytes(b"Name:\tpython\n" + line + ALIVE + NONE)
    fd = os.open(tmp_path / "status", os.O_RDONLY)
    assert NotebookWatch(fd, None).look() is None
    (tmp_path / "status").write_bytes(b"Name:\tpython\n" + line + ALIVE + KILL)
    assert NotebookWatch(fd, None).look() is signal.SIGKILL
    os.close(fd)


def test_a_process_that_acts_is_left_alone() -> None:
    """A watch over this process finds nothing to do."""
    status = open_status(os.getpid())
    try:
        assert NotebookWatch(status, None).look() is None
    finally:
        os.close(status)


def test_a_process_that_has_ended_is_gone() -> None:
    """The watch of a dead notebook says SIGKILL at once."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    status = open_status(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        assert NotebookWatch(status, None).look() == signal.SIGKILL
    finally:
        os.close(status)


def test_a_process_that_cannot_be_read_is_left_alone() -> None:
    """Where /proc is closed, there is no watch."""
    assert open_status(2**22 + 1) == -1
    assert NotebookWatch(-1, None).look() is None


def test_an_interrupt_counts_when_it_stays(tmp_path: Path) -> None:
    """The second look at the same SIGINT passes it on, the third one kills."""
    path = tmp_path / "status"
    path.write_bytes(WAITS + INT)
    with path.open("rb") as file:
        watch = NotebookWatch(file.fileno(), None)
        assert [watch.look() for _ in range(3)] == [None, signal.SIGINT, signal.SIGKILL]


def test_a_time_limit_is_first_the_notebooks() -> None:
    """SIGTERM is due when the notebook has let its patience pass, SIGKILL from then on."""
    times = iter([0.0, 1.0, 1.0 + PATIENCE, 2.0 + PATIENCE])
    limit = TimeLimit(1.0, lambda: next(times))
    assert [limit.due() for _ in range(3)] == [None, signal.SIGTERM, signal.SIGKILL]
    assert TimeLimit(None).due() is None
