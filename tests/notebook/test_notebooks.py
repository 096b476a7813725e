"""The notebooks of this project, executed as people execute notebooks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebook import science
from tests.requirements import require
from tests.running import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
"""The notebooks that have no stored outputs; test_course_notebooks.py executes the course."""


@pytest.fixture
def env(short_path: Path, store_path: Path, _containers_work: str) -> dict[str, str]:
    """The environment of a Jupyter whose store and settings are the tests' own."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    return {
        **os.environ,
        "NBCONTAINER_HOME": str(store_path),
        "IPYTHONDIR": str(short_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(short_path),
        "JUPYTER_CONFIG_DIR": str(short_path / "config"),
    }


def outputs(notebook: Any) -> Iterator[Any]:
    """All outputs of all cells."""
    for cell in notebook.cells:
        yield from cell.get("outputs", ())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_an_error(path: Path, env: dict[str, str], short_path: Path, tmp_path: Path) -> None:
    """Executed by nbclient from top to bottom, no cell of it fails, and its containers' outputs are in it."""
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    manager = client.create_kernel_manager()
    manager.transport = "ipc"
    manager.connection_file = str(short_path / f"{path.stem}.json")
    client.execute(env=env)
    found = list(outputs(notebook))
    assert [output for output in found if output.output_type == "error"] == []
    assert [output for output in found if output.output_type == "stream" and output.name == "stdout"]


def test_the_quick_start_by_jupyter_execute(env: dict[str, str], tmp_path: Path) -> None:
    """`jupyter execute` runs the quick start: the founding cell, its deletions, and the committed app."""
    command = Path(sys.executable).with_name("jupyter-execute")
    result = tmp_path / "executed"
    quickstart = next(path for path in NOTEBOOKS if path.stem == "quickstart")
    words: list[str | Path] = [command, "--output", result, "--KernelManager.transport=ipc", quickstart]
    with subprocess.Popen(words, env={**env, "PYTHONFAULTHANDLER": "1"}) as process:
        try:
            assert process.wait(150) == 0
        except subprocess.TimeoutExpired:
            for pid in (*descendants(process.pid), process.pid):  # each Python of them writes what it does
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)
            raise
    notebook: Any = nbformat.read(result.with_suffix(".ipynb"), as_version=4)  # type: ignore[no-untyped-call]
    text = "".join(output.get("text", "") for output in outputs(notebook))
    assert "hello from " in text
    assert "rain: 15" in text
    assert "it is mine: True" in text
    assert "/bin/vi\n/etc\n" in text
    assert "the answer is 42" in text
    assert not [output for output in outputs(notebook) if output.output_type == "error"]


@pytest.mark.parametrize("kernel", science.KERNELS)
def test_a_table_and_a_plot_by_nbclient(
    kernel: str, env: dict[str, str], store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Executed by nbclient, a kernel in a container without a network leaves a DataFrame and a plot in the notebook."""
    science.require_packages()
    science.write_all(tmp_path, tmp_path / "jupyter/kernels", store_path)
    for name, value in {**env, "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}.items():
        monkeypatch.setenv(name, value)
    notebook: Any = nbformat.read(tmp_path / f"{kernel}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = {kind for output in outputs(notebook) for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert "interfaces: lo\n" in [output.get("text") for output in outputs(notebook)]
