"""The verbs about the history of containers: what their cells did, and how to go back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, one_line
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.images import history
from nbcontainer.commands.verbs.targets import container_of, image_of
from nbcontainer.commands.views import CellRow, Note, listings
from nbcontainer.errors import ContainerNotFound, UsageError

if TYPE_CHECKING:
    from nbcontainer.commands.command import Invocation, View


def _history(call: Invocation) -> View:
    try:
        cells = container_of(call.engine, *call.words.operands).cells
    except (ContainerNotFound, UsageError):
        if not call.words.operands:
            raise
        return history(image_of(call.engine, call.words.operands[0]))
    rows = [
        CellRow(number, cell.created, cell.outcome, bool(cell.layer), cell.command, cell.lost)
        for number, cell in enumerate(cells, 1)
    ]
    return listings.cell_list(rows)


def _undo(call: Invocation) -> View:
    container = container_of(call.engine, *call.words.operands)
    cell = container.undo(_steps(call))
    return Note(f"{container.name} is as it was before: {one_line(cell.command)}")


def _redo(call: Invocation) -> View:
    container = container_of(call.engine, *call.words.operands)
    cell = container.redo(_steps(call))
    return Note(f"{container.name} is as it was after: {one_line(cell.command)}")


def _steps(call: Invocation) -> int:
    text = call.words.one("number", "1")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text)):
        raise UsageError(f"invalid number '{text}' for -n", hint="write a number of cells, as in -n 2")
    return int(text)


_NUMBER = Option(("-n", "--number"), "N", "how many cells, 1 by default")

HISTORY_VERBS = (
    Verb(
        Command("history", "[CONTAINER|IMAGE]", "List a container's cells, or an image's steps.", most=1),
        _history,
    ),
    Verb(
        Command("undo", "[CONTAINER]", "Undo the last cell that changed something.", (_NUMBER,), most=1),
        _undo,
    ),
    Verb(Command("redo", "[CONTAINER]", "Redo the cell that was undone.", (_NUMBER,), most=1), _redo),
)
