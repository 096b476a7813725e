"""Images, containers and states as a graph: lines in a terminal, SVG in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nbcontainer.drawing.svg import INK
from nbcontainer.rendering import page
from nbcontainer.rendering.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    class Cell(Protocol):
        """What is shown of a cell."""

        @property
        def command(self) -> str:
            """Its text."""

    class StateLike(Protocol):
        """What is shown of a state."""

        @property
        def id(self) -> Hashable:
            """Its identity."""

        @property
        def parent(self) -> Hashable | None:
            """The state that it follows from, None for the image."""

        @property
        def number(self) -> int:
            """The number of its cell."""

        @property
        def cell(self) -> Cell:
            """Its cell."""


_RUN = 8
"""States in a row, without a branch and a name, of which more are folded."""

_ROW, _STEP = 22, 18  # pixels
_WIDTH = 760  # pixels, unless the page is narrower
_TITLE = "Images, containers and their states"


@dataclass(frozen=True)
class Line:
    """A container: its name, its image, the state that it is in, and all of its states."""

    name: str
    image: str
    head: Hashable | None
    states: tuple[StateLike, ...]


@dataclass(frozen=True)
class Row:
    """A row of the graph.

    `depth` is the number of branches that continue below it, `names` are the containers in that state. With `begins`,
    it is the first one of a branch: it follows from the last row above with a lower depth.
    """

    depth: int
    label: str
    names: tuple[str, ...] = ()
    kind: str = "state"
    begins: bool = False


@dataclass(frozen=True)
class StateGraph:
    """The rows of the graph, each after the one that it follows from."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return "\n".join(map(_line, self.rows)) or "no containers"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        # Not as SVG: JupyterLab shows that as a picture, which has no colours of the page around it.
        return page.page(self.as_svg())

    def as_svg(self) -> str:
        """Return the graph as an SVG drawing, whose colours are those of the page around it."""
        height = _ROW * max(1, len(self.rows))
        marks = "".join(_mark(number, row) for number, row in enumerate(self.rows))
        style = f"max-width:100%;height:auto;font:13px system-ui,sans-serif;color:{INK};fill:{INK}"
        size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-label="{_TITLE}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}"><title>{_TITLE}</title>{marks}</svg>'

    def as_json(self) -> list[dict[str, Any]]:
        """Return the rows as objects."""
        return [{**vars(row), "names": list(row.names)} for row in self.rows]


def _line(row: Row) -> str:
    mark = {"image": "", "state": "* ", "fold": ": "}[row.kind]
    names = f"  ({', '.join(row.names)})" if row.names else ""
    branches = f"{'| ' * (row.depth - 1)}|-" if row.begins else "| " * row.depth
    return visible(f"{branches}{mark}{row.label}{names}")


def _mark(number: int, row: Row) -> str:
    x, y = 12 + _STEP * row.depth, _ROW * number + _ROW // 2
    parts = [_vertical(12 + _STEP * column, y) for column in range(row.depth)]
    if row.begins:
        curve = f"M{x - _STEP} {y - _ROW} C{x - _STEP} {y - 4} {x} {y - _ROW + 4} {x} {y}"
        parts.append(f'<path d="{curve}" fill="none" stroke="currentColor" opacity=".4"/>')
    elif row.kind != "image":
        parts.append(_vertical(x, y))
    if row.kind == "state":
        parts.append(f'<circle cx="{x}" cy="{y}" r="{5 if row.names else 4}" fill="currentColor"/>')
    elif row.kind == "image":
        parts.append(f'<rect x="{x - 5}" y="{y - 5}" width="10" height="10" fill="currentColor"/>')
    names = "".join(f' <tspan font-weight="bold">[{html.escape(visible(name))}]</tspan>' for name in row.names)
    parts.append(f'<text x="{x + 14}" y="{y + 4}">{html.escape(visible(row.label))}{names}</text>')
    return "".join(parts)


def _vertical(x: int, y: int) -> str:
    return f'<line x1="{x}" y1="{y - _ROW}" x2="{x}" y2="{y}" stroke="currentColor" opacity=".4"/>'


def state_graph(lines: Sequence[Line]) -> StateGraph:
    """Return containers and their states as a graph. States that containers share are there once."""
    rows: list[Row] = []
    for image in dict.fromkeys(line.image for line in lines):
        of_image = [line for line in lines if line.image == image]
        rows.append(Row(0, image, tuple(line.name for line in of_image if line.head is None), "image"))
        states = {state.id: state for line in of_image for state in line.states}
        heads: dict[Hashable, list[str]] = {}
        for line in of_image:
            heads.setdefault(line.head, []).append(line.name)
        rows += _folded(list(_walk(states, heads)))
    return StateGraph(tuple(rows))


def _walk(states: dict[Hashable, StateLike], heads: dict[Hashable, list[str]]) -> Iterator[Row]:
    below: dict[Hashable | None, list[StateLike]] = {}
    for state in states.values():
        parent = state.parent if state.parent in states else None
        below.setdefault(parent, []).append(state)
    waiting = _branches(0, below.get(None, []))
    while waiting:
        depth, begins, state = waiting.pop()
        label = f"{state.number} {one_line(state.cell.command)}"
        yield Row(depth, label, tuple(heads.get(state.id, ())), begins=begins)
        waiting += _branches(depth, below.get(state.id, []))


def _branches(depth: int, states: list[StateLike]) -> list[tuple[int, bool, StateLike]]:
    """Return states with their depths and whether they begin a branch, the one that is shown last first.

    The newest continues in its column. The others are shown before it, each with all that follows from it, so that one
    more column has room for them all.
    """
    newest_first = sorted(states, key=lambda one: -one.number)
    return [(depth + (at > 0), at > 0, one) for at, one in enumerate(newest_first)]


def _folded(rows: list[Row]) -> Iterator[Row]:
    """Yield rows; of a long run at one depth without names, the first and the last, and how many are between."""
    run: list[Row] = []
    for row in [*rows, None]:
        joins = row is not None and not row.begins and (not run or run[-1].depth == row.depth)
        if row is not None and joins and not row.names:
            run.append(row)
            continue
        yield from _shortened(run)
        run = []
        if row is not None and row.names:
            yield row
        elif row is not None:
            run = [row]


def _shortened(run: list[Row]) -> Sequence[Row]:
    if len(run) <= _RUN:
        return run
    return [*run[:3], Row(run[0].depth, f"{len(run) - 6} more cells", kind="fold"), *run[-3:]]
