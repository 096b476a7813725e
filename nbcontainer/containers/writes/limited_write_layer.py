"""`--storage`: an upper that holds so much and no more.

A file system that counts is what it takes: a tmpfs, which only the launcher's mount namespace has, so that a plain user
may have one and nothing of it is left wherever the notebook ends. What lasts is copied from it.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.writes.copies import copied
from nbcontainer.containers.writes.write_layer import WriteLayer, WriteView
from nbcontainer.images import sandboxed
from nbcontainer.sandbox.outcome import Reason

if TYPE_CHECKING:
    from nbcontainer.containers.writes.host_roots import HostView
    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.outcome import Outcome
    from nbcontainer.store.layout import Store


class LimitedWriteView(WriteView):
    """What a cell has written to a limited upper, of this process's launcher."""

    def __init__(
        self, store: Store, runner: Runner, upper: str, lowers: tuple[str, ...], parts: tuple[str, ...] = ()
    ) -> None:
        super().__init__(store, upper, lowers, parts)
        self.runner = runner

    def examine(self) -> dict[str, Any]:
        """See `nbcontainer.images.sandboxed.examine_here`: what the launcher sees, and this process does not."""
        found: dict[str, Any] = self.runner.on_directory(sandboxed.examine_here, f"tmp/{self.id}", read_only=True)
        return found

    def filled(self) -> list[str]:
        """The names of the upper directories that something is in."""
        return list(self.examine()["filled"])


class LimitedWriteLayer(LimitedWriteView, WriteLayer):
    """An upper of `size` bytes, and an inode for each 4096 of them, in memory: a mount of the launcher's."""

    def __init__(
        self,
        store: Store,
        runner: Runner,
        launcher: Launcher,
        lowers: tuple[str, ...],
        below: HostView | None,
        size: int,
    ) -> None:
        WriteLayer.__init__(self, store, lowers, below)
        self.runner = runner
        self.launcher = launcher
        self.size = size
        self.in_memory = False  # of the store's, where its file system can hold no upper
        self._home = self.path

    def _make(self) -> None:
        self.store.new_directory(self.path, give=False)
        models = [self.store.path / "layers" / self.lowers[0] / "diff", *map(Path, self.parts)]
        directories = []
        for suffix, model in zip(self._suffixes, models, strict=True):
            directories += [(f"diff{suffix}", _mode(model)), (f"work{suffix}", 0o755)]
        self.launcher.limit(f"tmp/{self.id}", self.size, directories)

    def explain(self, outcome: Outcome) -> Outcome:
        """The outcome of a cell that ended badly with all of it used is that it came to this limit."""
        ended_badly = not outcome.ok and outcome.reason in (Reason.EXITED, Reason.SIGNAL, Reason.KILLED)
        if not ended_badly or self.examine()["free"] > 0:
            return outcome
        return replace(outcome, reason=Reason.STORAGE_LIMIT, limit=self.size)

    def keep(self, runner: Runner) -> str:
        """Copies it to a layer of the store; the layer's id."""
        with copied(self.store, runner, self) as place:
            place.rename(self.store.path / "layers" / place.name)
            return place.name

    def remove(self) -> bool:
        """Removes it, the launcher's mount with it: a mount of another namespace is no hindrance (rmdir(2), 3.18)."""
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return not self.path.exists()


def _mode(model: Path) -> int:
    try:
        return model.stat().st_mode & 0o7777
    except PermissionError:  # the image's root is closed to its owner: so is nobody's
        return 0o755
