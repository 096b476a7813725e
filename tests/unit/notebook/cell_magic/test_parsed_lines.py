"""The first lines of cells, which are parsed once if nothing is replaced in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.notebook.cell_magic.parsed_lines import ParsedLines, cell_arguments, verb_arguments
from nbcontainer.notebook.interpolation import expand, filler

if TYPE_CHECKING:
    from collections.abc import Callable


def filling(names: dict[str, str]) -> Callable[[str], str]:
    """What replaces in a word, as the magics do."""
    return lambda word: filler(names)(expand(word, names))


def test_a_line_is_parsed_again_as_if_it_were_new() -> None:
    """What a cell changes in its arguments is not there for the next cell with the same line."""
    lines = ParsedLines()
    first = lines.of("busybox --name dev -v /a:/a", str)
    first.operands.append("more")
    first.options["volume"].append("/b:/b")
    first.options["live"] = [""]
    second = lines.of("busybox --name dev -v /a:/a", str)
    assert (second.operands, second.options, second.tail) == (["busybox"], {"name": ["dev"], "volume": ["/a:/a"]}, [])


@pytest.mark.parametrize("line", ["{image} -e A=1", "$image -e A=1", "${image} -e A=1"])
def test_values_are_those_of_each_cell(line: str) -> None:
    """What is replaced in a line has its value of now, each time the cell runs."""
    lines = ParsedLines()
    for image in ("busybox", "alpine"):
        assert lines.of(line, filling({"image": image})).operands == [image]


def test_a_line_with_an_error_has_it_each_time() -> None:
    """A line that cannot be parsed is an error whenever the cell runs."""
    lines = ParsedLines()
    for _ in range(2):
        with pytest.raises(UsageError, match="--nonsense"):
            lines.of("busybox --nonsense", str)


def test_a_notebook_can_have_any_number_of_lines() -> None:
    """Only some of the lines are kept."""
    lines = ParsedLines()
    for number in range(1000):
        assert lines.of(f"busybox --name c{number}", str).one("name") == f"c{number}"
    assert len(lines._kept) <= 100


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("busybox --in x=d['a b'] -e A=1", ["busybox", "--in", "x=d['a b']", "-e", "A=1"]),
        ("--in x=f(1, 2) --in=y='a' busybox", ["--in", "x=f(1, 2)", "--in=y='a'", "busybox"]),
        ("--in  x='a' busybox cat", ["--in", "x='a'", "busybox", "cat"]),
        ("{images['a b']} --in x='a'", ["{images['a b']}", "--in", "x='a'"]),
        ("-e A='x y' -it -eB=2 busybox --in x='a'", ["-e", "A=x y", "-it", "-eB=2", "busybox", "--in", "x='a'"]),
        ("-e --in busybox echo --in x='a'", ["-e", "--in", "busybox", "echo", "--in", "x=a"]),
        ("-ie A --in x='a' busybox", ["-ie", "A", "--in", "x='a'", "busybox"]),
        ("busybox --in a,b echo --in x='a'", ["busybox", "--in", "a,b", "echo", "--in", "x=a"]),
        ("busybox echo --in x='a b'", ["busybox", "echo", "--in", "x=a b"]),
        ("busybox sh -c 'echo --in x=1'", ["busybox", "sh", "-c", "echo --in x=1"]),
        ('busybox sh -c "echo --in x=1" --in y="b"', ["busybox", "sh", "-c", "echo --in x=1", "--in", "y=b"]),
        ("busybox -- --in x='a'", ["busybox", "--", "--in", "x=a"]),
        ("-e \"B= --in x='1'\" busybox", ["-e", "B= --in x='1'", "busybox"]),
        ("busybox --in x==1", ["busybox", "--in", "x==1"]),
        ("busybox --in", ["busybox", "--in"]),
    ],
)
def test_an_expression_has_quotes_of_pythons_where_it_is_an_option(line: str, words: list[str]) -> None:
    """The command after the image is the container's: it has the quotes of a shell, and keeps its `--in`."""
    assert cell_arguments(line) == words
    assert verb_arguments(f"run {line}") == ["run", *words]


def test_the_words_after_s_are_the_bodys() -> None:
    """What follows `-s` are arguments of the body, with the quotes of a shell."""
    assert cell_arguments("busybox --in x='a' -s --in y='b'") == ["busybox", "--in", "x='a'", "-s", "--in", "y=b"]


def test_only_run_has_expressions() -> None:
    """The command of another verb is never changed."""
    assert verb_arguments("exec dev echo --in x='a b'") == ["exec", "dev", "echo", "--in", "x=a b"]
    assert verb_arguments("") == []
