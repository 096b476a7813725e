"""The layers of a container as sheets on a pile: what each one adds, changes and hides, and what is seen from above."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.drawing import svg
from nbcontainer.rendering import page
from nbcontainer.rendering.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SHOWN = 10
"""More entries of a sheet than these are folded."""

_WIDTH = 760

_PATH = 64
"""Letters of a path beside the sheet that it comes from."""

_LEGEND = "+ added   ~ changed   - hidden by a whiteout   = hides all that lies below it (opaque)"


class Mark(enum.StrEnum):
    """What a sheet does to a path."""

    ADDED = "+"
    CHANGED = "~"
    HIDDEN = "-"
    """By a whiteout: the path below is not seen."""
    OPAQUE = "="
    """The directory hides all that the sheets below have in it."""

    @property
    def word(self) -> str:
        """The mark as a word."""
        return self.name.lower()


@dataclass(frozen=True)
class Entry:
    """A path (absolute, container) in a sheet. `size` is that of a file's content in bytes, None for a directory."""

    mark: Mark
    path: str
    size: int | None = None


@dataclass(frozen=True)
class Sheet:
    """One layer. `name` says which, `role` is `lower` or `upper`; `more` says briefly what is not listed."""

    name: str
    role: str
    entries: tuple[Entry, ...] = ()
    more: str = ""

    @property
    def short(self) -> str:
        """The name without the command of a cell."""
        return self.name.partition(":")[0] if self.name.startswith("cell ") else self.name


@dataclass(frozen=True)
class Seen:
    """A path that is seen in the merged tree, and the number of the sheet that it comes from, the lowest is 0."""

    path: str
    sheet: int


@dataclass(frozen=True)
class LayerStack:
    """The sheets of a container, the lowest first, and what is seen of those of its cells."""

    sheets: tuple[Sheet, ...]
    seen: tuple[Seen, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        yield "merged"
        yield from (f"  {visible(one.path)}  from {self.sheets[one.sheet].short}" for one in self.seen[:_SHOWN])
        if len(self.seen) > _SHOWN:
            yield f"  and {len(self.seen) - _SHOWN} more"
        yield f"  and all else from {self.sheets[0].name}" if self.sheets else "  nothing"
        for sheet in reversed(self.sheets):
            yield f"{sheet.role}: {visible(sheet.name)}{f' ({sheet.more})' if sheet.more else ''}"
            yield from (f"  {entry.mark} {visible(entry.path)}" for entry in sheet.entries[:_SHOWN])
            if len(sheet.entries) > _SHOWN:
                yield f"  and {len(sheet.entries) - _SHOWN} more"

    def as_json(self) -> dict[str, Any]:
        """Return the sheets and what is seen, as JSON values."""
        return {
            "sheets": [
                {
                    "name": sheet.name,
                    "role": sheet.role,
                    "more": sheet.more,
                    "entries": [{"mark": one.mark.word, "path": one.path, "size": one.size} for one in sheet.entries],
                }
                for sheet in self.sheets
            ],
            "seen": [{"path": one.path, "sheet": self.sheets[one.sheet].name} for one in self.seen],
        }

    def _repr_html_(self) -> str:
        return page.page(self.as_svg() + "".join(map(_details, reversed(self.sheets))))

    def as_svg(self) -> str:
        """Return the pile as an SVG drawing: the merged tree on top, the image at the bottom."""
        paths = [svg.shortened(visible(one.path), _PATH) for one in self.seen]
        column = max(map(len, [*paths[:_SHOWN], "all else"]))
        lines = [
            f"{path:<{column}}  ← {self.sheets[one.sheet].short}" for path, one in zip(paths, self.seen, strict=True)
        ]
        rest = f"{'all else':<{column}}  ← {self.sheets[0].name}" if self.sheets else "nothing"
        parts, y = _sheet("merged: what the cell sees", [(line, "") for line in lines], rest, 4, dashed=True)
        for number, sheet in reversed(list(enumerate(self.sheets))):
            title = f"{number}  {sheet.role}: {sheet.name}"
            entries = [(f"{one.mark} {one.path}", _COLOURS[one.mark]) for one in sheet.entries]
            drawn, y = _sheet(title, entries, sheet.more, y + 10)
            parts += drawn
        if any(sheet.entries for sheet in self.sheets):
            parts.append(svg.text(12, y + 18, _LEGEND, colour=svg.DIM))
            y += svg.LINE + 4
        return svg.drawing("The layers of the container", _WIDTH, y + 4, parts)


_COLOURS = {Mark.ADDED: svg.GOOD, Mark.CHANGED: svg.WARN, Mark.HIDDEN: svg.BAD, Mark.OPAQUE: svg.BAD}


def _sheet(
    title: str, entries: Sequence[tuple[str, str]], more: str, y: float, *, dashed: bool = False
) -> tuple[list[str], float]:
    """Return the parts of one sheet whose top is at `y`, and where it ends."""
    shown = [*entries[:_SHOWN]]
    if len(entries) > _SHOWN:
        shown.append((f"… {len(entries) - _SHOWN} more", svg.DIM))
    if more:
        shown.append((more, svg.DIM))
    height = (len(shown) + 1) * svg.LINE + 8
    most = int((_WIDTH - 40) / svg.LETTER)
    parts = [
        svg.box(2, y, _WIDTH - 6, height, dashed=dashed),
        svg.text(12, y + 16, title[:most], bold=True),
    ]
    parts += [
        svg.text(28, y + 16 + number * svg.LINE, text if len(text) <= most else f"{text[: most - 1]}…", colour=colour)
        for number, (text, colour) in enumerate(shown, 1)
    ]
    return parts, y + height


def _details(sheet: Sheet) -> str:
    """Return all entries of a sheet that has more than the drawing shows, folded."""
    if len(sheet.entries) <= _SHOWN:
        return ""
    lines = "<br>".join(page.escape(f"{entry.mark} {entry.path}") for entry in sheet.entries)
    title = page.escape(f"{sheet.name}: {len(sheet.entries)} entries")
    return f"<details><summary>{title}</summary><code>{lines}</code></details>"
