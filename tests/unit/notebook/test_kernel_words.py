"""Which word of a cell a cursor is in, and what it is there."""

from __future__ import annotations

import pytest

from nbcontainer.notebook.kernel.words import Place, name_at, place, quoted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Place(0, "")),
        ("ec", Place(0, "ec")),
        ("  ec", Place(2, "ec")),
        ("cat fi", Place(4, "fi", command="cat")),
        ("cat ", Place(4, "", command="cat")),
        ("a=1 b=2 cat f", Place(12, "f", command="cat")),
        ("true; l", Place(6, "l")),
        ("true\nl", Place(5, "l")),
        ("true | gre", Place(7, "gre")),
        ("true && l", Place(8, "l")),
        ("echo $(l", Place(7, "l")),
        ("if tr", Place(3, "tr")),
        ("for x in a; do l", Place(15, "l")),
        ("sudo ap", Place(5, "ap")),
        ("echo a > fi", Place(9, "fi", command="echo", redirected=True)),
        ("echo a > file b", Place(14, "b", command="echo")),
        ("cat 2>&1 f", Place(9, "f", command="cat")),
        ("cat a\\ b", Place(4, "a b", command="cat")),
        ("cat 'a b", Place(4, "a b", quote="'", command="cat")),
        ('cat "a b', Place(4, "a b", quote='"', command="cat")),
        ("cat 'a'\\''b", Place(4, "a'b", quote="'", command="cat")),
        ("# a comment\nca", Place(12, "ca")),
        ("echo a#b c", Place(9, "c", command="echo")),
    ],
)
def test_the_word_at_the_end_of_a_text(text: str, expected: Place) -> None:
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
