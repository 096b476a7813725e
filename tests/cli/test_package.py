"""The wheel and the sdist: built, checked, and installed into an environment with nothing else in it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nbcontainer import __version__
from nbcontainer.linux.libc import machine
from nbcontainer.sandbox.helper.program import name as program_name
from tests.requirements import require

PROJECT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, **env: str) -> str:
    """Runs a command that must succeed; its output."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory with what builds the package, installed once for all builds: each would install its own."""
    require("sources", available=(PROJECT / "pyproject.toml").exists(), why="the project's sources are not around")
    for name in ("build", "twine"):
        require(name, available=importlib.util.find_spec(name) is not None, why=f"{name} is not installed")
    target = tmp_path_factory.mktemp("backend")
    needed = tomllib.loads((PROJECT / "pyproject.toml").read_text())["build-system"]["requires"]
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", target, *needed)
    return str(target)


def build(backend: str, target: Path, *options: str, **env: str) -> None:
    """Builds the package into a directory."""
    command = (sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(target), str(PROJECT))
    run(*command, PYTHONPATH=backend, **env)


@pytest.fixture(scope="module")
def built(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with a wheel and an sdist of this checkout, as `python -m build` makes them."""
    target = tmp_path_factory.mktemp("dist")
    build(backend, target)
    return target


def test_the_metadata_is_complete(built: Path) -> None:
    """twine finds nothing wrong with the metadata, nor with the README as the project's page."""
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(built.iterdir()))
    assert checked.count("PASSED") == 2


def test_the_wheel_has_what_is_needed_to_run(built: Path) -> None:
    """The wheel has the package, the quick start, the shells' scripts and the kernelspec, and no tests."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    for name in ("cli.py", "py.typed", "quickstart.ipynb", "containers/live/scripts/bash.sh"):
        assert f"nbcontainer/{name}" in names
    for name in ("kernel.json", "logo-svg.svg", "logo-32x32.png", "logo-64x64.png"):
        assert any(found.endswith(f"share/jupyter/kernels/nbcontainer/{name}") for found in names)
    assert {name.split("/")[0] for name in names} == {
        "nbcontainer",
        f"nbcontainer-{__version__}.dist-info",
        f"nbcontainer-{__version__}.data",
    }


def test_the_wheel_has_the_compiled_init(built: Path) -> None:
    """It is for this machine, and has the program by the name that it is looked for; `any` leaves the program out."""
    require("a C compiler", available=shutil.which("cc") is not None, why="it is not installed")
    (wheel,) = built.glob("*.whl")
    assert wheel.name.endswith(f"-py3-none-manylinux2014_{machine()}.musllinux_1_1_{machine()}.whl")
    with zipfile.ZipFile(wheel) as file:
        assert file.read(f"nbcontainer/sandbox/helper/{program_name()}").startswith(b"\x7fELF")


def test_a_wheel_for_any_machine_has_no_program(backend: str, tmp_path: Path) -> None:
    """NBCONTAINER_WHEEL=any makes it."""
    build(backend, tmp_path, "--wheel", NBCONTAINER_WHEEL="any")
    (wheel,) = tmp_path.glob("*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as file:
        assert not [name for name in file.namelist() if "/helper/helper-" in name]


def test_the_sdist_has_the_documents(built: Path) -> None:
    """The sdist has the pages with their pictures, the tests, and the script of CI."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = {path.relative_to(PROJECT) for folder in ("docs", "notebooks") for path in (PROJECT / folder).rglob("*.*")}
    files = {str(path) for path in wanted if not {".ipynb_checkpoints", "__pycache__"} & set(path.parts)}
    assert (
        files | {"README.md", "README.zh.md", "SECURITY.md", "CHANGELOG.md", "LICENSE", "tests/run", ".ci/run"} <= names
    )


def needed(first: Distribution, *extras: str) -> list[Distribution]:
    """The installed distributions that one requires, and those that these require."""
    found: dict[tuple[str, str], Distribution] = {}
    left = [(first, extra) for extra in ("", *extras)]
    while left:
        one, extra = left.pop()
        for text in one.requires or ():
            asked = Requirement(text)
            if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
                continue
            for further in ("", *asked.extras):
                if (asked.name, further) not in found:
                    found[asked.name, further] = distribution(asked.name)
                    left.append((found[asked.name, further], further))
    return list({one.name: one for one in found.values()}.values())


def link(one: Distribution, site: Path) -> None:
    """Links the files of a distribution into another environment's site-packages; its programs stay out."""
    for file in one.files or ():
        if file.parts[0] != ".." and "__pycache__" not in file.parts:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).symlink_to(Path(str(one.locate_file(file))).resolve())


@pytest.mark.usefixtures("engine")  # skips the test if the host has no namespaces for containers
def test_the_wheel_runs_in_a_bare_environment(built: Path, tmp_path: Path) -> None:
    """With the packages alone that its metadata requires, the program examines the host and runs the quick start.

    They are those of this environment: to fetch them again took a minute and a half.
    """
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    install = ("install", "--quiet", "--no-compile", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (own,) = distributions(name="nbcontainer", path=[str(site)])
    for one in needed(own, "demo"):
        link(one, site)
    program, store = tmp_path / "venv/bin/nbcontainer", str(tmp_path / "store")
    assert run(program, "--version", PYTHONPATH="") == f"nbcontainer {__version__}\n"
    missing = subprocess.run([python, "-c", "import pytest"], capture_output=True, check=False, env={})
    assert b"No module named 'pytest'" in missing.stderr
    assert "namespaces" in run(program, "doctor", NBCONTAINER_HOME=store, PYTHONPATH="")
    ran = run(program, "run", "busybox", "echo", "hello", NBCONTAINER_HOME=store, PYTHONPATH="")
    assert ran.endswith("hello\n")
    assert "the answer is 42" in run(program, "demo", NBCONTAINER_HOME=store, PYTHONPATH="")
