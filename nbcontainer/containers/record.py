"""The record of a container on disk: its image, its layers and its cells."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerDamaged, StoreError
from nbcontainer.outcome import Outcome, Reason
from nbcontainer.sandbox.steps.proc import MountProc
from nbcontainer.store.atomic_files import replace_file
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.options import RunOptions
    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap
    from nbcontainer.store.layout import Store

RECORD = "container.json"
"""The record's file in the container's directory."""

_LOST = stat.S_ISVTX
"""In the mode of a record's file: one more cell was lost than the record lists."""

_SHOWN = 60  # characters of the command in a `repr`


@dataclass(frozen=True)
class CellRecord:
    """One cell that has ended.

    `layer` is its layer's id, empty if the cell changed nothing; `command` is its text, and `created` the time of its
    end (RFC 3339, UTC). `lost` is true if the cell changed something that could not be kept: the disk was full, say.
    """

    layer: str
    command: str
    created: str
    outcome: Outcome
    lost: bool = False

    def __repr__(self) -> str:
        command = " ".join(self.command.split())
        shown = command if len(command) <= _SHOWN else command[: _SHOWN - 1] + "…"
        return f"<CellRecord {shown!r}: {self.outcome.describe()}>"

    def to_json(self) -> dict[str, Any]:
        """Return the cell as JSON values."""
        return {
            "layer": self.layer,
            "command": self.command,
            "created": self.created,
            "outcome": self.outcome.as_dict(),
            **({"lost": True} if self.lost else {}),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> CellRecord:
        """Return the cell that `to_json` gave, or one of the old format, which has the outcome's fields beside its own.

        Raises `KeyError`, `TypeError` for anything else.
        """
        left = dict(values)
        own = {name: left.pop(name) for name in ("layer", "command", "created")}
        own["lost"] = left.pop("lost", False) is True
        if "outcome" in left:
            (left,) = left.values()  # raises ValueError if there is anything else
        return cls(**own, outcome=Outcome.from_dict(left))


@dataclass(frozen=True)
class Record:
    """The record of a container.

    `base` are its image's layers, from the bottom up. `session` is the session of an anonymous container, empty for a
    named one. `confinement` describes the isolation of the last cell (`describe_confinement`); None if no cell ran.
    `labels` are the container's own; its commits get them.
    """

    name: str
    image: str
    image_digest: str
    base: tuple[str, ...]
    created: str
    session: str = ""
    cells: tuple[CellRecord, ...] = ()
    confinement: dict[str, Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers, from the bottom up."""
        return self.base + tuple(cell.layer for cell in self.cells if cell.layer)

    @property
    def lost(self) -> int:
        """How many cells changed something that is lost."""
        return sum(cell.lost for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {**vars(self), "cells": [cell.to_json() for cell in self.cells]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Record:
        """Return the record that `to_json` gave. Raises `KeyError`, `TypeError`, `ValueError` for anything else."""
        left = dict(values)
        cells = tuple(CellRecord.from_json(cell) for cell in left.pop("cells"))
        return cls(**{**left, "base": tuple(left["base"])}, cells=cells)


def describe_confinement(todo: Plan, options: RunOptions, idmap: IdMap) -> dict[str, Any]:
    """Return the isolation of a cell as JSON values: user namespace, /proc, network, limits, and steps.

    The steps are those of the plan that ran, each with its purpose. A step that is not listed was not done.
    """
    return {
        "user_namespace": asdict(idmap),
        "proc": next((step.level for step in todo if isinstance(step, MountProc)), ""),
        "network": options.networking.network,
        "ports": [asdict(port) for port in options.networking.ports],
        "limits": {**asdict(options.resources.cgroup_limits), "storage": options.resources.storage},
        "steps": [{"step": type(step).__name__, "why": step.why, **step.shown()} for step in todo],
    }


def read_record(path: Path) -> Record:
    """Return the record in a container's directory.

    Raises `ContainerDamaged` if it cannot be read, and `FileNotFoundError` if there is none.
    """
    try:
        with (path / RECORD).open("rb") as file:
            record = Record.from_json(json.loads(file.read()))
            return _with_lost_cell(record) if os.fstat(file.fileno()).st_mode & _LOST else record
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"cannot read the record of container '{path.name}': {error}"
        raise ContainerDamaged(problem, hint=f"remove it with `%container rm {path.name}`") from error


def _with_lost_cell(record: Record) -> Record:
    """Return a record with one more cell: the lost one that did not fit into the record's file."""
    cell = CellRecord("", "(the record was not saved either)", record.created, Outcome(Reason.EXITED, 0), lost=True)
    return replace(record, cells=(*record.cells, cell))


def save_lost(store: Store, record: Record) -> None:
    """Save a record whose last cell is lost. If that fails, mark the record on disk instead, which needs no space."""
    try:
        save_record(store, record)
    except StoreError:
        path = store.path / "containers" / record.name / RECORD
        with contextlib.suppress(OSError):
            path.chmod(path.stat().st_mode | _LOST)


def save_record(store: Store, record: Record) -> None:
    """Write a container's record to its directory, which is made if it does not exist.

    The old or the new record is there if this process dies. A named container's record is on disk when this returns;
    an anonymous one's need not survive a crash of the machine. Raises `StoreError`.
    """
    place = store.path / "containers" / record.name
    # `dumps` and not `dump`, which is slower by far: it encodes in Python.
    data = json.dumps(record.to_json()).encode()
    try:
        place.mkdir(mode=0o755, exist_ok=True)
        (place / "lock").touch(mode=0o600)
        replace_file(place / RECORD, store.path / "tmp" / store.unique(), data, sync=not record.session)
    except OSError as error:
        _remove_unless_recorded(place)
        raise store_error(f"save the record of container '{record.name}'", store.path, error) from error


def _remove_unless_recorded(place: Path) -> None:
    """Remove a container's new directory if its first record could not be written."""
    with contextlib.suppress(OSError):
        if not (place / RECORD).exists():
            (place / "lock").unlink(missing_ok=True)
            place.rmdir()


def layers_in_use(store: Store) -> set[str]:
    """Return the layers of all containers on disk.

    Raises `ContainerDamaged`: the layers of a damaged record are not known.
    """
    return {layer for record in records(store) for layer in record.layers}


def records(store: Store) -> list[Record]:
    """Return the records of all containers on disk. Raises `ContainerDamaged`."""
    found = []
    for path in (store.path / "containers").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # it has just been removed
            found.append(read_record(path))
    return found
