"""The README's cells are pasted, in order, into an empty notebook and executed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

import nbcontainer
from tests import documents
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The README's blocks in that language."""
    return documents.fences(README.read_text(), language)


@pytest.fixture
def executed(short_path: Path, store_path: Path, tmp_path: Path, _containers_work: str) -> Iterator[list[str]]:
    """What each cell printed, of a notebook in an empty directory that has the README's cells and nothing else."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(block) for block in blocks("ipython")]  # type: ignore[no-untyped-call]
    env = {
        **os.environ,
        "NBCONTAINER_HOME": str(store_path),
        "IPYTHONDIR": str(short_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(short_path),
    }
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    manager = client.create_kernel_manager()
    manager.transport = "ipc"
    manager.connection_file = str(short_path / "readme.json")
    client.execute(env=env)
    yield ["\n".join(_texts(cell)) for cell in notebook.cells]
    run = [sys.executable, "-c", "from nbcontainer.cli import main; main()", "rmi", "mine"]
    subprocess.run(run, env=env, check=False, capture_output=True)


def _texts(cell: Any) -> Iterator[str]:
    for output in cell.outputs:
        yield output.text if output.output_type == "stream" else str(output.data.get("text/plain", ""))


def test_the_readmes_cells_work_in_an_empty_notebook(executed: list[str], tmp_path: Path) -> None:
    """Every cell runs when pasted in order, and each prints what the README says."""
    loaded, first, changes, committed, second = executed
    assert loaded == ""
    assert re.fullmatch(r"hello from [0-9a-f]{12}, pid 2\n", first)
    assert re.search(r"`hello from [0-9a-f]{12}, pid 2`", README.read_text())
    assert (tmp_path / "on-the-host.txt").read_text() == "kept\n"
    assert (tmp_path / "on-the-host.txt").stat().st_uid == os.geteuid()
    assert re.search(r"D\s+/etc\b", changes)
    assert "mine.tar.gz" in committed
    assert (tmp_path / "mine.tar.gz").stat().st_uid == os.geteuid()
    assert second == "no vi in mine\n"


@pytest.mark.usefixtures("notebook")  # it sets the engine of this process
def test_the_readmes_call_from_python_works() -> None:
    """The call that the README writes in a line of its text returns what the command printed."""
    calls = re.findall(r"`(nbcontainer\.run\(.+?\)\.text)`", README.read_text())
    assert len(calls) == 1
    assert "bin" in eval(calls[0], {"nbcontainer": nbcontainer}).split()


def test_the_readmes_commands_are_there() -> None:
    """The two commands that do all the set-up name files of this checkout and a program of this package."""
    commands = " ".join(blocks("sh"))
    assert "nbcontainer demo" in commands
    assert os.access(README.parent / "tests" / "run", os.X_OK)
    assert "tests/run" in commands


@pytest.mark.usefixtures("engine")  # skips the test if the host has no namespaces for containers
def test_the_sandbox_is_installed_by_its_command(store_path: Path, tmp_path: Path) -> None:
    """The README's one command for a data-science sandbox makes a kernel whose name the next command has."""
    install, freeze = next(block for block in blocks("sh") if "kernel install" in block).splitlines()
    words = shlex.split(install)
    assert words[0] == "nbcontainer"
    env = {**os.environ, "NBCONTAINER_HOME": str(store_path)}
    command = [sys.executable, "-c", "from nbcontainer.cli import main; main()", *words[1:], "--prefix", str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name = shlex.split(freeze, comments=True)[3]
    spec = json.loads((tmp_path / "share/jupyter/kernels" / name / "kernel.json").read_text())
    assert spec["metadata"]["kernel_provisioner"]["config"] == {"run": "host --network private", "notebooks": "rw"}


def test_the_first_screen_says_what_it_is() -> None:
    """What it is comes before the first picture, in fewer lines than a screen has; the whole page stays short."""
    text = README.read_text()
    assert text.partition("<picture>")[0].count("\n") < 12
    assert len(text.splitlines()) <= 95
