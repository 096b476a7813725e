"""Which tests CI runs as which user."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PROGRAM = PROJECT / ".ci/run"


def names(array: str) -> list[str]:
    """Return the files of tests in an array of the program, as `folder/test_name`."""
    (words,) = re.findall(rf"^{array}=\((.*?)\)$", PROGRAM.read_text(), re.MULTILINE | re.DOTALL)
    return str(words).split()


@pytest.mark.parametrize("array", ["alike", "with_range", "without_range", "frontends"])
def test_the_files_that_a_user_leaves_out_are_there(array: str) -> None:
    """A file that was renamed is in the list by its new name: pytest ignores a path that is not there."""
    assert names(array)
    assert [name for name in names(array) if not (PROJECT / f"tests/{name}.py").is_file()] == []


def test_a_plain_user_runs_each_test_that_is_not_the_same_for_all() -> None:
    """No file is left out by both plain users, unless root runs it for all."""
    left_out = [*names("alike"), *names("with_range"), *names("without_range")]
    assert sorted(left_out) == sorted(set(left_out))


def test_each_test_has_a_user() -> None:
    """What root leaves out is run by the user with a range."""
    assert set(names("frontends")) <= set(names("with_range"))


def test_root_runs_each_folder_once() -> None:
    """It names them, since CI may have them in another order."""
    runs = [line for line in PROGRAM.read_text().splitlines() if "tests/run " in line and "--set-up" not in line]
    (own,) = (line for line in runs if "as_user" not in line and "su --login" not in line and "#" not in line)
    folders = re.findall(r"tests/run ([a-z_ ]+)", own)[0].split()
    default = re.findall(r"set -- (.*)$", (PROJECT / "tests/run").read_text(), re.MULTILINE)[0].split()
    assert sorted(folders) == sorted(default)


def test_both_inits_are_attacked() -> None:
    """Only the plain user without a range turns the compiled init off, and each has the folder with the attacks."""
    text = PROGRAM.read_text()
    assert re.findall(r".*NBCONTAINER_HELPER.*", text) == ['    [ "$user" != "$bare" ] || init="NBCONTAINER_HELPER=0"']
    assert "CI=true $init " in text
    assert len(re.findall(r"^ *(?:as_user|PYTEST).* attacks \\$", text, re.MULTILINE)) == 3
