"""A course that is written for `%%bash` runs unchanged under `%%container` after one line of `%container use`."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.notebook.course import CELLS, FILES
from tests.notebook.shell_kernels import ShellKernel
from tests.requirements import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.notebook.conftest import Notebook

USE = "%container use host --here --identity --name work --network private"


def write_files(folder: Path) -> None:
    """Makes the directory of the notebooks anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    os.chdir(folder)


def said_by_bash(cell: str, folder: Path) -> str | None:
    """Return the standard output of a cell as `%%bash` runs it; None if it fails there."""
    done = subprocess.run(["bash"], input=cell, capture_output=True, text=True, check=False, cwd=folder)
    return done.stdout if done.returncode == 0 else None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The notebook's directory, and a home directory with an identity for git."""
    for program in ("bash", "git"):
        require(program, available=shutil.which(program) is not None)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text("[user]\n\tname = Ann\n\temail = ann@example.org\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    folder = tmp_path / "course"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_files(folder)
    return folder


def test_the_course_says_the_same_in_a_container(notebook: Notebook, folder: Path) -> None:
    """Every cell that succeeds under `%%bash` succeeds with the same output: all of them, without exemptions."""
    expected = [said_by_bash(cell, folder) for cell in CELLS]
    assert expected.count(None) == 2  # diff, of two files and of two lists
    write_files(folder)
    notebook.good(USE)
    try:
        wrong = []
        for cell, wanted in zip(CELLS, expected, strict=True):
            ran = notebook.run(f"%%container\n{cell}")
            if wanted is not None and (ran.error is not None or ran.stdout != wanted):
                wrong.append((cell, wanted, ran))
        assert wrong == []
    finally:
        notebook.good("%container use --reset")
        notebook.good("%container rm work")


EXEMPT = {"exit 0; echo not", "trap 'echo bye' EXIT; echo hi"}
"""Cells that end the shell, or wait for its end: the shell of a kernel lives on."""


@pytest.mark.usefixtures("engine")
def test_the_course_says_the_same_in_a_shell_kernel(short_path: Path, store_path: Path, folder: Path) -> None:
    """The cells run one after the other in one shell, in the notebook's directory."""
    expected = [said_by_bash(cell, folder) for cell in CELLS]
    write_files(folder)
    folder.parent.chmod(0o755)
    words = ("host", "--identity", "--network", "private", "-v", f"{folder}:{folder}", "-w", str(folder))
    wrong = []
    with ShellKernel(short_path, store_path, words) as kernel:
        for cell, wanted in zip(CELLS, expected, strict=True):
            if cell in EXEMPT:
                continue
            ran = kernel.run(cell)
            if wanted is not None and (ran.error is not None or ran.stdout != wanted):
                wrong.append((cell, wanted, ran.stdout, ran.stderr))
    assert wrong == []
