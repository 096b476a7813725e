"""Where the compiled init is, and why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcontainer.sandbox.helper import program

BUILT = b"\x7fELF of a test"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Directories that stand for the package's and the cache's; the switch is not set."""
    found = tmp_path / "package", tmp_path / "cache/nbcontainer"
    for folder in found:
        folder.mkdir(parents=True)
    monkeypatch.delenv(program.SWITCH, raising=False)
    monkeypatch.setattr(program, "SOURCE", found[0] / "helper.c")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "machine", lambda: "x86_64")
    (found[0] / "helper.c").write_text("source")
    return found


@pytest.mark.parametrize("place", [0, 1], ids=["package", "cache"])
@pytest.mark.parametrize("switch", [None, "1"])
def test_it_is_found_beside_its_source_and_in_the_cache(
    place: int, switch: str | None, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the switch, too: it is the default."""
    if switch is not None:
        monkeypatch.setenv(program.SWITCH, switch)
    kept = places[place] / program.name()
    kept.write_bytes(BUILT)
    assert program.program() == program.Program(BUILT, kept)


@pytest.mark.parametrize("planted", ["file", "directory"])
def test_a_file_that_another_user_could_have_written_is_not_used(places: tuple[Path, Path], planted: str) -> None:
    """Nor one in a directory that others can write to."""
    kept = places[0] / program.name()
    kept.write_bytes(b"planted")
    (kept if planted == "file" else places[0]).chmod(0o777)
    with pytest.raises(program.NotBuilt):
        program.program()


def test_another_source_has_another_file(places: tuple[Path, Path]) -> None:
    """A program that was built before an upgrade is not used after it."""
    (places[0] / program.name()).write_bytes(BUILT)
    (places[0] / "helper.c").write_text("newer source")
    with pytest.raises(program.NotBuilt):
        program.program()


def test_a_user_without_a_home_has_one_place(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod, a user can have neither an entry in /etc/passwd nor HOME."""

    def fail(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", fail)
    assert program.places() == [places[0] / program.name()]


@pytest.mark.parametrize(
    ("switch", "machine", "reason"),
    [
        ("0", "x86_64", "NBCONTAINER_HELPER=0 is set"),
        ("1", "riscv64", "it is not available for riscv64"),
        ("1", "x86_64", "it is not built yet"),
    ],
)
def test_without_it_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, switch: str, machine: str, reason: str) -> None:
    """A machine that cannot have it is not the same as a switch."""
    monkeypatch.setenv(program.SWITCH, switch)
    monkeypatch.setattr(program, "machine", lambda: machine)
    with pytest.raises(program.Unavailable, match=reason):
        program.program()
