"""The file of jobs that ended with notebooks: each is shown once, by the notebook of the same name."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.store.ended_jobs import FILE, EndedJobs, note, take
from nbcontainer.store.layout import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    opened = Store(tmp_path / "store", (os.geteuid(), os.getegid()))
    yield opened
    opened.close()


def test_each_notebook_takes_its_own_jobs_once(store: Store) -> None:
    """Another notebook's lines stay; the file is removed with its last line."""
    ends = [EndedJobs("a.ipynb", ("db", "web")), EndedJobs("", ("x",))]
    note(store, ends)
    assert take(store, "a.ipynb") == ends[:1]
    assert take(store, "a.ipynb") == []
    assert take(store, "") == ends[1:]
    assert not (store.path / FILE).exists()


def test_a_dead_session_left_its_running_jobs(store: Store) -> None:
    """Its jobs, and not its cells, are noted by the names of their notebooks when its file is removed."""
    cells = {"db": {"log": "containers/db/output.log", "notebook": "a.ipynb"}, "cell": {"notebook": "a.ipynb"}}
    (store.path / "sessions" / "dead00").write_text(json.dumps({"pid": 1, "running": cells}))
    assert take(store, "a.ipynb") == [EndedJobs("a.ipynb", ("db",), killed=True)]
    assert not (store.path / "sessions" / "dead00").exists()


@pytest.mark.parametrize("text", ["", "not JSON", "[1]", '{"running": [1]}', '{"running": {"a": 1}}', "[" * 100_000])
def test_a_session_without_a_readable_state_is_removed_all_the_same(store: Store, text: str) -> None:
    """It had no jobs, as far as its file shows."""
    (store.path / "sessions" / "dead00").write_text(text)
    assert take(store, "") == []
    assert not (store.path / "sessions" / "dead00").exists()


@pytest.mark.parametrize("line", ["not JSON", "{}", '{"notebook": "a", "jobs": 1, "killed": true}', "[]", "\x00"])
def test_a_line_of_another_version_is_left_out(store: Store, line: str) -> None:
    """The lines beside it are read."""
    note(store, [EndedJobs("a", ("db",))])
    (store.path / FILE).write_text(f"{line}\n{(store.path / FILE).read_text()}")
    assert take(store, "a") == [EndedJobs("a", ("db",))]


def test_the_oldest_lines_are_dropped(store: Store) -> None:
    """The file does not grow without end, if no notebook takes its lines."""
    for number in range(3):
        note(store, [EndedJobs(f"{number}.{more}", ("db",)) for more in range(60)])
    assert len((store.path / FILE).read_text().splitlines()) == 100
    assert take(store, "2.59")
    assert not take(store, "0.0")


def test_a_link_in_the_place_of_the_file_is_not_followed(store: Store, tmp_path: Path) -> None:
    """What it leads to is not changed."""
    (tmp_path / "other").write_text("kept")
    (store.path / FILE).symlink_to(tmp_path / "other")
    note(store, [EndedJobs("a", ("db",))])
    assert take(store, "a")
    assert (tmp_path / "other").read_text() == "kept"


def test_names_control_no_terminal() -> None:
    """A line about jobs is one line of visible text."""
    assert str(EndedJobs("", ("a\x1b[2J", "b\nc"))).isprintable()
