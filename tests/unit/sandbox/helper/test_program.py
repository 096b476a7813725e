"""Where the compiled init comes from, and why there is none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.helper import program

if TYPE_CHECKING:
    from pathlib import Path

BUILT = b"\x7fELF of a test"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Directories that stand for the package's and the cache's; the switch is on, and the compiler makes `BUILT`."""
    found = tmp_path / "package", tmp_path / "cache/nbcontainer"
    found[0].mkdir()
    monkeypatch.setenv(program.SWITCH, "1")
    monkeypatch.setattr(program, "SOURCE", found[0] / "helper.c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "machine", lambda: "x86_64")
    monkeypatch.setattr(program, "compiled", lambda _: BUILT)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/cc")
    (found[0] / "helper.c").write_text("source")
    return found


def test_it_is_built_once_and_kept_beside_its_source(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second start needs no compiler."""
    kept = places[0] / program.name()
    assert program.program() == program.Program(BUILT, kept)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert program.program() == program.Program(BUILT, kept)


def test_where_the_package_is_not_the_users_it_is_kept_in_the_cache(places: tuple[Path, Path]) -> None:
    """What another user can write, or a directory that takes nothing, keeps none."""
    places[0].chmod(0o777)
    kept = places[1] / program.name()
    assert program.program() == program.Program(BUILT, kept)
    assert kept.read_bytes() == BUILT


def test_without_a_directory_it_is_built_for_one_process(places: tuple[Path, Path]) -> None:
    """There is a program, and no path."""
    places[0].chmod(0o777)
    places[1].parent.write_text("a file where the cache would be")
    assert program.program() == program.Program(BUILT, None)


def test_a_file_that_another_user_could_have_written_is_not_used(places: tuple[Path, Path]) -> None:
    """It is built again, and that one is used."""
    planted = places[0] / program.name()
    planted.write_bytes(b"planted")
    planted.chmod(0o666)
    assert program.program().content == BUILT


def test_another_source_has_another_file(places: tuple[Path, Path]) -> None:
    """A program that was built before an upgrade is not used after it."""
    before = program.program().path
    (places[0] / "helper.c").write_text("newer source")
    assert program.program().path != before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({program.SWITCH: "0"}, "NBCONTAINER_HELPER=1 is not set"),
        ({"machine": "riscv64"}, "it is not available for riscv64"),
        ({"compiler": ""}, "it is not built, and no C compiler is available"),
    ],
)
def test_without_it_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, change: dict[str, str], reason: str) -> None:
    """Doctor shows it: a checkout or an sdist without a compiler is not the same as a switch."""
    if program.SWITCH in change:
        monkeypatch.setenv(program.SWITCH, change[program.SWITCH])
    if "machine" in change:
        monkeypatch.setattr(program, "machine", lambda: change["machine"])
    if "compiler" in change:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(program.Unavailable, match=reason):
        program.program()


def test_a_compiler_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that was found; nothing is kept."""
    monkeypatch.undo()
    with pytest.raises(program.Unavailable, match="/bin/false does not build it"):
        program.compiled(["/bin/false"])
    with pytest.raises(program.Unavailable, match="does not run"):
        program.compiled([str(tmp_path / "none")])
