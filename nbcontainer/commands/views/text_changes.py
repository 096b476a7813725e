"""The view of `diff --text`: unified diffs of small files, and a line for each other path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.images.layers.changes import DELETED
from nbcontainer.rendering import page
from nbcontainer.rendering.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.comparing.text_diffs import TextDiff

_CLASSES = {"+": "good", "-": "bad", "@": "dim", "\\": "dim"}


@dataclass(frozen=True)
class TextChanges:
    """How paths differ, sorted by path. A line shows control characters as escapes: containers write these texts."""

    diffs: tuple[TextDiff, ...]

    def __len__(self) -> int:
        return len(self.diffs)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[TextDiff]:
        return iter(self.diffs)

    def __str__(self) -> str:
        return "\n".join(line for one in self.diffs for line in _block(one)) or "no changes"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.diffs:
            return "<p>no changes</p>"
        return page.page("".join(f"<pre>{_html(one)}</pre>" for one in self.diffs))

    def as_json(self) -> list[dict[str, Any]]:
        """Return the paths as objects: `change`, `path`, `size`, `notes` and `text`, a unified diff (null for none)."""
        return [
            {
                "change": one.difference.kind,
                "path": one.difference.path,
                "size": one.difference.change.size,
                "notes": list(one.notes),
                "text": "".join(f"{line}\n" for line in (*_names(one), *one.lines)) if one.lines else None,
            }
            for one in self.diffs
        ]


def _block(one: TextDiff) -> list[str]:
    """Return the lines of a path. A tab is shown as it is."""
    lines = (*_names(one), *one.lines) if one.lines else ()
    return [_head(one), *(_visible(line) for line in lines)]


def _head(one: TextDiff) -> str:
    notes = f": {', '.join(map(visible, one.notes))}" if one.notes else ""
    return f"{one.difference.kind} {visible(one.difference.path)}{notes}"


def _names(one: TextDiff) -> tuple[str, str]:
    difference = one.difference
    old = "/dev/null" if difference.before is None or not difference.before.is_file else f"a{difference.path}"
    new = "/dev/null" if difference.kind == DELETED or not (difference.after and difference.after.is_file) else ""
    return f"--- {old}", f"+++ {new or f'b{difference.path}'}"


def _visible(line: str) -> str:
    return "\t".join(map(visible, line.split("\t")))


def _html(one: TextDiff) -> str:
    head, *lines = _block(one)
    parts = [f"<b>{page.escape(head)}</b>"]
    for number, line in enumerate(lines):
        kind = "dim" if number < 2 else _CLASSES.get(line[:1], "")
        parts.append("\t".join(page.span(part, kind) for part in line.split("\t")))
    return "\n".join(parts)
