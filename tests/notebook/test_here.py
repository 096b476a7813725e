"""`--here`: the notebook's directory in a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.notebook.conftest import Notebook


@pytest.fixture(autouse=True)
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's directory."""
    place = tmp_path / "course"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def test_a_cell_starts_beside_the_notebook(notebook: Notebook, beside: Path) -> None:
    """A cell reads what a Python cell wrote, and a Python cell what the container wrote, at the same path."""
    notebook.good("from pathlib import Path; Path('table.csv').write_text('a,b\\n1,2\\n')")
    assert notebook.good("%%container host --here\nwc -l < table.csv; pwd").split() == ["2", str(beside)]
    notebook.good("%%container host --here\nseq 3 > sorted.csv")
    assert (beside / "sorted.csv").read_text() == "1\n2\n3\n"


def test_it_is_read_only_on_request(notebook: Notebook, beside: Path) -> None:
    """`--here=ro` shows the directory and refuses writes; `=rw` is the default in so many words."""
    notebook.fails("%%container busybox --here=ro\ntouch file")
    assert list(beside.iterdir()) == []
    notebook.good("%%container busybox --here=rw\ntouch file")
    assert "invalid value 'wr' for --here" in notebook.fails("%%container busybox --here=wr\ntrue")


def test_a_change_of_directory_counts(notebook: Notebook, beside: Path) -> None:
    """After `%cd` it is the directory in which the notebook is now."""
    (beside / "part").mkdir()
    notebook.run("%cd part")
    assert notebook.good("%%container busybox --here\npwd") == f"{beside}/part\n"


def test_a_working_directory_of_its_own_stays(notebook: Notebook, beside: Path) -> None:
    """`-w` says where the cell starts, and the directory is shown nonetheless."""
    assert notebook.good(f"%%container busybox --here -w /srv\npwd; cd {beside} && pwd") == f"/srv\n{beside}\n"


def test_a_refused_directory_is_one_line(notebook: Notebook, beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook in its user's home runs its cell without it, and reads why, with the way out, which works."""
    monkeypatch.setenv("HOME", str(beside))
    ran = notebook.run("%%container busybox --here --err kept\npwd")
    assert (ran.error, ran.stdout, notebook["kept"]) == (None, "/\n", "")
    (line,) = ran.stderr.splitlines()
    assert "the notebook is in your home directory: move it to a subdirectory" in line
    way_out = line.rpartition("or write ")[2]
    assert way_out == f"-v {beside}:{beside}"
    assert notebook.good(f"%%container busybox --here {way_out}\npwd") == f"{beside}\n"


def test_a_directory_that_was_removed_is_one_line(notebook: Notebook, beside: Path) -> None:
    """A cell runs, and the line says what happened to the directory."""
    beside.rmdir()
    ran = notebook.run("%%container busybox --here\npwd")
    os.chdir("/")
    assert (ran.error, ran.stdout) == (None, "/\n")
    assert "cannot be used: the current directory was removed" in ran.stderr


def test_the_store_is_never_shown(notebook: Notebook, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the store, nor a directory in it or above it."""
    for place in (engine.store.path, engine.store.path / "layers", engine.store.path.parent):
        monkeypatch.chdir(place)
        ran = notebook.run("%%container busybox --here\npwd")
        assert (ran.stdout, ran.error) == ("/\n", None)
        assert "store of nbcontainer" in ran.stderr


def test_volumes_name_the_directory_too(notebook: Notebook, beside: Path) -> None:
    """`-v .:/w` is a volume of the directory in which the notebook is."""
    (beside / "a").touch()
    assert notebook.good("%%container busybox -v .:/w\nls /w") == "a\n"
