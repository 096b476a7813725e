"""States: what a container is after one cell. A state is written once, and never changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.containers.history import cell_options
from nbcontainer.containers.history.volume_states import VolumeState, layers_of
from nbcontainer.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nbcontainer.containers.history.cell_options import CellOptions

_SHOWN = 60  # characters of the command in a `repr`


_TEXTS = frozenset({str})


def check_texts(*values: Any) -> None:
    """Raise `TypeError` unless all values are texts."""
    if not _TEXTS.issuperset(map(type, values)):
        raise TypeError("a value is not a text")


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


class StateId(NamedTuple):
    """The identity of a state in a store: the journal that has it, and its number there."""

    journal: str
    number: int

    def __str__(self) -> str:
        return f"{self.journal}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> StateId | None:
        """Return the id that `str` gave, None for an empty text. Raises `ValueError` for anything else."""
        if not text:
            return None
        journal, slash, number = text.partition("/")
        if not (journal and slash) or journal.startswith(".") or not number.isascii() or not number.isdecimal():
            raise ValueError(f"{text!r} is not the id of a state")
        return cls(journal, int(number))


@dataclass(frozen=True)
class CellRecord:
    """One cell that has ended.

    `layer` is its layer's id, empty if the cell changed nothing; `command` is its text, and `created` the time of its
    end (RFC 3339, UTC). `lost` is true if the cell changed something that could not be kept: the disk was full, say.
    `result` is the id of the result of a cached cell (`nbcontainer.store.cache_entries`), empty for any other cell;
    `computed` is the time at which that result was computed, empty if this cell computed it. `options` are those of a
    cell that failed (`nbcontainer.containers.history.cell_options`).
    """

    layer: str
    command: str
    created: str
    outcome: Outcome
    lost: bool = False
    result: str = ""
    computed: str = ""
    options: CellOptions = ()

    def __repr__(self) -> str:
        command = " ".join(self.command.split())
        shown = command if len(command) <= _SHOWN else command[: _SHOWN - 1] + "…"
        return f"<CellRecord {shown!r}: {self.outcome.describe()}>"

    @property
    def changed(self) -> bool:
        """Whether the cell changed something, be it lost or not."""
        return bool(self.layer) or self.lost

    def kept(self, layer: str, created: str) -> CellRecord:
        """Return the cell with its layer and the time of its end: each cell does, and `dataclasses.replace` is slow."""
        made = object.__new__(CellRecord)
        vars(made).update(vars(self), layer=layer, created=created)
        return made

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON values."""
        return {
            "layer": self.layer,
            "command": self.command,
            "created": self.created,
            "outcome": self.outcome.as_dict(),
            **({"lost": True} if self.lost else {}),
            **({"result": self.result} if self.result else {}),
            **({"computed": self.computed} if self.computed else {}),
            **({"options": cell_options.to_json(self.options)} if self.options else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CellRecord:
        """Return the cell that `to_json` gave, or one of the old format, which has the outcome's fields beside its own.

        Raises `KeyError`, `TypeError`, `ValueError` for anything else.
        """
        left = dict(values)
        own = {name: left.pop(name) for name in ("layer", "command", "created")}
        own["lost"] = left.pop("lost", False) is True
        own |= {name: left.pop(name) for name in ("result", "computed") if name in left}
        if "options" in left:
            own["options"] = cell_options.parsed(left.pop("options"))
        if "outcome" in left:
            (left,) = left.values()  # raises ValueError if there is anything else
        check_texts(own["layer"], own["command"], own["created"], own.get("result", ""), own.get("computed", ""))
        return cls(**own, outcome=Outcome.from_dict(left))


@dataclass(frozen=True)
class State:
    """What a container is after one cell.

    `parent` is the state that the cell saw, None for the image. `under` is the nearest state before this one whose cell
    changed something. `depth` is the number of layers on the image, `height` the number of cells, and `losses` how many
    of them lost their changes. `volumes` are the copy-on-write volumes that the container has had so far, with their
    changes that are not applied; `moved` is whether the cell added to these, or applied or discarded them.
    """

    id: StateId
    parent: StateId | None
    under: StateId | None
    depth: int
    height: int
    losses: int
    cell: CellRecord
    volumes: tuple[VolumeState, ...] = ()
    moved: bool = False

    @property
    def layer(self) -> str:
        """The layer of the root; empty if the cell changed nothing there."""
        return self.cell.layer

    @property
    def number(self) -> int:
        """Its number, as in `dev@3`."""
        return self.id.number

    @property
    def changed(self) -> bool:
        """Whether the cell changed something: in the root, be it lost or not, or in a volume."""
        return self.cell.changed or self.moved

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that the state needs beside those of earlier ones: the root's of its cell, and all of volumes."""
        own = (self.layer,) if self.layer else ()
        return (*own, *(layer for volume in self.volumes for layer in volume.layers)) if self.volumes else own

    def to_line(self) -> bytes:
        """Return the state as a line of its journal."""
        values = {
            "number": self.id.number,
            "parent": str(self.parent or ""),
            "under": str(self.under or ""),
            "layers": list(self.layers),
            "depth": self.depth,
            "height": self.height,
            "losses": self.losses,
            "cell": self.cell.to_json(),
            **({"volumes": [volume.to_json() for volume in self.volumes]} if self.volumes else {}),
            **({"moved": True} if self.moved else {}),
        }
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_line(cls, journal: str, line: bytes) -> State:
        """Return the state of a line. Raises `KeyError`, `TypeError`, `ValueError` for anything else."""
        values = json.loads(line)
        volumes = tuple(map(VolumeState.from_json, values.get("volumes", ())))
        return cls(
            StateId(journal, _number(values["number"])),
            StateId.parse(values["parent"]),
            StateId.parse(values["under"]),
            _number(values["depth"]),
            _number(values["height"]),
            _number(values["losses"]),
            CellRecord.from_json(values["cell"]),
            volumes,
            values.get("moved", False) is True,
        )


def following(
    parent: State | None, new: StateId, cell: CellRecord, volumes: tuple[VolumeState, ...] | None = None
) -> State:
    """Return the state after `cell`, which saw `parent`, or the image if that is None.

    `volumes` are those of the new state; None for those of `parent`.
    """
    if parent is None:
        found = State(new, None, None, int(bool(cell.layer)), 1, int(cell.lost), cell)
    else:
        under = parent.id if parent.changed else parent.under
        depth, losses = parent.depth + bool(cell.layer), parent.losses + cell.lost
        found = State(new, parent.id, under, depth, parent.height + 1, losses, cell, parent.volumes)
    if volumes is None:
        return found
    return replace(found, volumes=volumes, moved=layers_of(volumes) != layers_of(found.volumes))


def moved_to(states: Iterable[State], journal: str) -> list[State]:
    """Return states that are in no journal yet as states of `journal`. Those that they follow from come first."""
    moved: dict[StateId | None, StateId] = {}
    found = []
    for state in states:
        new = moved[state.id] = StateId(journal, state.number)
        parent, under = moved.get(state.parent, state.parent), moved.get(state.under, state.under)
        found.append(replace(state, id=new, parent=parent, under=under))
    return found
