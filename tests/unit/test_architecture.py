"""The rules that tools hold: imports point down, and ruff and mypy have nothing to say."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
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
@pytest.mark.timeout(600)  # it takes a minute of a processor
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    """Every function has its types, and they fit, in the tests as in the package."""
    require_sources()
    require_module("mypy")
    done = run(sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "mypy"), cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


_MOST = 20
"""Modules in a package."""

LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def test_imports_point_down(tmp_path: Path) -> None:
    """No package or module imports from one above it, and there is no cycle, in functions or for types either."""
    require_sources()
    require_module("importlinter")
    done = run(sys.executable, "-c", LINTER, "--no-cache", cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in ("No cycles", "Packages import downwards"):
        assert f"{contract} KEPT" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("linux/libc.py", "import nbcontainer.sandbox.spec", "nbcontainer.linux is not allowed to import"),
        ("sandbox/spec.py", "import nbcontainer.images.runner", "nbcontainer.sandbox is not allowed to import"),
        ("sandbox/plan.py", "import nbcontainer.store.layout", "knows nothing of images or the store BROKEN"),
        ("oci/documents.py", "import nbcontainer.linux.files", "The OCI documents open no file BROKEN"),
        (
            "containers/container.py",
            "def f() -> None:\n    import nbcontainer.containers.engine",
            "nbcontainer.containers.container is not allowed to import",
        ),
        (
            "images/layers/limits.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nbcontainer.images.layers.pack",
            "No cycles BROKEN",
        ),
    ],
)
def test_a_contract_can_be_broken(tmp_path: Path, module: str, line: str, complaint: str) -> None:
    """Each kind of contract is broken by one import, hidden in a function or behind TYPE_CHECKING or not."""
    require_sources()
    require_module("importlinter")
    shutil.copytree(PROJECT / "nbcontainer", tmp_path / "nbcontainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with (tmp_path / "nbcontainer" / module).open("a") as file:
        file.write(f"{line}\n")
    done = subprocess.run(
        [sys.executable, "-c", LINTER, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode != 0
    assert complaint in " ".join(done.stdout.split())


def test_a_package_stays_small() -> None:
    """At most twenty modules lie directly in a package, and no module name is used three times."""
    require_sources()
    modules = [path for path in (PROJECT / "nbcontainer").rglob("*.py") if not path.name.startswith("__")]
    in_package = Counter(path.parent.relative_to(PROJECT) for path in modules)
    packages = (path.parent for path in (PROJECT / "nbcontainer").rglob("__init__.py"))
    named = Counter([path.stem for path in modules] + [path.name for path in packages])
    large = [f"{package} has {number} modules" for package, number in in_package.items() if number > _MOST]
    advice = "move some that belong together into a subpackage, and list it in pyproject.toml (Layers of …)"
    assert not large, f"{', '.join(large)}, at most {_MOST}: {advice}"
    twice = [name for name, number in named.items() if number > 2]
    assert not twice, f"choose another name for the new one, two modules have it: {', '.join(twice)}"
