"""Directories of the store that have a size limit in a launcher's mount namespace: a tmpfs over each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.sandbox.launcher.connection import Connection


class DirectoryLike(NamedTuple):
    """A new directory with the mode of another one, its times (accessed, modified; ns), and its attributes (hex)."""

    name: str
    mode: int = 0o755
    times: tuple[int, int] | None = None
    attributes: tuple[tuple[str, str], ...] = ()


class LimitedDirectory(NamedTuple):
    """A directory (relative to the store) of `size` bytes, and the directories in it."""

    path: str
    size: int
    directories: tuple[DirectoryLike, ...]


class LimitedDirectories:
    """Those of one launcher that no cell has used yet: each next process gets them. Not thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._unused: dict[str, LimitedDirectory] = {}
        connection.observers.append(self)

    def add(self, path: str, size: int, directories: Sequence[DirectoryLike]) -> None:
        """Mount one; see `Launcher.limit`. Raises `OSError`."""
        added = LimitedDirectory(path, size, tuple(directories))
        self._send(added)
        self._unused[path] = added

    def forget(self, path: str) -> None:
        """A cell uses this one, or it is gone: what a cell wrote there is lost with the process, and not restored."""
        self._unused.pop(path, None)

    def on_ready(self) -> None:
        """Mount those that the last process had, as they were: empty."""
        self._unused = {path: one for path, one in self._unused.items() if (self._connection.store / path).is_dir()}
        for one in self._unused.values():
            self._send(one)

    def on_closed(self) -> None:
        """Keep them for the next process: their mounts ended with this one."""

    def _send(self, one: LimitedDirectory) -> None:
        self._connection.post({"limit": one.path, "size": one.size, "directories": one.directories})
