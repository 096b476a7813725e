"""Undo and redo: which state they lead to. A state is never changed or removed by a move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerError

if TYPE_CHECKING:
    from nbcontainer.containers.history.chain import History
    from nbcontainer.containers.history.state import CellRecord, State


def back(history: History, name: str, steps: int) -> tuple[State | None, CellRecord]:
    """Return the state before the last `steps` cells that changed something, and the earliest of these cells.

    `name` is the container's. Raises `ContainerError` if there are fewer.
    """
    found: list[State] = []
    for state in history.changes():
        found.append(state)
        if len(found) == steps:
            parent = None if state.parent is None else history.get(state.parent)
            return parent, state.cell
    if not found:
        problem = f"nothing to undo: no cell changed container '{name}'"
        raise ContainerError(problem, hint="see `%container history`")
    raise ContainerError(f"cannot undo {steps} cells of container '{name}': {_only(found)}", hint=_at_most(found))


def forward(history: History, name: str, head: State | None, steps: int) -> tuple[State, CellRecord]:
    """Return the state after the next `steps` undone cells that changed something, and the last of these cells.

    `history` is that of the state to which redo leads, which follows from `head`. Cells that changed nothing come with
    the one before them. Raises `ContainerError` if there are fewer.
    """
    height = 0 if head is None else head.height
    found = _above(history, height)[::-1]
    if len(found) < steps:
        if not found:
            hint = "undone states stay in `%container history --all`; `%container checkout` gives one a name"
            raise ContainerError(f"nothing to redo: container '{name}' is at its newest state", hint=hint)
        raise ContainerError(f"cannot redo {steps} cells of container '{name}': {_only(found)}", hint=_at_most(found))
    last = found[steps - 1]
    if len(found) == steps:
        assert history.head is not None
        return history.head, last.cell
    parent = found[steps].parent
    assert parent is not None
    return history.get(parent), last.cell


def _above(history: History, height: int) -> list[State]:
    """Return the states higher than `height` whose cells changed something, the newest first."""
    found = []
    for state in history.changes():
        if state.height <= height:
            break
        found.append(state)
    return found


def _only(found: list[State]) -> str:
    return f"only {len(found)} changed something" if len(found) != 1 else "only 1 changed something"


def _at_most(found: list[State]) -> str:
    return f"use at most -n {len(found)}"
