"""The history of one container: the states that its present state follows from, and its layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.history import flats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.containers.history.flats import FlatsNow
    from nbcontainer.containers.history.state import State, StateId
    from nbcontainer.containers.history.states import States


class History:
    """What `head` follows from (None: the image alone). `carried` are states that are not in a journal yet."""

    def __init__(self, states: States, head: State | None, carried: Iterable[State] = ()) -> None:
        self.head = head
        self._states = states
        self._carried = {state.id: state for state in carried}

    def chain(self) -> Iterator[State]:
        """Yield the head and all that it follows from, the newest first. Raises `ContainerDamaged`, `OSError`."""
        state = self.head
        read: set[str] = set()
        while state is not None:
            yield state
            if state.parent is not None and state.parent.journal not in read and state.parent not in self._carried:
                read.add(state.parent.journal)
                self._states.all(state.parent.journal)  # one read(2) in place of a search for each
            state = None if state.parent is None else self.get(state.parent)

    def changes(self) -> Iterator[State]:
        """Yield the states of `chain` whose cells changed something. Raises `ContainerDamaged`, `OSError`."""
        state = self.head
        if state is not None and not state.changed:
            state = self._under(state)
        while state is not None:
            yield state
            state = self._under(state)

    def numbered(self, number: int) -> State | None:
        """Return the state of that number, None if the head does not follow from one. Raises `ContainerDamaged`.

        Numbers grow along the chain.
        """
        head = self.head
        if head is None or number > head.number:
            return None
        for state in self.chain():
            if state.number <= number:
                return state if state.number == number else None
        return None

    def layers(self) -> tuple[str, ...]:
        """Return the layers of the root, from the bottom up."""
        return tuple(state.layer for state in self.changes() if state.layer)[::-1]

    def lowers(self) -> tuple[str, ...]:
        """Return few layers with the same files as `layers`, the topmost first: flattened ones stand for many."""
        top = next(self.changes(), None)
        return () if top is None else self._states.flats.lowers(top, lambda flats: self._lowers(top, flats))

    def _lowers(self, top: State, flats: FlatsNow) -> tuple[str, ...]:
        found = []
        state: State | None = top
        while state is not None:
            flat = flats.at(state)
            if flat is None:
                found += [state.layer] if state.layer else []
                state = self._under(state)
            else:
                found.append(flat.layer)
                state = None if flat.under is None else self.get(flat.under)
        return tuple(found)

    def groups(self, most: int) -> list[tuple[str, list[State]]]:
        """Return layers that together have the files of the root, from the bottom up, each with the states it is of.

        They are one for each state if these are at most `most`, else flattened ones where there are any.
        """
        states = [state for state in self.changes() if state.layer]
        groups: list[tuple[str, list[State]]] = []
        known = self._states.flats.look()
        at = 0
        while at < len(states):
            flat = known.at(states[at]) if len(states) > most else None
            end = at + (1 if flat is None else flats.WIDTH**flat.level)
            groups.append((states[at].layer if flat is None else flat.layer, states[at:end][::-1]))
            at = end
        return groups[::-1]

    def get(self, wanted: StateId) -> State:
        """Return a state by its id. Raises `ContainerDamaged`, `OSError`."""
        return self._carried.get(wanted) or self._states.get(wanted)

    def _under(self, state: State) -> State | None:
        return None if state.under is None else self.get(state.under)
