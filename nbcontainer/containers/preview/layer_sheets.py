"""The layers of a container's cells, sheet by sheet: read from the store, not from what the cells say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.drawing.layer_stack import Entry, LayerStack, Mark, Seen, Sheet
from nbcontainer.images import sandboxed
from nbcontainer.images.layers.changes import DELETED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nbcontainer.containers.container import Container

_COMMAND = 40  # characters of a cell in the name of its sheet


def layer_stack(container: Container, cells: int | None = None) -> LayerStack:
    """Return the sheets of a container after its first `cells` cells, all by default.

    Raises `ContainerBusy`, `StoreError`.
    """
    with container.use():
        workspace, base = container.workspace, container.record.base
        changes: list[tuple[str, list[Any]]] = []
        for number, cell in enumerate(container.cells[:cells], 1):
            if cell.layer:
                found = workspace.on_directory(sandboxed.list_changes, f"layers/{cell.layer}/diff", read_only=True)
                changes.append((f"cell {number}: {_one_line(cell.command)}", found))
        paths = sorted({path for _, found in changes for _, path, *_ in found})
        in_image, _ = (
            workspace.on_layers(sandboxed.look_up, base[::-1], paths=paths, replaced=[]) if paths else ((), ())
        )
    count = f"{len(base)} {'layer' if len(base) == 1 else 'layers'}"
    image = Sheet(f"image {container.record.image}", "lower", more=f"{count}, read-only")
    pile = _Pile(in_image)
    sheets = [image]
    for number, (name, found) in enumerate(changes, 1):
        role = "upper" if number == len(changes) else "lower"
        sheets.append(Sheet(name, role, tuple(pile.add(number, found))))
    return LayerStack(tuple(sheets), tuple(Seen(path, sheet) for path, sheet in sorted(pile.seen.items())))


def _one_line(command: str) -> str:
    line = "; ".join(" ".join(line.split()) for line in command.splitlines() if line.strip())
    return line if len(line) <= _COMMAND else line[: _COMMAND - 1] + "…"


class _Pile:
    """What is seen of the sheets that were added so far, in time linear in their entries.

    `seen` are the paths of the cells' sheets, with the number of the sheet. The paths of the image that later sheets
    touch count for what is changed and hidden, as long as they are seen.
    """

    def __init__(self, in_image: Iterable[str]) -> None:
        self.seen: dict[str, int] = {}
        self._known: set[str] = set()
        self._inside: dict[str, set[str]] = {}
        for path in in_image:
            self._learn(path)

    def _learn(self, path: str) -> None:
        # An upper directory has an entry for each directory above a change, so `path`'s parent is known, too.
        self._known.add(path)
        self._inside.setdefault(path.rpartition("/")[0], set()).add(path)

    def add(self, number: int, changes: Sequence[Sequence[Any]]) -> Iterator[Entry]:
        """Put a sheet on the pile; yield its entries."""
        made = {path for kind, path, *_ in changes if kind != DELETED}
        opaque: set[str] = set()
        for kind, path, size in changes:
            known = path in self._known
            if kind == DELETED:
                self._hide(path)
                if path not in made:
                    yield Entry(Mark.HIDDEN, path)
                elif known:  # the directory was removed and made again: its entry follows
                    opaque.add(path)
                continue
            self._learn(path)
            self.seen[path] = number
            mark = Mark.OPAQUE if path in opaque else Mark.CHANGED if known else Mark.ADDED
            yield Entry(mark, path, size)

    def _hide(self, path: str) -> None:
        """Forget a path of the sheets below, and all below it: each of them at most once."""
        waiting = [path]
        while waiting:
            name = waiting.pop()
            self._known.discard(name)
            self.seen.pop(name, None)
            waiting += self._inside.pop(name, ())
