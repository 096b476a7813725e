"""Tables of fields, and lists of facts about one thing."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from nbcontainer.rendering import page
from nbcontainer.rendering.fields import Size, Text
from nbcontainer.rendering.text import columns, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.rendering.fields import Field


_LEFT = 'align="left" style="text-align:left"'
"""JupyterLab aligns to the right by a rule that only a style attribute overrides; GitHub keeps only `align`."""


def _field(value: Field | str) -> Field:
    return Text(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Fold:
    """The first `rows` of a long table, which a page shows as one line, `text`. With `opens`, a click shows them."""

    rows: int
    text: str
    opens: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings; `empty` is what it shows without rows; not `ok` is a failure.

    `items` are the values that the rows show: the table is a sequence of them, and they are its JSON form. Without
    items, that form has the plain texts, by heading. `fold` keeps the page small; the text and the JSON have all rows.
    """

    headings: tuple[str, ...]
    cells: tuple[tuple[Field | str, ...], ...]
    empty: str = "nothing"
    ok: bool = True
    items: tuple[Any, ...] = ()
    fold: Fold | None = None

    @cached_property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The plain texts of the fields."""
        return tuple(tuple(_field(value).plain for value in row) for row in self.cells)

    def __len__(self) -> int:
        return len(self.items or self.cells)

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, at: int) -> Any: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Any]: ...
    def __getitem__(self, at: int | slice) -> Any:
        return (self.items or self.rows)[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items or self.rows)

    def __str__(self) -> str:
        if not self.cells:
            return self.empty
        lines = [[visible(_field(value).text) for value in row] for row in self.cells]
        return columns([[heading.upper() for heading in self.headings], *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.cells:
            return f"<p>{page.escape(self.empty)}</p>"
        folded = 0 if self.fold is None else self.fold.rows
        return page.page(self._folded() + self._html(self.cells[folded:]))

    def _folded(self) -> str:
        if self.fold is None:
            return ""
        text = page.span(self.fold.text, "dim")
        if not self.fold.opens:
            return f"<p>{text}</p>"
        return f"<details><summary>{text}</summary>{self._html(self.cells[: self.fold.rows])}</details>"

    def _html(self, cells: Sequence[Sequence[Field | str]]) -> str:
        largest = [_largest(column) for column in zip(*self.cells, strict=True)]
        body = "".join(
            _row("td", [_field(value).html(most) for value, most in zip(row, largest, strict=True)]) for row in cells
        )
        head = _row("th", [page.escape(heading) for heading in self.headings])
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    def as_json(self) -> list[Any]:
        """Return the items, or else the rows, as objects."""
        if self.items or not self.cells:
            return [json_value(item) for item in self.items]
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]


def _largest(column: Sequence[Field | str]) -> int:
    return max((value.number for value in column if isinstance(value, Size)), default=0)


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag} {_LEFT}>{cell}</{tag}>" for cell in cells) + "</tr>"


def json_value(item: Any) -> Any:
    """Return a row's value as JSON values: by its `as_dict`, or else by its fields."""
    if hasattr(item, "as_dict"):
        return item.as_dict()
    if not is_dataclass(item) or isinstance(item, type):
        return item
    return {name: json_value(value) for name, value in vars(item).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Column:
    """One column of a listing: its heading, and the field that it shows of an item."""

    heading: str
    field: Callable[[Any], Field | str]


def listing(shown: Sequence[Column], items: Sequence[Any], empty: str, *, ok: bool = True) -> Table:
    """Return a table with a row for each item."""
    cells = tuple(tuple(column.field(item) for column in shown) for item in items)
    return Table(tuple(column.heading for column in shown), cells, empty, ok, tuple(items))


def facts(title: str, values: Sequence[tuple[str, Field | str]]) -> str:
    """Return a page about one thing: a title, and a line for each fact that is not empty."""
    lines = "".join(_row("td", [page.span(name, "dim"), _field(value).html(0)]) for name, value in values if value)
    return page.page(f"<b>{page.escape(title)}</b><table><tbody>{lines}</tbody></table>")
