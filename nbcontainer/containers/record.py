"""What is written down of a container: its image, its layers, its cells."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerDamaged
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.options import RunOptions
    from nbcontainer.sandbox.steps.base import Plan
    from nbcontainer.sandbox.userns.idmap import IdMap
    from nbcontainer.store.layout import Store


@dataclass(frozen=True)
class CellRecord:
    """One cell that ran: its layer's id (empty where it changed nothing), what it was, when, and how it ended.

    From `reason` on as in `nbcontainer.sandbox.outcome.Outcome`.
    """

    layer: str
    command: str
    created: str
    reason: str
    exit_code: int
    signal: int = 0
    wall_time: float = 0.0
    cpu_time: float = 0.0
    peak_memory: int = 0
    limit: int = 0


@dataclass(frozen=True)
class Record:
    """What is kept of a container.

    `base` are its image's layers, from the bottom up; `session` is an anonymous one's. `confinement` is what the last
    cell was kept in, as `describe_confinement` says it; None where none ran.
    """

    name: str
    image: str
    image_digest: str
    base: tuple[str, ...]
    created: str
    session: str = ""
    cells: tuple[CellRecord, ...] = ()
    confinement: dict[str, Any] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers, from the bottom up."""
        return self.base + tuple(cell.layer for cell in self.cells if cell.layer)


def describe_confinement(todo: Plan, options: RunOptions, idmap: IdMap) -> dict[str, Any]:
    """What a cell is kept in: user namespace, network, what its processes may use together, and the steps for the rest.

    The steps, each with what it is for, are the plan that ran and not a description of it: what is not there was not
    done.
    """
    return {
        "user_namespace": asdict(idmap),
        "network": options.network,
        "ports": [asdict(port) for port in options.ports],
        "limits": {**asdict(options.cgroup_limits), "storage": options.storage},
        "steps": [{"step": type(step).__name__, "why": step.why, **step.shown()} for step in todo],
    }


def read_record(path: Path) -> Record:
    """The record in a container's directory. Raises `ContainerDamaged`, and FileNotFoundError for none."""
    try:
        values = json.loads((path / "container.json").read_text())
        cells = tuple(CellRecord(**cell) for cell in values.pop("cells"))
        values["base"] = tuple(values["base"])
        return Record(**values, cells=cells)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContainerDamaged(
            f"the record of container {path.name} cannot be read: {error}", hint=f"`%container rm {path.name}`"
        ) from error


def save_record(store: Store, record: Record) -> None:
    """Writes a container's record to its directory, making that; the old or the new one is there whatever happens."""
    place = store.path / "containers" / record.name
    temporary = store.path / "tmp" / store.unique()
    try:
        place.mkdir(mode=0o755, exist_ok=True)
        (place / "lock").touch(mode=0o600)
        with temporary.open("x") as file:
            json.dump(asdict(record), file)
            if not record.session:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(place / "container.json")
    except OSError as error:
        _take_back(place, temporary)
        raise store_error(f"write down container {record.name}", store.path, error) from error


def _take_back(place: Path, temporary: Path) -> None:
    """Leaves nothing of a record that could not be written: no directory either, if it was the first."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        if not (place / "container.json").exists():
            (place / "lock").unlink(missing_ok=True)
            place.rmdir()


def layers_in_use(store: Store, *, without: str = "") -> set[str]:
    """The layers that containers have. Raises `ContainerDamaged`: what a damaged record has is not known."""
    return {layer for record in records(store) if record.name != without for layer in record.layers}


def records(store: Store) -> list[Record]:
    """The records of all containers on disk. Raises `ContainerDamaged`."""
    found = []
    for path in (store.path / "containers").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(read_record(path))
    return found
