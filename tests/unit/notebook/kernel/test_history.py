"""What was run in a user's kernels."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nbcontainer.notebook.kernel.history import History

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of two sessions: three cells, then two."""
    for cells in (("echo 1", "ls", "echo 2"), ("ls", "echo [3]")):
        history = History(tmp_path / "history.sqlite")
        for number, cell in enumerate(cells, 1):
            history.add(number, cell)
        history.close()
    return tmp_path / "history.sqlite"


def test_the_last_cells_come_oldest_first(path: Path) -> None:
    """Across sessions."""
    assert History(path).tail(3) == [(1, 3, "echo 2"), (2, 1, "ls"), (2, 2, "echo [3]")]


def test_a_range_is_of_one_session(path: Path) -> None:
    """By its number, or counted back from this one; the end is not in it."""
    history = History(path)
    history.add(1, "own")
    assert history.range(1, 2, 3) == [(1, 2, "ls")]
    assert history.range(0, 1, None) == [(3, 1, "own")]
    assert history.range(-1, 2, None) == [(2, 2, "echo [3]")]


def test_a_search_is_by_pattern(path: Path) -> None:
    """`*` and `?` stand for others, brackets for themselves; the newest ones are kept, or each text once."""
    history = History(path)
    assert [entry[2] for entry in history.search("echo ?")] == ["echo 1", "echo 2"]
    assert history.search("*[3]*") == [(2, 2, "echo [3]")]
    assert history.search("*", 1) == [(2, 2, "echo [3]")]
    assert history.search("ls", unique=True) == [(2, 1, "ls")]


def test_nobody_else_reads_it(path: Path) -> None:
    """What a person typed may be a secret."""
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_used_is_no_error(tmp_path: Path) -> None:
    """Cells run all the same; nothing is remembered."""
    (tmp_path / "history.sqlite").write_text("this is no database, but a text of more than a hundred bytes" * 3)
    for history in (History(tmp_path / "missing" / "history.sqlite"), History(tmp_path / "history.sqlite")):
        history.add(1, "echo")
        assert history.tail(1) == []


def test_a_cell_does_not_wait_for_the_history(path: Path) -> None:
    """While another kernel writes, cells are added at once, and they are there when that kernel has written."""
    history = History(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        history.add(1, "first")
        history.add(2, "second")
        other.execute("COMMIT")
    assert history.tail(2) == [(3, 1, "first"), (3, 2, "second")]


def test_the_end_of_a_kernel_writes_its_history(path: Path) -> None:
    """Another kernel finds the last cell after `close`."""
    history = History(path)
    history.add(1, "last")
    history.close()
    assert History(path).tail(1) == [(3, 1, "last")]
