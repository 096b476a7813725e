"""What verbs answer with: values that read well as text, as a page, and as JSON."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any

from nbcontainer.errors import visible


@dataclass(frozen=True)
class Table:
    """Rows under headings; `empty` is what to say where there are none; not `ok` is a failure."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str = "nothing"
    ok: bool = True

    def __str__(self) -> str:
        if not self.rows:
            return self.empty
        lines = [tuple(heading.upper() for heading in self.headings), *(tuple(map(visible, row)) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{html.escape(self.empty)}</p>"
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in self.headings)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def as_json(self) -> list[dict[str, str]]:
        """The rows as objects."""
        return [dict(zip(self.headings, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Lines:
    """One text a line, for scripts."""

    texts: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(map(visible, self.texts))

    __repr__ = __str__

    def as_json(self) -> list[str]:
        """The texts."""
        return list(self.texts)


@dataclass(frozen=True)
class Document:
    """A JSON document."""

    value: Any

    def __str__(self) -> str:
        return json.dumps(self.value, indent=2)

    __repr__ = __str__

    def as_json(self) -> Any:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Note:
    """One line that says what was done."""

    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def as_json(self) -> str:
        """The line."""
        return self.text


def size(number: int) -> str:
    """Bytes for people, in powers of 1000 as `docker images` has them."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.partition(":")[2][:12]
