"""The mounts that a cell sees, as a tree: what is mounted where, from where, and who else sees changes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.drawing import svg
from nbcontainer.rendering import page
from nbcontainer.rendering.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MANY = 6
"""More mounts of one kind in one place than these are folded: devices, and hidden parts of /proc and /sys."""

VOLUME = "volume "
"""How what is mounted begins if it is a volume."""

_MOST, _SOURCE = 64, 52
"""Letters of a path, and of what is mounted: a longer one would make all other text too small to read."""


@dataclass(frozen=True)
class DrawnMount:
    """A mount in a container.

    `number` and `parent` are ids of proc_pid_mountinfo(5), `target` is a container path, `source` says
    briefly what is mounted, `propagation` is `private`, or as in mount_namespaces(7) `receives` or `shared`.
    """

    number: int
    parent: int
    target: str
    fstype: str
    source: str
    read_only: bool
    flags: tuple[str, ...] = ()
    propagation: str = "private"

    @property
    def access(self) -> str:
        """`ro` or `rw`, with the other flags."""
        return ",".join(("ro" if self.read_only else "rw", *self.flags))


@dataclass(frozen=True)
class _Row:
    mount: DrawnMount | None
    depth: int
    label: str
    last: tuple[bool, ...]


@dataclass(frozen=True)
class MountTree:
    """The mounts of a container, the root first."""

    mounts: tuple[DrawnMount, ...]

    def __str__(self) -> str:
        rows = list(_rows(self.mounts))
        label = max((len(_prefix(row) + visible(row.label)) for row in rows if row.mount), default=0)
        access = max((len(row.mount.access) for row in rows if row.mount), default=0)
        return "\n".join(
            f"{_prefix(row) + visible(row.label):<{label}}  "
            f"{row.mount.access if row.mount else '':<{access}}  {_source(row.mount)}".rstrip()
            for row in rows
        )

    __repr__ = __str__

    def as_json(self) -> list[dict[str, Any]]:
        """Return the mounts as JSON values."""
        return [{**vars(mount), "flags": list(mount.flags)} for mount in self.mounts]

    def _repr_html_(self) -> str:
        return page.page(self.as_svg())

    def as_svg(self) -> str:
        """Return the tree as an SVG drawing."""
        rows = list(_rows(self.mounts))
        indent = 16
        ends = [(row.mount, row.depth * indent + min(len(row.label), _MOST) * svg.LETTER) for row in rows]
        left = max((end for mount, end in ends if mount), default=0) + 36
        source = left + 3 * svg.LETTER
        flags = source + (max((min(len(_source(row.mount)), _SOURCE) for row in rows), default=0) + 3) * svg.LETTER
        right = flags + max((len(_flags(row.mount)) for row in rows), default=0) * svg.LETTER
        width = max([right, *(end for _, end in ends)]) + 10
        parts = []
        for number, row in enumerate(rows):
            y = number * svg.LINE + 13
            x = row.depth * indent
            parts += [svg.line(x - 8, y - 4, x - 1, y - 4)] if row.depth else []
            colour = svg.DIM if row.mount is None else ""
            parts.append(svg.text(x, y, row.label, colour=colour, bold=row.mount is not None, most=_MOST))
            if row.mount is not None:
                changed = svg.GOOD if row.mount.read_only else svg.WARN
                parts.append(svg.text(left, y, row.mount.access.partition(",")[0], colour=changed))
                parts.append(svg.text(source, y, _source(row.mount), most=_SOURCE))
                parts.append(svg.text(flags, y, _flags(row.mount), colour=svg.DIM))
        parts += _branches(rows, indent)
        return svg.drawing("The mounts that the cell sees", width, len(rows) * svg.LINE + 6, parts)


def _branches(rows: Sequence[_Row], indent: int) -> Iterator[str]:
    """Yield the vertical lines from a mount to the last one below it."""
    for number, row in enumerate(rows):
        below = [later for later in range(number + 1, len(rows)) if _parent(rows, later) == number]
        if below:
            x = row.depth * indent + indent - 8
            yield svg.line(x, number * svg.LINE + 16, x, below[-1] * svg.LINE + 9)


def _parent(rows: Sequence[_Row], number: int) -> int:
    depth = rows[number].depth
    return next((earlier for earlier in range(number - 1, -1, -1) if rows[earlier].depth < depth), -1)


def _prefix(row: _Row) -> str:
    if not row.depth:
        return ""
    return "".join("   " if last else "│  " for last in row.last[:-1]) + ("└─ " if row.last[-1] else "├─ ")


def _source(mount: DrawnMount | None) -> str:
    """Return what is mounted, and which changes of it are seen."""
    if mount is None:
        return ""
    spread = "" if mount.propagation == "private" else f", {mount.propagation} changes"
    return visible(f"{mount.source}{spread}")


def _flags(mount: DrawnMount | None) -> str:
    return "" if mount is None else ",".join(mount.flags)


def _rows(mounts: Sequence[DrawnMount], parent: int | None = None, last: tuple[bool, ...] = ()) -> Iterator[_Row]:
    """Yield the rows of the mounts below a mount, and those below these."""
    numbers = {mount.number for mount in mounts}
    here = [
        mount for mount in mounts if (mount.parent == parent if parent is not None else mount.parent not in numbers)
    ]
    shown, folded = _folded(here, {mount.parent for mount in mounts})
    for place, mount in enumerate(shown):
        end = place == len(shown) - 1 and not folded
        inner = (*last, end) if parent is not None else ()
        yield _Row(mount, len(inner), mount.target, inner)
        yield from _rows(mounts, mount.number, inner)
    for place, (label, number) in enumerate(folded):
        inner = (*last, place == len(folded) - 1)
        yield _Row(None, len(inner), f"{label} ({number})", inner)


def _folded(mounts: Sequence[DrawnMount], above: set[int]) -> tuple[list[DrawnMount], list[tuple[str, int]]]:
    """Return the mounts to show one by one, and kinds of mounts with their numbers.

    Volumes are shown, and so is each mount that has others on it: `above` are the numbers of these.
    """
    kinds: dict[tuple[str, str], list[DrawnMount]] = {}
    for mount in mounts:
        if mount.number not in above and not mount.source.startswith(VOLUME):
            kinds.setdefault((mount.source, mount.access), []).append(mount)
    many = {kind: found for kind, found in kinds.items() if len(found) >= _MANY}
    folded = {mount.number for found in many.values() for mount in found}
    shown = [mount for mount in mounts if mount.number not in folded]
    return shown, [(f"{source}: {_names(found)}", len(found)) for (source, _), found in many.items()]


def _names(mounts: Sequence[DrawnMount]) -> str:
    names = [mount.target for mount in mounts]
    return ", ".join(names[:3]) + ", …"
