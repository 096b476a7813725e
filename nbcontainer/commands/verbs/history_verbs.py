"""The verbs about the history of containers: what their cells did, and how to go back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb, count, one_line
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.images import history
from nbcontainer.commands.verbs.targets import container_of, image_of, is_state, state_of
from nbcontainer.commands.views import CellRow, Note, listings
from nbcontainer.containers import lookup as containers
from nbcontainer.containers.comparing.cell_counts import CellCounts, counts_of
from nbcontainer.containers.copying.restoring import restore
from nbcontainer.containers.history.chain import History
from nbcontainer.drawing.state_graph import Line, state_graph
from nbcontainer.errors import ContainerNotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.history.state import State, StateId


def _history(call: Invocation) -> View:
    operands = call.words.operands
    if operands and is_state(operands[0]):
        container, state = state_of(call.engine, operands[0])
        chain = [*History(call.engine.states, state, container.record.carried).chain()][::-1]
        return listings.cell_list(_rows(container, chain, ()))
    try:
        container = container_of(call.engine, *operands)
    except (ContainerNotFound, UsageError):
        if not operands:
            raise
        return history(image_of(call.engine, operands[0]))
    chain = [*container.history.chain()][::-1]
    if not call.words.has("all"):
        return listings.cell_list(_rows(container, chain, ()), every=f"%container history {container.name} --all")
    there = {state.id for state in chain}
    states = {state.id: state for state in (*container.all_states(), *chain)}
    ordered = sorted(states.values(), key=lambda state: state.number)
    return listings.cell_list(_rows(container, ordered, states.keys() - there), undone=True)


def _rows(container: Container, states: list[State], undone: Collection[StateId]) -> list[CellRow]:
    counts: Mapping[StateId, CellCounts] = counts_of(container.workspace, container.record.base, states)
    if any(state.moved for state in states):
        from nbcontainer.containers.comparing.volume_counts import with_volumes

        counts = with_volumes(container.workspace, states, counts)
    return [_row(state, counts.get(state.id), undone=state.id in undone) for state in states]


def _row(state: State, files: CellCounts | None, *, undone: bool) -> CellRow:
    cell, changed = state.cell, bool(state.cell.layer) or state.moved
    files = files if state.cell.layer else files or CellCounts()
    return CellRow(state.number, cell.created, cell.outcome, changed, cell.command, cell.lost, undone, files)


def _undo(call: Invocation) -> View:
    container, steps = container_of(call.engine, *call.words.operands), _steps(call)
    cell = container.undo(steps)
    cells = "" if steps == 1 else f" {steps} cells, back to"
    return Note(f"{container.name}: undid{cells}: {one_line(cell.command)}")


def _redo(call: Invocation) -> View:
    container, steps = container_of(call.engine, *call.words.operands), _steps(call)
    cell = container.redo(steps)
    cells = "" if steps == 1 else f" {steps} cells, up to"
    return Note(f"{container.name}: redid{cells}: {one_line(cell.command)}")


def _checkout(call: Invocation) -> View:
    name = call.words.one("name")
    if not name:
        raise UsageError("checkout: missing name", hint="write `checkout CONTAINER@N --name NEW`")
    container, state = state_of(call.engine, call.words.operands[0])
    made = container.checkout(state, name)
    number = 0 if state is None else state.number
    return Note(f"created {made.name} from {container.name}@{number}")


def _restore(call: Invocation) -> View:
    text, *paths = call.words.operands
    container, state = state_of(call.engine, text)
    if "@" not in text:
        raise UsageError(f"restore: '{text}' is not a state", hint=f"write its number, as in {text}@2")
    number = 0 if state is None else state.number
    restore(container, number, paths)
    return Note(f"restored {count(len(paths), 'path')} of {container.name}@{number} in {container.name}")


def _tree(call: Invocation) -> View:
    found, _ = containers.list_all(call.engine)
    last = call.engine.last
    shown = [container_of(call.engine, name) for name in call.words.operands]
    if not shown:
        shown = [one for one in found if not one.anonymous]
        shown += [last] if last is not None and last.anonymous else []
    return state_graph([_line(one) for one in shown])


def _line(container: Container) -> Line:
    states = {state.id: state for state in (*container.all_states(), *container.history.chain())}
    head = container.record.head
    return Line(container.name, container.record.image, None if head is None else head.id, tuple(states.values()))


def _steps(call: Invocation) -> int:
    text = call.words.one("number", "1")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text)):
        raise UsageError(f"invalid number '{text}' for -n", hint="write a number of cells, as in -n 2")
    return int(text)


_NUMBER = Option(("-n", "--number"), "N", "how many cells, 1 by default")

HISTORY_VERBS = (
    Verb(
        Command(
            "history",
            "[CONTAINER[@N]|IMAGE]",
            "List a container's cells (those up to its state N), or an image's steps.",
            (
                Option(
                    ("-a", "--all"),
                    "",
                    "also list undone cells; in a notebook, list all cells, not only the newest 100",
                ),
            ),
            most=1,
        ),
        _history,
    ),
    Verb(
        Command("undo", "[CONTAINER]", "Undo the last cell that changed something.", (_NUMBER,), most=1),
        _undo,
    ),
    Verb(Command("redo", "[CONTAINER]", "Redo the cell that was undone.", (_NUMBER,), most=1), _redo),
    Verb(
        Command(
            "checkout",
            "CONTAINER[@N]",
            "Make a container in the state of another one, after its cell N (0: the image).",
            (Option(("--name",), "NAME", "the new container's name"),),
            least=1,
            most=1,
        ),
        _checkout,
    ),
    Verb(
        Command(
            "restore",
            "CONTAINER@N PATH...",
            "Give a container files and directories as they were after its cell N (0: the image), as a new state.",
            least=2,
            most=999,
        ),
        _restore,
    ),
    Verb(
        Command("tree", "[CONTAINER...]", "Draw containers and their states as a graph.", most=999),
        _tree,
    ),
)
