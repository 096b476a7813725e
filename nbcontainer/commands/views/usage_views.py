"""What `top` and `stats` return: processes, and what containers use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nbcontainer.rendering.fields import Size
from nbcontainer.rendering.table import Column, Table, listing
from nbcontainer.rendering.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class ProcessRow:
    """A process of a container: its pid there, its state as ps(1) shows it, and what it uses."""

    pid: int
    state: str
    seconds: float
    memory: int
    tasks: int
    command: str


def process_list(rows: Sequence[ProcessRow]) -> Table:
    """Return processes as a table."""
    shown = (
        Column("pid", lambda row: str(row.pid)),
        Column("state", lambda row: row.state),
        Column("CPU time", lambda row: f"{row.seconds:.2f} s"),
        Column("memory", lambda row: Size(row.memory)),
        Column("tasks", lambda row: str(row.tasks)),
        Column("command", lambda row: one_line(row.command)),
    )
    return listing(shown, rows, "no processes")


@dataclass(frozen=True)
class UsageRow:
    """What a container uses: processors in a moment, processor time, resident bytes, and tasks."""

    name: str
    processors: float
    seconds: float
    memory: int
    tasks: int


def usage_list(rows: Sequence[UsageRow]) -> Table:
    """Return what containers use as a table."""
    shown = (
        Column("container", lambda row: row.name),
        Column("CPU", lambda row: f"{row.processors * 100:.1f} %"),
        Column("CPU time", lambda row: f"{row.seconds:.2f} s"),
        Column("memory", lambda row: Size(row.memory)),
        Column("tasks", lambda row: str(row.tasks)),
    )
    return listing(shown, rows, "no container runs")


class LiveTable:
    """A table that can be made again: `again` returns a newer one. As a value it is the first one."""

    def __init__(self, again: Callable[[], Table]) -> None:
        self.again = again

    @cached_property
    def table(self) -> Table:
        """The table of the first moment."""
        return self.again()

    def __str__(self) -> str:
        return str(self.table)

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def as_json(self) -> Any:
        """Return the values of the first moment."""
        return self.table.as_json()
