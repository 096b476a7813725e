"""The changes that the cells of a container made to its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.images import sandboxed
from nbcontainer.images.layers.changes import CHANGED, DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.containers.container import Container

ADDED = "A"


@dataclass(frozen=True)
class Change:
    """An absolute path in the container that was added (`A`), changed (`C`) or deleted (`D`), as in `docker diff`."""

    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


def diff(container: Container) -> list[Change]:
    """Return all changes of the container's cells to its image, sorted by path. Raises `ContainerBusy`."""
    with container.use():
        workspace, record = container.workspace, container.record
        last: dict[str, str] = {}
        replaced: set[str] = set()
        for cell in record.cells:
            if cell.layer:
                where = f"layers/{cell.layer}/diff"
                _add(last, replaced, workspace.on_directory(sandboxed.list_changes, where, read_only=True))
        if not last:
            return []
        there, inside = workspace.on_layers(
            sandboxed.look_up, record.base[::-1], paths=sorted(last), replaced=sorted(replaced)
        )
    return sorted(_against(last, set(there), inside), key=lambda change: change.path)


def _add(last: dict[str, str], replaced: set[str], changes: Iterable[Iterable[str]]) -> None:
    """Merge the changes of one layer into those of the layers below it."""
    for kind, path in changes:
        if kind == DELETED:
            for known in [known for known in last if known.startswith(path + "/")]:
                del last[known]
            replaced.add(path)
        last[path] = kind


def _against(last: dict[str, str], there: set[str], inside: dict[str, list[str]]) -> Iterable[Change]:
    for path, kind in last.items():
        if kind == DELETED:
            if path in there:
                yield Change(DELETED, path)
        else:
            yield Change(CHANGED if path in there else ADDED, path)
            # If a directory was removed and created again, its old contents are deleted unless they were created too.
            yield from (
                Change(DELETED, f"{path}/{name}") for name in inside.get(path, ()) if f"{path}/{name}" not in last
            )
