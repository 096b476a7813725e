"""What a cell left behind: kept as a layer and a record, or noted as lost."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.containers.writes.keeping import keep, settled
from nbcontainer.oci import timestamps

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.history.state import CellRecord
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.sandbox.handle import ContainerHandle


@dataclass
class Leftovers:
    """What a cell left in its container: its write layer, the layers of its copy-on-write volumes, and its init.

    Each is None if there is none. With `mounts_values`, `/in` and `/out` were mounted in the root. With `holds_host`,
    a mount or a port of the host's is in use until init has ended.
    """

    engine: Engine
    container: Container
    upper: WriteLayer | None
    cow: CowVolumes | None
    running: ContainerHandle | None
    mounts_values: bool
    holds_host: bool
    _changes: bool = False

    def keep(self, cell: CellRecord | None) -> None:
        """Keep what the cell wrote as a layer; `cell` is None if it did not start or has no outcome.

        A cell that wrote nothing leaves nothing. If what it wrote cannot be kept, the container notes that it is lost.
        Raises `StoreError`, `OSError`.
        """
        self._changes = cell is not None and self.upper is not None  # unless it is known that there are none
        try:
            if self.mounts_values and self.running is not None and self.upper is not None:
                self._remove_mount_points(self.running, self.upper, killed=cell is None)
            self._keep(cell)
        except BaseException:
            if cell is not None and self._changes:
                self.container.lose_cell(cell.kept("", _now()))
            raise

    def _remove_mount_points(self, running: ContainerHandle, upper: WriteLayer, *, killed: bool) -> None:
        """Remove the directories that `/in` and `/out` were mounted on: the cell did not make them."""
        if killed:
            running.kill()
        running.wait()
        upper.remove_mount_points(self.engine)

    def _keep(self, cell: CellRecord | None) -> None:
        if self.running is not None and self.running.ended is not None and self.running.ended.get("left"):
            self.running.wait()  # a setuid program, which ends with init, can write until then
        changed = self._changes and self.upper is not None and self.upper.changed()
        moved = self._changes and self.cow is not None and self.cow.changed()
        self._changes = changed or moved
        if self.running is not None:
            if cell is None:
                self.running.kill()
            self._end(self.running, changed=changed)
        if cell is None:
            return
        if changed or moved:
            self._keep_changes(cell, changed=changed, moved=moved)
            return
        with contextlib.nullcontext() if self.container.anonymous else self.engine.store.lock(shared=True):
            self._add(cell, None, changed=False)

    def _keep_changes(self, cell: CellRecord, *, changed: bool, moved: bool) -> None:
        """Keep the write layer if that has `changed`, and those of the volumes that have if any has `moved`."""
        with contextlib.ExitStack() as stack:
            copy, engine = None, self.engine
            if changed and self.upper is not None:
                copy = stack.enter_context(settled(self.upper, engine, engine.launcher))
            if moved and self.cow is not None:
                self.cow.settle(stack)
            stack.enter_context(engine.store.lock(shared=True))
            self._add(cell, copy, changed=changed)

    def _end(self, running: ContainerHandle, *, changed: bool) -> None:
        """Let nothing of the container change its layer any more, if that has `changed`, or hold what is the host's.

        A mount must not keep a volume's disk busy, nor may a published port stay in use.
        """
        upper = self.upper
        if self.holds_host or (changed and (upper is None or upper.shared or upper.parts or running.ended is None)):
            running.wait()
        elif changed:
            self.engine.ending.add(running)
            self.engine.later(self.engine.ending.wait)  # before a next container is prewarmed on its layer

    def _add(self, cell: CellRecord, copy: Path | None, *, changed: bool) -> None:
        """Add the cell to the container, with its write layer, or the copy of it, if that has `changed`."""
        layer = keep(self.upper, self.engine, copy) if changed and self.upper is not None else ""
        owner = self.container if self.cow is None else self.cow
        try:
            owner.add_cell(cell.kept(layer, _now()))
        except BaseException:
            self.engine.drop_layer(layer)
            raise


def _now() -> str:
    return timestamps.timestamp(time.time())
