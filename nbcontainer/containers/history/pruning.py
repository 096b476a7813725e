"""Dropping states that no container follows from: those that were undone, and those of removed containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.history.chain import History
from nbcontainer.store.journals import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.history.states import States
    from nbcontainer.store.layout import Store


def drop_unreachable(store: Store, states: States, heads: Iterable[State | None], busy: set[str], new: set[str]) -> int:
    """Drop the states that none of `heads` follows from; return how many.

    The journals `busy` stay as they are, and of `new` those that no head follows from. Call with the
    store's exclusive lock held. Raises `ContainerDamaged`, `OSError`.
    """
    live: set[StateId] = set()
    for head in heads:
        for state in History(states, head).chain():
            if state.id in live:
                break
            live.add(state.id)
    numbers: dict[str, set[int]] = {}
    for one in live:
        numbers.setdefault(one.journal, set()).add(one.number)
    idle = [name for name in states.journals.names() if name not in busy and (name in numbers or name not in new)]
    return sum(_drop(store, states, name, numbers.get(name, set())) for name in idle)


def _drop(store: Store, states: States, journal: str, numbers: set[int]) -> int:
    lines = states.journals.lines(journal)
    kept = [line for line in lines if number_of(line) in numbers]
    if len(kept) == len(lines):
        return 0
    temporary = store.path / "tmp" / store.unique()
    store.freeing(lambda: states.journals.replace(journal, kept, temporary))
    states.forget(journal)
    flats = [line for line in states.flats.files.lines(journal) if number_of(line) in numbers]
    if states.flats.files.size(journal):
        store.freeing(lambda: states.flats.files.replace(journal, flats, temporary))
    return len(lines) - len(kept)
