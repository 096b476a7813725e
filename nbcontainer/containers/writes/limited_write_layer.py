"""`--storage`: a write layer with a size limit.

It is a tmpfs, which enforces its size, in the launcher's mount namespace. So a plain user may have one, and it is gone
when the notebook ends. The changes to keep are copied from it.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.writes.write_layer import WriteLayer, WriteView
from nbcontainer.errors import ContainerLost
from nbcontainer.images import sandboxed
from nbcontainer.images.comparison import root_directory
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.launcher.limited_directories import DirectoryLike

if TYPE_CHECKING:
    from nbcontainer.containers.writes.host_roots import HostView
    from nbcontainer.images.runner import Runner
    from nbcontainer.outcome import Outcome
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.store.layout import Store

_AGAIN = "run the cell again"


class LimitedWriteView(WriteView):
    """The changes of a cell in a limited write layer, which is mounted by this process's launcher."""

    def examine(self) -> dict[str, Any]:
        """Return what `nbcontainer.images.sandboxed.examine_uppers` finds: this process does not see the mount.

        Raises `ContainerLost` if the launcher that had it ended.
        """
        found = super().examine()
        if "diff" not in found["there"]:
            raise ContainerLost("what the cell wrote is lost: the launcher that had it in memory ended", hint=_AGAIN)
        return found

    def filled(self) -> list[str]:
        """Return the names of the upper directories that are not empty, and the root's if the root itself changed."""
        return list(self.examine()["filled"])


class LimitedWriteLayer(LimitedWriteView, WriteLayer):
    """A write layer of `size` bytes, and one inode for each 4096 of them, in memory, mounted by the launcher."""

    moves = False

    def __init__(
        self,
        store: Store,
        runner: Runner,
        launcher: Launcher,
        lowers: tuple[str, ...],
        below: HostView | None,
        size: int,
    ) -> None:
        WriteLayer.__init__(self, store, runner, lowers, below)
        self.launcher = launcher
        self.size = size
        self.in_memory = False  # not in the store's `memory`
        self._home = self.path

    def _make(self) -> None:
        self.store.new_directory(self.path, give=False)
        facts = Path(self.lower).stat()
        self._match_owner(facts)
        attributes = root_directory.travelling_attributes(self.lower)
        directories = [
            DirectoryLike("diff", facts.st_mode & 0o7777, (facts.st_atime_ns, facts.st_mtime_ns), attributes),
            *(DirectoryLike(f"diff.{number}", _mode(part)) for number, part in enumerate(self.parts)),
            *(DirectoryLike(f"work{suffix}") for suffix in self.suffixes),
        ]
        self.launcher.limit(self._place, self.size, directories)

    def explain(self, outcome: Outcome) -> Outcome:
        """The outcome of a cell that ended badly with all of it used is that it came to this limit."""
        ended_badly = not outcome.ok and outcome.reason in (Reason.EXITED, Reason.SIGNAL, Reason.KILLED)
        if not ended_badly or not self._is_full():
            return outcome
        return replace(outcome, reason=Reason.STORAGE_LIMIT, limit=self.size)

    def _is_full(self) -> bool:
        with contextlib.suppress(ContainerLost):
            return int(self.examine()["free"]) == 0
        return False

    def begin(self) -> None:
        """A cell writes to it from now on: a new launcher does not make it again, empty."""
        self.launcher.use_limited(self._place)

    @property
    def _place(self) -> str:
        return f"tmp/{self.id}"

    def remove_mount_points(self, runner: Runner) -> None:
        """Remove the `mount_points` that are empty: this process does not see them."""
        runner.on_directory(sandboxed.remove_empty, f"tmp/{self.id}/diff", names=list(self.mount_points))

    def remove(self) -> bool:
        """Remove it with the launcher's mount: since Linux 3.18, rmdir(2) works on other namespaces' mount points."""
        self.launcher.use_limited(self._place)
        with contextlib.suppress(OSError):
            self.path.rmdir()
        return not self.path.exists()


def _mode(part: str) -> int:
    try:
        return Path(part).stat().st_mode & 0o7777
    except PermissionError:  # it is in a directory of the host that is closed to this user
        return 0o755
