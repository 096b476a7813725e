"""The extracted layers of the store: directories by id, and links to them by content."""

from __future__ import annotations

import os
from pathlib import Path


class Layers:
    """The layers below `folder` (host). Thread-safe.

    `ID/diff` has the files of a layer; nothing writes to it once the layer is there. `sha256/HEX` is a link to the
    layer with that content (the digest of its uncompressed tar). Several layers can have the same content; the link
    leads to one of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def find(self, diff_id: str) -> str | None:
        """Return the id of the layer with that content, or None."""
        try:
            # Strings instead of Path: every cell calls this for each layer.
            found = os.path.basename(os.readlink(f"{self._folder}/{diff_id.replace(':', '/', 1)}"))  # noqa: PTH115, PTH119
            os.stat(f"{self._folder}/{found}/diff")  # noqa: PTH116
        except FileNotFoundError:
            return None
        return found

    def name(self, layer: str, diff_id: str) -> str:
        """Record that `layer` has that content, unless an older layer has it. Return the id of the recorded one.

        Call with the store's exclusive lock held. Raises `OSError`.
        """
        if known := self.find(diff_id):
            return known
        link = Path(self._folder, diff_id.replace(":", "/", 1))
        link.unlink(missing_ok=True)  # it led to a layer that is lost
        link.symlink_to(f"../{layer}")
        return layer
