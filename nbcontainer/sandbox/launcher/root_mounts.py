"""Roots that the launcher has mounted, for one container after another (`nbcontainer.sandbox.steps.mounted_root`)."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher.connection import lost
from nbcontainer.sandbox.steps.mounted_root import AttachRoot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbcontainer.sandbox.launcher.connection import Connection
    from nbcontainer.sandbox.spec import Overlay
    from nbcontainer.sandbox.steps.base import Step


SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.ETOOMANYREFS})
"""The errors of what may be possible later."""


class RootMounts:
    """The roots of one launcher's process, as detached mounts, by their upper directories (`Overlay.upper`).

    No other process has them but an init that attaches a copy. Thread-safe but for `mount`, which uses the connection:
    `Launcher` has its lock.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._mounts: dict[str, list[int]] = {}
        self._refused = False
        connection.observers.append(self)

    @property
    def mounted(self) -> int:
        """How many there are."""
        return len(self._mounts)

    def mount(self, root: Overlay) -> bool:
        """Have a root mounted. All answers to earlier orders were received. Return False if this kernel cannot.

        Raises `OSError` if it cannot now, and `ContainerLost`.
        """
        if self._refused or root.upper is None:
            return False
        number = self._connection.number()
        order = {"root": root.lowers, "upper": root.upper, "work": root.work, "order": number}
        self._connection.send(order)
        answer, files = self._connection.receive(number)
        if "failed" in answer:
            if answer["failed"][0] in SHORTAGES:
                raise OSError(*answer["failed"])
            self._refused = True
            return False
        with self._lock:
            self._mounts[root.upper] = files
        return True

    def move(self, upper: str, place: str) -> bool:
        """Note that the upper directory of a root is at another place now. Return False if that root is not mounted."""
        with self._lock:
            files = self._mounts.pop(upper, None)
            if files is None:
                return False
            self._mounts[place] = files
        return True

    def unmount(self, upper: str) -> None:
        """Close a root: it is unmounted with the last container that has a copy."""
        with self._lock:
            files = self._mounts.pop(upper, ())
        protocol.close(files)

    def files(self, steps: Iterable[Step]) -> list[int]:
        """Return the descriptors that steps need. Raises `ContainerLost` if their root has ended with a launcher."""
        attach = next((step for step in steps if isinstance(step, AttachRoot)), None)
        if attach is None:
            return []
        with self._lock:
            if attach.upper not in self._mounts:
                raise lost("the launcher that had mounted its root ended")
            return self._mounts[attach.upper]

    def on_ready(self) -> None:
        """A new process has none: its user namespace is another one."""
        self._refused = False

    def on_closed(self) -> None:
        """Close all: they are of no use in the user namespace of the next process."""
        with self._lock:
            mounts, self._mounts = self._mounts, {}
        for files in mounts.values():
            protocol.close(files)
