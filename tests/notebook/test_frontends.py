"""Kernels in containers, from frontends other than a page: papermill, and Jupyter's console on a terminal."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests.notebook import science
from tests.requirements import require
from tests.running import DEADLINE, all_dead, appear, marker, pidfds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pexpect

PATIENCE = 4 * DEADLINE
"""Seconds for a frontend and its kernel to start, both in Python."""


@pytest.fixture
def env(short_path: Path, store_path: Path, tmp_path: Path, _containers_work: str) -> dict[str, str]:
    """The environment of a Jupyter with a store and settings of the tests' own, and the kernels of `science`."""
    require("namespaces", available=not _containers_work, why=_containers_work)
    science.write_all(tmp_path, tmp_path / "jupyter/kernels", store_path)
    return {
        **os.environ,
        "NBCONTAINER_HOME": str(store_path),
        "IPYTHONDIR": str(short_path / "ipython"),
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(short_path),
        "JUPYTER_CONFIG_DIR": str(short_path / "config"),
        "TERM": "dumb",
    }


@pytest.mark.parametrize(("kernel", "code"), [("shell-in-host", 'echo "$city"'), ("python-in-host", "print(city)")])
def test_papermill_gives_a_kernel_its_parameters(kernel: str, code: str, env: dict[str, str], tmp_path: Path) -> None:
    """papermill writes the parameters in the kernel's language, and the cells in the container have them."""
    require("papermill", available=importlib.util.find_spec("papermill") is not None)
    notebook: Any = nbformat.from_dict(science.notebook(kernel, [code, code]))  # type: ignore[no-untyped-call]
    nbformat.write(notebook, tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    words = ["papermill", "in.ipynb", "out.ipynb", "-p", "city", "La Paz", "--no-progress-bar"]
    subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, env=env, check=True, timeout=150)
    executed: Any = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert next(cell.metadata.tags for cell in executed.cells if "tags" in cell.metadata) == ["injected-parameters"]
    assert executed.cells[-1].outputs[0].text == "La Paz\n"


@pytest.fixture
def console(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str], pexpect.spawn[str]]]:
    """Starts `jupyter console` with a kernel, on a terminal."""
    for name in ("pexpect", "jupyter_console"):
        require(name, available=importlib.util.find_spec(name) is not None)
    import pexpect

    started = []

    def start(kernel: str) -> pexpect.spawn[str]:
        words = ["-m", "jupyter_console", f"--kernel={kernel}", "--simple-prompt", "--transport=ipc"]
        child = pexpect.spawn(sys.executable, words, env=env, cwd=str(tmp_path), encoding="utf-8", timeout=PATIENCE)
        started.append(child)
        child.expect_exact("In [1]: ")
        return child

    yield start
    for child in started:
        child.close(force=True)


@pytest.mark.parametrize(
    ("kernel", "hello", "wait"),
    [
        ("shell-in-host", "echo hello $((6 * 7))", "echo ready; sleep {}"),
        ("python-in-host", "print('hello', 6 * 7)", "print('ready'); __import__('subprocess').run(['sleep', '{}'])"),
    ],
)
def test_a_console_talks_to_a_kernel(
    kernel: str, hello: str, wait: str, console: Callable[[str], pexpect.spawn[str]]
) -> None:
    """Cells, Ctrl-C, and the end: the console's kernel is in its container, and goes with the console."""
    import pexpect

    child = console(kernel)
    child.sendline(hello)
    child.expect("\\r\\nhello 42\\r\\n")
    child.expect_exact("In [2]: ")
    seconds = marker()
    child.sendline(wait.format(seconds))
    child.expect("\\r\\nready\\r\\n")
    watched = pidfds(appear(seconds, 1))
    child.sendintr()
    assert all_dead(watched)
    child.expect_exact("In [3]: ")
    child.sendline(hello)
    child.expect("\\r\\nhello 42\\r\\n")
    child.expect_exact("In [4]: ")
    child.sendeof()
    if child.expect(["Do you really want to exit", pexpect.EOF]) == 0:
        child.sendline("y")
        child.expect(pexpect.EOF)
