"""The write layer of one copy-on-write volume in one cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.containers.writes.write_layer import WriteLayer

if TYPE_CHECKING:
    from nbcontainer.images.runner import Runner
    from nbcontainer.store.layout import Store


class VolumeLayer(WriteLayer):
    """The upper and work directories of a volume, in the store's `tmp` until the cell ends; see `WriteLayer`.

    `lowers` are the layers with earlier changes of the volume, the topmost first. The mount gives the upper directory
    its owner and mode (`nbcontainer.sandbox.steps.copy_on_write`).
    """

    has_root = False  # the mode of the volume itself is the mount's, and `apply` changes none

    def __init__(self, store: Store, runner: Runner, lowers: tuple[str, ...]) -> None:
        super().__init__(store, runner, lowers)
        self.places = (f"../tmp/{self.id}/diff", f"../tmp/{self.id}/work")
        """The upper and the work directory, relative to the store's `layers`."""

    def _match_lower(self) -> None:
        pass
