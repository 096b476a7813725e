"""Which journals and layers are in use: found in the bytes of journals, without reading their states one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nbcontainer.containers.history.states import REMOVE
from nbcontainer.errors import ContainerDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.containers.history.states import States

_LINE = re.compile(rb'\{"number": \d+, "parent": "([^"/]*)[^"]*", "under": "[^"]*", "layers": \[([^\]]*)\]')
"""The beginning of a line: the journal of the parent, and the layers."""

_LAYER = re.compile(r'"([^"/\\]+)"')


def mark(states: States, journals: Iterable[str], *, follow: bool = True) -> tuple[set[str], set[str]]:
    """Return the journals that states of `journals` follow from, these too, and all layers of their states.

    Flattened layers are among the layers. Without `follow`, look at `journals` alone. Raises `ContainerDamaged`,
    `OSError`.
    """
    seen: set[str] = set()
    layers: set[str] = set()
    waiting = set(journals)
    while waiting:
        journal = waiting.pop()
        seen.add(journal)
        parents, found = _read(states, journal)
        layers |= found | {flat.layer for flat in states.flats.all(journal)}
        waiting |= (parents if follow else set()) - seen
    return seen, layers


def _read(states: States, journal: str) -> tuple[set[str], set[str]]:
    """Return the journals of the parents of a journal's states, and the layers of these states."""
    parents, layers = set(), set()
    for line in states.journals.lines(journal):
        found = _LINE.match(line)
        if found is None:
            problem = f"a line of the journal {journal} cannot be read"
            raise ContainerDamaged(problem, hint=REMOVE)
        if found[1]:
            parents.add(found[1].decode())
        if found[2]:
            layers.update(_LAYER.findall(found[2].decode()))
    return parents, layers
