"""Flattened layers: one layer with the files of many states. They stand beside the states and make them quick to use.

Of each 16 layers, a flattened one is made; of 16 of these, one of the next level; and so on. So the number of lower
directories grows with the logarithm of the number of cells, and each change is linked once for each level.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.containers.history.state import StateId
from nbcontainer.store.journals import Journals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nbcontainer.containers.history.state import State

FLATS = "flats"

_KEPT = 256  # states of which the lowers are in memory: some 2 kB each

WIDTH = 16
"""How many layers become one. So a container has at most 15 lowers for each power of 16 of its layers."""


class Flat(NamedTuple):
    """A layer with all that the states above `under` (None: the image) changed, up to the state `number`."""

    number: int
    level: int
    layer: str
    under: StateId | None

    def to_line(self) -> bytes:
        """Return it as a line of its journal's file."""
        values = {"number": self.number, "level": self.level, "layer": self.layer, "under": str(self.under or "")}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Flat:
        """Return the one of a line. Raises `KeyError`, `TypeError`, `ValueError` for anything else."""
        values = json.loads(line)
        layer = str(values["layer"])
        return cls(int(values["number"]), int(values["level"]), layer, StateId.parse(values["under"]))


def levels(depth: int) -> int:
    """Return up to which level a state with so many layers ends a flattened one: 0 for none."""
    level = 0
    while depth and depth % WIDTH == 0:
        level, depth = level + 1, depth // WIDTH
    return level


class Flats:
    """The flattened layers of the store at `store` (host), in a file for each journal. Thread-safe."""

    def __init__(self, store: Path) -> None:
        self.files = Journals(store / FLATS)
        self._known: dict[str, tuple[int, Mapping[tuple[int, int], Flat]]] = {}
        self._lowers: dict[tuple[StateId, str], tuple[tuple[tuple[str, int], ...], tuple[str, ...]]] = {}

    def look(self) -> FlatsNow:
        """Return them as they are now, to be looked up many times."""
        return FlatsNow(self._sized)

    def lowers(self, top: State, find: Callable[[FlatsNow], tuple[str, ...]]) -> tuple[str, ...]:
        """Return what `find` returns for a state, or what it returned before if the files that it looked at are so.

        Each cell asks three times.
        """
        key = (top.id, top.layer)
        known = self._lowers.get(key)
        if known is not None and all(self.files.size(journal) == size for journal, size in known[0]):
            return known[1]
        now = self.look()
        found = find(now)
        if top.id.journal:  # those of an old record are all in the journal ""
            if len(self._lowers) >= _KEPT:
                self._lowers.clear()
            self._lowers[key] = (now.sizes(), found)
        return found

    def get(self, state: State, level: int) -> Flat | None:
        """Return the flattened layer of that level that ends with a state, None if there is none."""
        return self._sized(state.id.journal)[1].get((state.number, level))

    def add(self, journal: str, flat: Flat) -> None:
        """Add a flattened layer. Call with the store's exclusive lock held. Raises `OSError`."""
        before = self._sized(journal)[1]
        self.files.append(journal, flat.to_line())
        # The next cell need not read all lines again.
        self._known[journal] = (self.files.size(journal), {**before, (flat.number, flat.level): flat})

    def all(self, journal: str) -> list[Flat]:
        """Return the flattened layers of a journal. A line that cannot be read is left out: its layers are there."""
        found = []
        for line in self.files.lines(journal):
            try:
                found.append(Flat.from_line(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
                continue
        return found

    def _sized(self, journal: str) -> tuple[int, Mapping[tuple[int, int], Flat]]:
        """Return the size of a journal's file, and what it has, by the number of the last state and the level."""
        size = self.files.size(journal)
        known = self._known.get(journal)
        if known is None or known[0] != size:
            found = {(flat.number, flat.level): flat for flat in self.all(journal)}
            known = self._known[journal] = (size, found)
        return known


class FlatsNow:
    """The flattened layers at one moment: the file of each journal is looked at once, and not for each state.

    `read` returns the size of a journal's file, and what it has by the number of the last state and the level.
    """

    def __init__(self, read: Callable[[str], tuple[int, Mapping[tuple[int, int], Flat]]]) -> None:
        self._read = read
        self._journals: dict[str, tuple[int, Mapping[tuple[int, int], Flat]]] = {}

    def at(self, state: State) -> Flat | None:
        """Return the widest flattened layer that ends with a state, None if there is none."""
        level = levels(state.depth) if state.layer else 0
        if not level:
            return None
        journal = state.id.journal
        if (known := self._journals.get(journal)) is None:
            known = self._journals[journal] = self._read(journal)
        found = (known[1].get((state.number, wide)) for wide in range(level, 0, -1))
        return next((flat for flat in found if flat is not None), None)

    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Return the files that were looked at, by their journals, and their sizes at that moment."""
        return tuple((journal, size) for journal, (size, _) in self._journals.items())
