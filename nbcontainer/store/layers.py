"""The extracted layers of the store: directories by id, and links to them by content."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from nbcontainer.store.modes import make_open

_PRIVATE = stat.S_ISVTX
"""In the mode of a layer's directory: one container made the layer, and nothing else has ever referred to it."""


_UNFINISHED = stat.S_ISUID
"""In the mode of a layer's directory: a living session fills it. Linux ignores this bit of directories."""


class Layers:
    """The layers below `folder` (host). Thread-safe.

    `ID/diff` has the files of a layer; nothing writes to it once the layer is there. `sha256/HEX` is a link to the
    layer with that content (the digest of its uncompressed tar; a sha512 one has 128 digits). Several layers can have
    the same content; the link leads to one of them.

    A layer of a cell is *private* until an image or another container refers to it. So to remove its container, no
    other record has to be read. The mark is a bit of the directory's mode, which costs no call and no space on disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def find(self, diff_id: str) -> str | None:
        """Return the id of the layer with that content, or None."""
        try:
            # Strings instead of Path: every cell calls this for each layer.
            found = os.path.basename(os.readlink(self._link(diff_id)))  # noqa: PTH115, PTH119
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
        self.share(layer)
        link = Path(self._link(diff_id))
        link.unlink(missing_ok=True)  # it led to a layer that is lost
        link.symlink_to(f"../{layer}")
        return layer

    def _link(self, diff_id: str) -> str:
        return f"{self._folder}/sha256/{diff_id.rpartition(':')[2]}"

    def make_private(self, layer: str) -> Path:
        """Make the directory of a cell's layer, private, and return it. Raises `OSError`."""
        place = Path(self._folder, layer)
        make_open(place, _PRIVATE)
        return place

    def adopt(self, folder: Path, layer: str) -> None:
        """Make a directory of the store, with the layer's files in `diff`, the directory of a cell's layer.

        The directory moves as a whole. A cell may have given `diff` to another id, or closed it, and a directory that
        this user may not write to cannot get another parent (rename(2), EACCES). Raises `OSError`.
        """
        os.chmod(folder, 0o755 | _PRIVATE)  # noqa: PTH101 - as in `make_private`, of a cell
        os.rename(folder, f"{self._folder}/{layer}")  # noqa: PTH104

    def begin(self, layer: str) -> Path:
        """Make the directory of a private layer that takes a while to fill, and return it. Raises `OSError`."""
        place = self.make_private(layer)
        place.chmod(0o755 | _PRIVATE | _UNFINISHED)
        return place

    def finish(self, layer: str) -> None:
        """Record that a layer is whole. Raises `OSError`."""
        Path(self._folder, layer).chmod(0o755 | _PRIVATE)

    def is_unfinished(self, layer: str) -> bool:
        """Return whether a session, if it lives, fills a layer."""
        with contextlib.suppress(FileNotFoundError):
            return bool(os.stat(f"{self._folder}/{layer}").st_mode & _UNFINISHED)  # noqa: PTH116
        return False

    def share(self, layer: str) -> None:
        """Record that more than one thing may refer to a layer, before it does. Needs no space. Raises `OSError`."""
        if self.is_private(layer):
            Path(self._folder, layer).chmod(0o755)

    def is_private(self, layer: str) -> bool:
        """Return whether only the container that made it has ever referred to a layer; false if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return bool(os.stat(f"{self._folder}/{layer}").st_mode & _PRIVATE)  # noqa: PTH116
        return False
