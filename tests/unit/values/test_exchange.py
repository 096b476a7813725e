"""The exchange of one cell: what it holds of the files of `/in`, and for how long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.values.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Callable


def sent(path: Path, **values: object) -> Exchange:
    """An exchange that has written its values to files in a directory."""
    exchange = Exchange(values, output=False)
    exchange.send([os.open(path / one.file, os.O_WRONLY | os.O_CREAT) for one in exchange.inputs])
    return exchange


def opened(path: Path) -> int:
    """How many descriptors of files in a directory this process has."""
    links = Path("/proc/self/fd").iterdir()
    return sum(link.is_symlink() and link.readlink().is_relative_to(path) for link in links)


def test_the_memory_of_a_cell_is_freed_after_it(tmp_path: Path) -> None:
    """One descriptor holds the memory until the task runs that `later` gets; the end of the exchange does not wait."""
    tasks: list[Callable[[], object]] = []
    exchange = sent(tmp_path, x="text", y=b"bytes")
    exchange.later = tasks.append
    exchange.close()
    exchange.close()
    assert (opened(tmp_path), len(tasks)) == (1, 1)
    tasks[0]()
    assert opened(tmp_path) == 0


def test_new_values_wait_for_the_memory_of_the_last_ones(tmp_path: Path) -> None:
    """Where no task has run yet, the next values are written when that memory is free."""
    first = sent(tmp_path, x="text")
    first.later = lambda _: None
    first.close()
    assert opened(tmp_path) == 1
    other = tmp_path / "other"
    other.mkdir()
    with sent(other, y="text"):
        assert opened(tmp_path) == opened(other) == 1
    assert opened(tmp_path) == 0


def test_without_a_background_the_memory_is_free_at_once(tmp_path: Path) -> None:
    """An exchange that has no `later` frees the memory when it is closed."""
    with sent(tmp_path, x="text"):
        assert opened(tmp_path) == 1
    assert opened(tmp_path) == 0
