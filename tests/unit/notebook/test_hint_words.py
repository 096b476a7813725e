"""Words of a cell's body for hints."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbcontainer.notebook import hint_words
from tests.fuzzing import examples

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("cat table.csv", "table.csv"),
        ('open("data/a.txt")', "data/a.txt"),
        ("cd data/ && ls", "data"),
        ("x=./table.csv", "./table.csv"),
        ("wc -l <table.csv", "table.csv"),
        ("ls *.csv", "*.csv"),
        ("ls data/?.txt", "data/?.txt"),
        ("python 'my script.py'", ""),
        ("cat ../outside", ""),
        ("cat data/../../outside", ""),
        ("test -e x; -table.csv", ""),
        ("sort", ""),
        ("ls */a.txt", ""),
        ("x = 2**n", ""),
        ("ls **.csv", "**.csv"),
        ("ls ***", ""),
        ("echo . .. / ./ * -- -", ""),
        ("cat " + "x" * 5000, ""),
        ("", ""),
    ],
)
def test_a_word_names_a_file_beside_the_notebook(tmp_path: Path, body: str, found: str) -> None:
    """By its name, its path or a pattern; files outside the directory, options and names of programs do not count."""
    here = tmp_path / "here"
    (here / "data").mkdir(parents=True)
    for path in ("table.csv", "data/a.txt", "sort", "../outside", "-table.csv"):
        (here / path).touch()
    assert hint_words.beside(str(here), hint_words.words(body)) == found


def test_a_directory_is_listed_once_for_all_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body with hundreds of patterns costs no more than one listing of each directory."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".hidden").touch()
    listed: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> object:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    patterns = [f"{folder}*{number}" for number in range(100) for folder in ("", "sub/")]
    assert hint_words.beside(str(tmp_path), [*patterns, "sub/*"]) == ""
    assert listed == [str(tmp_path), str(tmp_path / "sub")]
    assert hint_words.beside(str(tmp_path), ["sub/.h*"]) == "sub/.h*"


@given(st.text(st.sampled_from("*?[]!-~/.$aZ9 \n\0\\'\"{}(ä\udc80\ud800"), max_size=40))
@example("\0/?")
@example("\ud800/?")
@examples(100)
def test_no_body_makes_a_hint_an_error(tmp_path: Path, body: str) -> None:
    """Whatever a cell's body is, the questions of the hints have an answer: they come after the cell's own error."""
    found = hint_words.words(body)
    hint_words.beside(str(tmp_path), found)
    hint_words.in_home(found)
    hint_words.has_negation(body)
    hint_words.pings(body)
    hint_words.needs_identity(body)
    hint_words.notebook_variable(body, set())


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("echo $ANSWER", "ANSWER"),
        ('echo "${ANSWER}"', "ANSWER"),
        ("ANSWER=1; echo $ANSWER", ""),
        ("for ANSWER in 1 2; do echo $ANSWER; done", ""),
        ("read -r a ANSWER; echo $ANSWER", ""),
        (f"read -r {'x ' * 50}ANSWER; echo $ANSWER", ""),
        (f"read -r {'x ' * 200}ANSWER; echo $ANSWER", "ANSWER"),  # likewise
        ("echo $ANSWERS $nosuch $HOME $1 $$", ""),
    ],
)
def test_a_variable_of_the_notebook_is_found(monkeypatch: pytest.MonkeyPatch, body: str, found: str) -> None:
    """One that the body reads and does not set, and that neither every shell nor the container has."""
    monkeypatch.setenv("ANSWER", "42")
    assert hint_words.notebook_variable(body, set()) == found
    assert hint_words.notebook_variable(body, {"ANSWER"}) == ""


@pytest.mark.parametrize(
    ("body", "needs"),
    [
        ("git commit -m x", True),
        ("cd repo && git add . && git -C repo commit", True),
        ("git tag -a v1 -m x", True),
        ("git stash", True),
        ("git tag v1", False),
        ("git status; echo commit", False),
        ("git log\ncommit", False),
        ("git config user.name x; git commit -m x", False),
        ("GIT_AUTHOR_NAME=x git commit", False),
        ("legit commit", False),
        (f"git -C {'x' * 150} commit", True),
        (f"git -C {'x' * 250} commit", False),  # each `git` is looked at up to a limit, so that many take no time
    ],
)
def test_commands_of_git_that_need_an_identity(body: str, *, needs: bool) -> None:
    """They make commits or annotated tags; a body that sets an identity itself needs none."""
    assert hint_words.needs_identity(body) is needs
