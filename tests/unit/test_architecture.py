"""The rules that tools hold: imports point down, and ruff and mypy have nothing to say."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.requirements import require

PROJECT = Path(__file__).parents[2]


def run(*command: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs a tool on the project, which this user may not be able to write to."""
    return subprocess.run(
        command,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def require_module(name: str) -> None:
    require(name, available=importlib.util.find_spec(name) is not None, why=f"{name} is not installed")


def require_sources() -> None:
    """Skips where the tests are run against an installed package, without the project around them."""
    there = (PROJECT / "pyproject.toml").exists() and (PROJECT / "nbcontainer").is_dir()
    require("sources", available=there, why="the project's sources are not around")


@pytest.mark.parametrize(
    "arguments",
    [("check", "--no-cache"), ("format", "--check", "--no-cache")],
    ids=["check", "format"],
)
def test_ruff_has_nothing_to_say(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The code is formatted, and breaks none of the rules in pyproject.toml, docstrings of public things among them."""
    require_sources()
    require_module("ruff")
    done = run(sys.executable, "-m", "ruff", *arguments, ".", cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    """Every function has its types, and they fit, in the tests as in the package."""
    require_sources()
    require_module("mypy")
    done = run(sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "mypy"), cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_down(tmp_path: Path) -> None:
    """No room imports from one above it, and images and sandbox do not know each other."""
    require_sources()
    require_module("importlinter")
    tool = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = run(sys.executable, "-c", tool, "--no-cache", cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Imports point down KEPT" in done.stdout


def test_the_contract_can_be_broken(tmp_path: Path) -> None:
    """The contract covers every room: a module that imports from above breaks it."""
    require_sources()
    require_module("importlinter")
    shutil.copytree(PROJECT / "nbcontainer", tmp_path / "nbcontainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with (tmp_path / "nbcontainer/linux/libc.py").open("a") as file:
        file.write("import nbcontainer.sandbox.spec\n")
    with (tmp_path / "nbcontainer/sandbox/spec.py").open("a") as file:
        file.write("import nbcontainer.oci.documents\n")
    tool = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", tool, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "nbcontainer.linux is not allowed to import nbcontainer.sandbox" in done.stdout
    assert "nbcontainer.sandbox is not allowed to import nbcontainer.images" in done.stdout
