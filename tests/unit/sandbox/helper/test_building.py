"""The compiled init is built once, and kept where no other user can change it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbcontainer
from nbcontainer.sandbox.helper import building, program

BUILT = b"\x7fELF of a test"

SLOW_COMPILER = """#!/bin/sh
echo >> "$BUILDS"
while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done
sleep 0.3
echo built > "$2"
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Directories that stand for the package's and the cache's; the compiler makes `BUILT`."""
    found = tmp_path / "package", tmp_path / "cache/nbcontainer"
    found[0].mkdir()
    monkeypatch.delenv(program.SWITCH, raising=False)
    monkeypatch.setattr(program, "SOURCE", found[0] / "helper.c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "machine", lambda: "x86_64")
    monkeypatch.setattr(building, "compiled", lambda _: BUILT)
    monkeypatch.setattr(building, "find_program", lambda _: "/usr/bin/cc")
    (found[0] / "helper.c").write_text("source")
    return found


def test_it_is_built_once_and_kept_beside_its_source(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second start needs no compiler, and nothing else is left there."""
    kept = places[0] / program.name()
    assert building.built() == program.Program(BUILT, kept)
    monkeypatch.setattr(building, "find_program", lambda _: None)
    assert building.built() == program.Program(BUILT, kept)
    assert {path.name for path in places[0].iterdir()} == {"helper.c", program.name()}


def test_where_the_package_is_not_the_users_it_is_kept_in_the_cache(places: tuple[Path, Path]) -> None:
    """A directory that others can write to keeps none."""
    places[0].chmod(0o777)
    assert building.built() == program.Program(BUILT, places[1] / program.name())


def test_without_a_directory_it_is_not_built(places: tuple[Path, Path]) -> None:
    """It would be built for each process again."""
    places[0].chmod(0o777)
    places[1].parent.write_text("a file where the cache would be")
    with pytest.raises(program.Unavailable, match="no directory keeps it"):
        building.built()


def test_without_a_compiler_there_is_a_reason(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor shows it."""
    monkeypatch.setattr(building, "find_program", lambda _: None)
    with pytest.raises(program.Unavailable, match="it is not built, and no C compiler is available"):
        building.built()


def test_the_switch_prevents_a_build(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever set it does not need the program."""
    monkeypatch.setenv(program.SWITCH, "0")
    with pytest.raises(program.Unavailable, match="NBCONTAINER_HELPER=0 is set"):
        building.built()
    assert not (places[0] / program.name()).exists()


def test_a_compiler_that_fails_is_named(tmp_path: Path) -> None:
    """It is the one that was found."""
    with pytest.raises(program.Unavailable, match="/bin/false does not build it"):
        building.compiled(["/bin/false"])
    with pytest.raises(program.Unavailable, match="does not run"):
        building.compiled([str(tmp_path / "none")])


def test_processes_that_start_together_build_it_once(tmp_path: Path) -> None:
    """The others wait for the first one, and find what it has made."""
    package = Path(nbcontainer.__file__).parent
    copied = shutil.copytree(
        package, tmp_path / "nbcontainer", ignore=shutil.ignore_patterns("helper-*", "__pycache__")
    )
    (tmp_path / "bin").mkdir()
    compiler = tmp_path / "bin/cc"
    compiler.write_text(SLOW_COMPILER)
    compiler.chmod(0o700)
    environment = {
        "PATH": f"{compiler.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path),
        "BUILDS": str(tmp_path / "builds"),
        "XDG_CACHE_HOME": str(tmp_path),
    }
    command = [sys.executable, "-B", "-m", building.__name__]
    begun = [
        subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = {process.communicate()[0].strip() for process in begun}
    (kept,) = said
    assert Path(kept).parent == copied / "sandbox/helper"
    assert Path(kept).read_text() == "built\n"
    assert (tmp_path / "builds").read_text() == "\n"
