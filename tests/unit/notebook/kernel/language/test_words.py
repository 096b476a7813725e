"""Which word of a cell a cursor is in, and what it is there."""

from __future__ import annotations

import pytest

from nbcontainer.notebook.kernel.language.words import CursorPlace, name_at, place, quoted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CursorPlace(0, "")),
        ("ec", CursorPlace(0, "ec")),
        ("  ec", CursorPlace(2, "ec")),
        ("cat fi", CursorPlace(4, "fi", command="cat")),
        ("cat ", CursorPlace(4, "", command="cat")),
        ("a=1 b=2 cat f", CursorPlace(12, "f", command="cat")),
        ("true; l", CursorPlace(6, "l")),
        ("true\nl", CursorPlace(5, "l")),
        ("true | gre", CursorPlace(7, "gre")),
        ("true && l", CursorPlace(8, "l")),
        ("echo $(l", CursorPlace(7, "l")),
        ("if tr", CursorPlace(3, "tr")),
        ("for x in a; do l", CursorPlace(15, "l")),
        ("sudo ap", CursorPlace(5, "ap")),
        ("echo a > fi", CursorPlace(9, "fi", command="echo", redirected=True)),
        ("echo a > file b", CursorPlace(14, "b", command="echo")),
        ("cat 2>&1 f", CursorPlace(9, "f", command="cat")),
        ("cat a\\ b", CursorPlace(4, "a b", command="cat")),
        ("cat 'a b", CursorPlace(4, "a b", quote="'", command="cat")),
        ('cat "a b', CursorPlace(4, "a b", quote='"', command="cat")),
        ("cat 'a'\\''b", CursorPlace(4, "a'b", quote="'", command="cat")),
        ("# a comment\nca", CursorPlace(12, "ca")),
        ("echo a#b c", CursorPlace(9, "c", command="echo")),
    ],
)
def test_the_word_at_the_end_of_a_text(text: str, expected: CursorPlace) -> None:
    """It is told from the words before it, with its quotes taken off."""
    assert place(text) == expected


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("echo $HO", "$HO"),
        ("echo $", "$"),
        ("echo ${HO", "${HO"),
        ('echo "$HO', "$HO"),
        ("echo '$HO", None),
        ("echo a$HO", "$HO"),
        ("echo $HOME/", None),
        ("$CM", "$CM"),
    ],
)
def test_a_variable_is_known_by_its_dollar(text: str, variable: str | None) -> None:
    """Within double quotes too, but not within single ones."""
    assert place(text).variable == variable


@pytest.mark.parametrize(
    ("text", "quote", "written"),
    [
        ("plain/file.txt", "", "plain/file.txt"),
        ("a b", "", "a\\ b"),
        ("a'b", "", "a\\'b"),
        ("a b", "'", "'a b"),
        ("a'b", "'", "'a'\\''b"),
        ('a"$b', '"', '"a\\"\\$b'),
        ("ü", "", "ü"),
    ],
)
def test_a_name_is_written_as_one_word(text: str, quote: str, written: str) -> None:
    """With backslashes, or within the quote that is open."""
    assert quoted(text, quote) == written


@pytest.mark.parametrize(
    ("text", "position", "name"),
    [("ls -l", 1, "ls"), ("ls -l", 0, "ls"), ("echo $HOME", 8, "$HOME"), ("echo ${HOME}", 9, "$HOME"), ("a  b", 2, "")],
)
def test_the_name_around_a_position(text: str, position: int, name: str) -> None:
    """A command's, or a variable's with its dollar; none between words."""
    assert name_at(text, position) == name
