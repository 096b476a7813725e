"""The first lines of cells, which are parsed once if nothing is replaced in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import UsageError
from nbcontainer.notebook.cell_magic.parsed_lines import ParsedLines
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
