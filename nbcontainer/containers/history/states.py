"""Reading and writing states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.history.flats import Flats
from nbcontainer.containers.history.state import State, StateId
from nbcontainer.errors import ContainerDamaged
from nbcontainer.store.journals import JOURNALS, Journals, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REMOVE = "`%container verify` names the damaged container; remove it with `%container rm NAME`"
"""The hint of an error about a journal, whose name says nothing of its container."""

_KEPT = 20_000  # states in memory: 1 kB each


class States:
    """The states of the store at `store` (host), read once each. Thread-safe: what is kept never changes."""

    def __init__(self, store: Path) -> None:
        self.journals = Journals(store / JOURNALS)
        self.flats = Flats(store)
        self._known: dict[StateId, State] = {}

    def get(self, wanted: StateId) -> State:
        """Return a state by its id. Raises `ContainerDamaged` if it is missing or cannot be read, `OSError`."""
        if (known := self._known.get(wanted)) is not None:
            return known
        try:
            line = self.journals.line(wanted.journal, wanted.number)
            if line is None:
                raise ValueError("it is missing")
            return self._keep(State.from_line(wanted.journal, line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(wanted, error) from error

    def find(self, wanted: StateId) -> State | None:
        """Return a state by its id, None if its journal does not have it. Raises `ContainerDamaged`, `OSError`.

        The journal is asked, since another process can have dropped a state that this one has read.
        """
        try:
            there = self.journals.line(wanted.journal, wanted.number) is not None
        except ValueError as error:
            raise _damaged(wanted, error) from error
        return self.get(wanted) if there else None

    def last(self, journal: str) -> State | None:
        """Return the newest state of a journal, None if it has none. Raises `ContainerDamaged`, `OSError`."""
        line = self.journals.last(journal)
        if line is None:
            return None
        try:
            if (known := self._known.get(StateId(journal, number_of(line)))) is not None:
                return known
            return self._keep(State.from_line(journal, line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(StateId(journal, -1), error) from error

    def all(self, journal: str) -> list[State]:
        """Return all states of a journal, the oldest first. Raises `ContainerDamaged`, `OSError`."""
        found = []
        for line in self.journals.lines(journal):
            try:
                state = self._known.get(StateId(journal, number_of(line)))
                found.append(state or self._keep(State.from_line(journal, line)))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise _damaged(StateId(journal, -1), error) from error
        return found

    def add(self, states: Iterable[State]) -> None:
        """Append states of one journal to it, all or none. Raises `OSError`."""
        new = list(states)
        self.journals.append(new[0].id.journal, b"".join(state.to_line() for state in new))
        for state in new:
            self._keep(state)

    def share(self, journal: str) -> None:
        """Record that something besides its container may refer to a journal. Raises `OSError`."""
        self.journals.share(journal)

    def forget(self, journal: str) -> None:
        """Forget the states of a journal that are in memory: some were dropped from it."""
        for known in [state for state in self._known if state.journal == journal]:
            del self._known[known]

    def drop(self, journal: str) -> None:
        """Remove a journal. No state follows from those in it. Raises `OSError`."""
        self.journals.remove(journal)
        self.flats.files.remove(journal)

    def drop_all_but(self, used: set[str], sessions: set[str]) -> int:
        """Remove the journals that are not `used`; return how many. Call with the store's exclusive lock held.

        A living session may be about to use a journal of its own: those of `sessions` stay. Raises `OSError`.
        """
        names = {*self.journals.names(), *self.flats.files.names()} - used
        unused = [name for name in names if name.partition(".")[0] not in sessions]
        for name in unused:
            self.drop(name)
        return len(unused)

    def _keep(self, state: State) -> State:
        if len(self._known) >= _KEPT:
            self._known.clear()
        self._known[state.id] = state
        return state


def _damaged(state: StateId, error: Exception) -> ContainerDamaged:
    number = f"/{state.number}" if state.number >= 0 else ""
    problem = f"cannot read state {state.journal}{number} of the store: {error}"
    return ContainerDamaged(problem, hint=REMOVE)
