"""The graph of containers and their states, as lines and as SVG."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbcontainer.drawing.state_graph import Line, state_graph
from tests.documents import PACKAGE


@dataclass(frozen=True)
class Cell:
    """A cell with this text."""

    command: str


@dataclass(frozen=True)
class State:
    """A state after a cell."""

    id: str
    number: int
    parent: str | None = None

    @property
    def cell(self) -> Cell:
        """Its cell, whose text is the state's name."""
        return Cell(self.id)


def chain(name: str, length: int, parent: str | None = None, first: int = 1) -> tuple[State, ...]:
    """States that follow one from the other."""
    found: list[State] = []
    for number in range(first, first + length):
        found.append(State(f"{name}{number}", number, found[-1].id if found else parent))
    return tuple(found)


def test_fifty_containers_of_one_image_take_two_columns() -> None:
    """Each branch begins at the column of the image and ends before the next one: no row is wider for more of them."""
    lines = [Line(f"c{n}", "base", f"s{n}-1", chain(f"s{n}-", 1)) for n in range(50)]
    rows = str(state_graph(lines)).splitlines()
    assert rows[0] == "base"
    assert [row[:4] for row in rows[1:50]] == ["|-* "] * 49
    assert rows[50][:2] == "* "


def test_a_branch_of_a_branch_is_in_the_next_column() -> None:
    """What follows from a branch is below it; the newest state goes straight on, after all others."""
    states = (*chain("a", 2), *chain("b", 2, "a1", 3), State("c5", 5, "b3"), State("d9", 9, "a1"))
    assert str(state_graph([Line("dev", "base", "d9", states)])).splitlines() == [
        "base",
        "* 1 a1",
        "|-* 2 a2",
        "|-* 3 b3",
        "| |-* 4 b4",
        "| * 5 c5",
        "* 9 d9  (dev)",
    ]


def test_a_long_run_is_folded_within_its_branch() -> None:
    """The first three and the last three of a branch are shown; two branches side by side are not one run."""
    states = (*chain("a", 10), *chain("b", 3, first=11))
    rows = str(state_graph([Line("dev", "base", "a10", states)])).splitlines()
    assert rows == [
        "base",
        "|-* 1 a1",
        "| * 2 a2",
        "| * 3 a3",
        "| : 3 more cells",
        "| * 7 a7",
        "| * 8 a8",
        "| * 9 a9",
        "| * 10 a10  (dev)",
        "* 11 b11",
        "* 12 b12",
        "* 13 b13",
    ]


def test_each_state_of_the_drawing_is_joined_to_the_one_it_follows_from() -> None:
    """A row of a branch has a line in its column, the first one a curve from the column before."""
    states = (*chain("a", 3), State("b2", 2, "a1"))
    drawn = state_graph([Line("dev", "base", "a3", states)]).as_svg()
    assert drawn.count("<path") == 1
    circles = {tuple(map(int, found)) for found in re.findall(r'<circle cx="(\d+)" cy="(\d+)"', drawn)}
    ends = {tuple(map(int, found)) for found in re.findall(r'x2="(\d+)" y2="(\d+)"', drawn)}
    ends |= {tuple(map(int, found)) for found in re.findall(r' (\d+) (\d+)" fill="none"', drawn)}
    assert circles <= ends


def test_a_drawing_has_the_colours_of_the_page_around_it() -> None:
    """JupyterLab shows SVG as a picture, black on a dark page; as a part of the page it has the text's colour."""
    drawn = state_graph([Line("dev", "base", "a3", tuple(chain("a", 3)))])._repr_html_()
    assert 'viewBox="0 0 760 88"' in drawn  # nbconvert's page sets the height to auto, which is 150 pixels without it
    assert "fill:var(--jp-ui-font-color1, currentColor)" in drawn
    assert not [path for path in PACKAGE.rglob("*.py") if "def _repr_svg_" in path.read_text()]
