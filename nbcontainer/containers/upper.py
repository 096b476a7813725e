"""The directories that overlay writes a cell's changes to."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from nbcontainer.sandbox.spec import Overlay

if TYPE_CHECKING:
    from nbcontainer.images.store import Store

# What overlay makes in a work directory (fs/overlayfs/super.c): directories that nobody may enter, and a file.
_WORK = ("work/work", "work/work/incompat", "work/work/incompat/volatile")
_DIRTY = "work/work/incompat/volatile/dirty"


class Upper:
    """A cell's upper and work directory, in the store's `tmp` until the cell has ended: a crash leaves only rubbish.

    `lowers` are the layers below it, the topmost first; `name` is for an anonymous container on it. With `in_memory`,
    as the store has it when this is made, the directories are links to some in the store's `memory`.
    """

    def __init__(self, store: Store, lowers: tuple[str, ...]) -> None:
        self.store = store
        self.lowers = lowers
        self.name = secrets.token_hex(6)
        self.id = store.unique()
        self.path = store.path / "tmp" / self.id
        self.in_memory = store.in_memory
        self._home = store.memory / self.id if self.in_memory else self.path
        self.root = Overlay(
            tuple(f"{layer}/diff" for layer in lowers), f"../tmp/{self.id}/diff", f"../tmp/{self.id}/work"
        )

    def make(self) -> None:
        """Makes the directories. The upper's own mode is the merged root's, so it is the image's (overlayfs.rst)."""
        self.store.new_directory(self.path, give=False)
        if self.in_memory:
            self.store.use_memory()  # another process that had nothing in there may have removed it
            self.store.new_directory(self._home, give=False)
            for name in ("diff", "work"):
                (self.path / name).symlink_to(self._home / name)
        upper = self.store.new_directory(self._home / "diff")
        self.store.new_directory(self._home / "work")
        try:
            mode = (self.store.path / "layers" / self.lowers[0] / "diff").stat().st_mode & 0o7777
        except PermissionError:
            return  # the image's root is closed to its owner: so is nobody's
        if mode != 0o755:
            upper.chmod(mode)

    def changed(self) -> bool:
        """Whether the cell left anything in it."""
        try:
            with os.scandir(f"{self.path}/diff") as entries:
                return next(entries, None) is not None
        except PermissionError:
            return True  # the cell changed the mode of / itself

    def keep(self) -> str:
        """Makes the upper a layer of the store; its id. No mount may have it any more (overlayfs.rst)."""
        place = self.store.path / "layers" / self.id
        self.store.new_directory(place, give=False)
        (self.path / "diff").rename(place / "diff")
        return self.id

    def remove(self) -> bool:
        """Removes what is there of it, as overlay leaves it; False where a cell has left more than that."""
        for name in _WORK:
            with contextlib.suppress(OSError):
                (self._home / name).chmod(0o700)
        with contextlib.suppress(OSError):
            (self._home / _DIRTY).unlink()
        for name in (*reversed(_WORK), "work/index", "work", "diff", ""):
            with contextlib.suppress(OSError):
                (self._home / name).rmdir()
        if self.in_memory:
            self._remove_links()
        return not self.path.exists()

    def _remove_links(self) -> None:
        for link in (self.path / "work", self.path / "diff"):
            if not link.exists():
                link.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()
