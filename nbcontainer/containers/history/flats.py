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
    from pathlib import Path

    from nbcontainer.containers.history.state import State

FLATS = "flats"

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
        self._known: dict[str, tuple[int, dict[tuple[int, int], Flat]]] = {}

    def at(self, state: State) -> Flat | None:
        """Return the widest flattened layer that ends with a state, None if there is none."""
        for level in range(levels(state.depth) if state.layer else 0, 0, -1):
            if (flat := self.get(state, level)) is not None:
                return flat
        return None

    def get(self, state: State, level: int) -> Flat | None:
        """Return the flattened layer of that level that ends with a state, None if there is none."""
        return self._of(state.id.journal).get((state.number, level))

    def add(self, journal: str, flat: Flat) -> None:
        """Add a flattened layer. Call with the store's exclusive lock held. Raises `OSError`."""
        self.files.append(journal, flat.to_line())

    def all(self, journal: str) -> list[Flat]:
        """Return the flattened layers of a journal. A line that cannot be read is left out: its layers are there."""
        found = []
        for line in self.files.lines(journal):
            try:
                found.append(Flat.from_line(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
        return found

    def _of(self, journal: str) -> dict[tuple[int, int], Flat]:
        """Return those of a journal by the number of their last state, and their level."""
        size = self.files.size(journal)
        known = self._known.get(journal)
        if known is None or known[0] != size:
            found = {(flat.number, flat.level): flat for flat in self.all(journal)}
            known = self._known[journal] = (size, found)
        return known[1]
