"""Directories of the host that a launcher shows to its containers, with the ids of their root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcontainer.errors import ContainerError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.steps.rootfs import HOST_TREES
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.sandbox.launcher.connection import Connection

_HINT = "its file system has no idmapped mounts, so it cannot be an image: use another directory"


class HostTrees:
    """The directories that a launcher shows. Not thread-safe: `Launcher` has the lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._shown: list[str] = []
        """In the order of their numbers in `HOST_TREES`."""
        self._mounted = 0
        """How many of them this launcher process has mounted."""
        connection.observers.append(self)

    def show(self, directories: Sequence[str]) -> tuple[str, ...]:
        """Show directories (host, absolute); see `Launcher.show`."""
        new = [directory for directory in directories if directory not in self._shown]
        if new:
            self._send(new)
        self._shown += new
        self._mounted = len(self._shown)
        return tuple(f"../{HOST_TREES}/{self._shown.index(directory)}" for directory in directories)

    def on_ready(self) -> None:
        """Show again, by the same numbers, the directories of a process that ended: a cell may have their paths.

        If one cannot be shown, all are forgotten, and a cell that has their paths reports that they are not there.
        """
        if self._mounted == len(self._shown):
            return
        try:
            self._send(self._shown)
            self._mounted = len(self._shown)
        except ContainerError:
            self._shown.clear()

    def _send(self, directories: Sequence[str]) -> None:
        assert self._connection.namespace is not None
        trees: list[int] = []
        try:
            for directory in directories:
                namespace = self._connection.namespace
                trees.append(idmapped_tree(directory, namespace, "the host's", recursive=False, hint=_HINT))
            self._connection.post({"show": self._mounted}, trees)
        finally:
            protocol.close(trees)

    def on_closed(self) -> None:
        """Keep the directories for the next launcher: their mounts ended with this one."""
        self._mounted = 0
