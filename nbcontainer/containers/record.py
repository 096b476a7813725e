"""What is written down of a container: its image, its layers, its cells."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerDamaged
from nbcontainer.images.store import cannot

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.images.store import Store


@dataclass(frozen=True)
class CellRecord:
    """One cell that ran: its layer's id (empty where it changed nothing), what it was, when, and how it ended."""

    layer: str
    command: str
    created: str
    reason: str
    exit_code: int


@dataclass(frozen=True)
class Record:
    """What is kept of a container.

    `base` are its image's layers, from the bottom up; `session` is an anonymous one's.
    """

    name: str
    image: str
    image_digest: str
    base: tuple[str, ...]
    created: str
    session: str = ""
    cells: tuple[CellRecord, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers, from the bottom up."""
        return self.base + tuple(cell.layer for cell in self.cells if cell.layer)


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
        raise cannot(f"write down container {record.name}", store.path, error) from error


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
