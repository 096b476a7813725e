"""Containers that are ending: what they wrote is a layer already, and their overlay is mounted for a moment more."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from nbcontainer.sandbox.handle import wait_readable

if TYPE_CHECKING:
    from nbcontainer.sandbox.handle import ContainerHandle


class EndingContainers:
    """Containers whose cell has ended, and whose init has not. Thread-safe.

    The kernel takes two milliseconds to release the mounts of an init that ends, and no cell has to wait for that. But
    nothing mounts a layer that is still the upper directory of another overlay: what both would show is undefined
    (Documentation/filesystems/overlayfs.rst). So all that mounts layers calls `wait` first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inits: list[int] = []  # pidfds

    def add(self, container: ContainerHandle) -> None:
        """Kill a container of which all processes but init have ended, and note that it ends.

        None of its processes runs when this returns, so that its upper directory does not change any more.
        """
        container.kill()
        try:
            init = os.dup(container.pidfd)
        except OSError:  # no descriptor is left: what the cell wrote is worth two milliseconds
            wait_readable(container.pidfd)
            return
        with self._lock:
            self._inits.append(init)

    def wait(self) -> None:
        """Wait until those that were added have ended."""
        with self._lock:
            while self._inits:
                wait_readable(self._inits[-1])
                os.close(self._inits.pop())
