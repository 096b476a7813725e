"""The lists that verbs return: what a row is, and how its values are shown.

A row is a frozen dataclass of Python values. Where the rows come from is the verbs' part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.rendering.fields import Quantity, Sign, Size, State, Text, When
from nbcontainer.rendering.quantities import duration, size
from nbcontainer.rendering.table import Column, Fold, Table, listing
from nbcontainer.rendering.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.containers.comparing.cell_counts import CellCounts
    from nbcontainer.outcome import Outcome

RUNNING, STOPPED, DAMAGED = "running", "stopped", "damaged"
INCOMPLETE = "incomplete"


def short(digest: str) -> str:
    """Return the first twelve digits of a digest."""
    return digest.partition(":")[2][:12]


@dataclass(frozen=True)
class ContainerRow:
    """A container as `ps` lists it. `command` is its last cell, `notebook` the name of the notebook that runs it.

    `created` is in RFC 3339. `incomplete` is true if changes of a cell are lost.
    """

    name: str
    image: str = ""
    state: str = STOPPED
    cells: int = 0
    created: str = ""
    command: str = ""
    notebook: str = ""
    incomplete: bool = False


def _container_state(row: ContainerRow) -> State:
    word = f"{row.state}, {INCOMPLETE}" if row.incomplete else row.state
    if row.state == DAMAGED:
        return State(word, Sign.BAD)
    if row.incomplete:
        return State(word, Sign.WARN)
    return State(word, Sign.GOOD if row.state == RUNNING else Sign.NONE)


def container_list(rows: Sequence[ContainerRow]) -> Table:
    """Return containers as a table."""
    shown = (
        Column("name", lambda row: row.name),
        Column("image", lambda row: row.image),
        Column("state", _container_state),
        Column("cells", lambda row: "" if row.state == DAMAGED else str(row.cells)),
        Column("created", lambda row: When(row.created)),
        Column("last cell", lambda row: one_line(row.command)),
        Column("notebook", lambda row: row.notebook),
    )
    return listing(shown, rows, "no containers")


@dataclass(frozen=True)
class ImageRow:
    """An image as `images` lists it, by one of its names.

    `size` is that of its layers' blobs in bytes, `created` is in RFC 3339.
    """

    image: str
    digest: str
    layers: int
    size: int
    created: str


def image_list(rows: Sequence[ImageRow], *, whole_digests: bool = False) -> Table:
    """Return images as a table."""
    shown = (
        Column("image", lambda row: row.image),
        Column("digest", lambda row: Text(row.digest if whole_digests else short(row.digest), dim=True)),
        Column("layers", lambda row: str(row.layers)),
        Column("size", lambda row: Size(row.size)),
        Column("created", lambda row: When(row.created)),
    )
    return listing(shown, rows, "no images")


@dataclass(frozen=True)
class CellRow:
    """A cell of a container as `history` lists it. `created` is the time of its end, in RFC 3339.

    `changed` is whether it left a layer; `incomplete` whether what it changed is lost; `undone` whether the container
    does not follow from it any more. `files` are the files and bytes that it added, changed and removed, None if they
    are not known.
    """

    cell: int
    created: str
    outcome: Outcome
    changed: bool
    command: str
    incomplete: bool = False
    undone: bool = False
    files: CellCounts | None = None


def _changed(row: CellRow) -> State | Quantity:
    if row.incomplete:
        return State(INCOMPLETE, Sign.WARN)
    files = row.files
    if files is not None and (files.added or files.changed or files.removed):
        return _files(files.changed, files.changed_bytes)
    return State("yes" if row.changed else "")


def _files(number: int, total: int) -> Quantity:
    """Return a number of files with their bytes; empty for none."""
    return Quantity(f"{number:,} ({size(total)})" if number else "")


NEWEST = 100
"""Cells that a page shows; the earlier ones are folded: a notebook keeps what it shows."""


def cell_list(rows: Sequence[CellRow], *, every: str = "", undone: bool = False) -> Table:
    """Return the cells of a container as a table; with `undone`, a column says which ones are undone.

    Its page shows the newest ones. `every` is the command that lists all; without it, a click on a line shows them.
    """
    shown = (
        Column("cell", lambda row: str(row.cell)),
        Column("when", lambda row: When(row.created)),
        Column("ended", lambda row: State(str(row.outcome.reason), row.outcome.sign)),
        Column("code", lambda row: str(row.outcome.exit_code)),
        Column("duration", lambda row: Quantity(duration(row.outcome.wall_time))),
        Column("added", lambda row: _files(row.files.added, row.files.added_bytes) if row.files else ""),
        Column("changed", _changed),
        Column("removed", lambda row: _files(row.files.removed, row.files.removed_bytes) if row.files else ""),
        *((Column("undone", lambda row: "undone" if row.undone else ""),) if undone else ()),
        Column("what", lambda row: one_line(row.command)),
    )
    return replace(listing(shown, rows, "no cells"), fold=_fold(len(rows) - NEWEST, every))


def _fold(earlier: int, every: str) -> Fold | None:
    if earlier <= 0:
        return None
    text = f"{earlier:,} earlier {'cell' if earlier == 1 else 'cells'}"
    return Fold(earlier, f"{text}: `{every}`" if every else text, opens=not every)


@dataclass(frozen=True)
class StepRow:
    """A step that made an image. `size` is that of its layer in bytes, None if it has none."""

    created: str
    size: int | None
    created_by: str
    comment: str


def step_list(rows: Sequence[StepRow]) -> Table:
    """Return the steps of an image as a table."""
    shown = (
        Column("created", lambda row: When(row.created)),
        Column("size", lambda row: "" if row.size is None else Size(row.size)),
        Column("created by", lambda row: one_line(row.created_by, 72)),
        Column("comment", lambda row: row.comment),
    )
    return listing(shown, rows, "no history")


@dataclass(frozen=True)
class UsageRow:
    """Disk usage in bytes: what one thing uses alone, and together with others (None for the total)."""

    kind: str
    name: str
    own: int
    shared: int | None = None


def usage_list(rows: Sequence[UsageRow]) -> Table:
    """Return disk usage as a table. The total has no bar: it would be the longest in any case."""

    def own(row: UsageRow) -> Size | str:
        size = Size(row.own)
        return size.plain if row.shared is None else size

    shown = (
        Column("what", lambda row: row.kind),
        Column("name", lambda row: row.name),
        Column("its own", own),
        Column("shared", lambda row: "" if row.shared is None else Size(row.shared)),
    )
    return listing(shown, rows, "nothing")


@dataclass(frozen=True)
class VolumeRow:
    """A volume of the store. `created` is in RFC 3339."""

    name: str
    in_use: bool
    created: str
    labels: dict[str, str]


def volume_list(rows: Sequence[VolumeRow]) -> Table:
    """Return volumes as a table."""
    shown = (
        Column("name", lambda row: row.name),
        Column("state", lambda row: State("in use", Sign.GOOD) if row.in_use else ""),
        Column("created", lambda row: When(row.created)),
        Column(
            "labels", lambda row: ", ".join(f"{name}={value}" if value else name for name, value in row.labels.items())
        ),
    )
    return listing(shown, rows, "no volumes")


@dataclass(frozen=True)
class ProblemRow:
    """A damaged image or container, and what is wrong with it. The other name is empty."""

    image: str
    problem: str
    container: str = ""


def problem_list(rows: Sequence[ProblemRow]) -> Table:
    """Return damaged images and containers as a table, which is a failure if there is one."""
    heading = "name" if any(row.container for row in rows) else "image"
    shown = (
        Column(heading, lambda row: State(f"container {row.container}" if row.container else row.image, Sign.BAD)),
        Column("problem", lambda row: row.problem),
    )
    return listing(shown, rows, "all blobs match their digests, and all containers are whole", ok=not rows)
