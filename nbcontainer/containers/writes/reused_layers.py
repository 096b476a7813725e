"""Write layers that no container has changed: the next container gets one with its root still mounted.

To make the directories of a write layer, mount them and remove them takes a sixth of the processor time of a container
of many at once on a disk, and waits for the disk. Most of these containers write nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.root_mount import RootMount, tells_changes
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import NbcontainerError
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.launcher.root_mounts import SHORTAGES
from nbcontainer.sandbox.networking import Network

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.plan import PlanTemplate
    from nbcontainer.store.layout import Store

LIMIT = 16
"""How many wait at most: each holds two descriptors."""

_CAPABILITIES = frozenset(DEFAULT_CAPABILITIES)


def leaves_root(template: PlanTemplate) -> bool:
    """Return whether a container of this plan has its root for itself, and cannot change how it is mounted.

    One that shares something could hand a descriptor of its root to another process. That process could change the root
    while the next container has it. One with SYS_ADMIN could mount it anew with other options.
    """
    spec = template.spec
    return (
        template.compiled
        and not template.shares
        and spec.networking.network == Network.NONE
        and not spec.privileges.new_privileges
        and _CAPABILITIES.issuperset(spec.privileges.capabilities)
    )


class ReusedLayers:
    """The write layers that wait for a container, and those for new ones. Thread-safe. The owner calls `close`.

    A root is mounted for more than one container if the last one changed nothing: the next ones will probably do so,
    too. `discard` removes a write layer with a cell's files.
    """

    def __init__(self, store: Store, runner: Runner, launcher: Launcher, discard: Callable[[list[Path]], None]) -> None:
        self._store = store
        self._runner = runner
        self._launcher = launcher
        self._discard = discard
        self._lock = threading.Lock()
        self._idle: list[WriteLayer] = []
        self._closed = False
        self._pays = False
        self._possible: bool | None = None  # None before the first look at the file system

    def new(self, lowers: tuple[str, ...], template: PlanTemplate, *, afresh: bool = False) -> WriteLayer:
        """Return a write layer for a container of this plan on layers (the topmost first); the caller removes it.

        If `afresh`, its root is mounted by the container. Raises `OSError`, `ContainerError`, `LauncherError`.
        """
        suits = not afresh and leaves_root(template)
        if suits and (found := self._take(lowers)) is not None:
            return found
        layer = self._made(lowers)
        if not (suits and self._pays and layer.can_stay_mounted and self._can_mount(layer)):
            return layer
        try:
            if self._mount(layer):
                return layer
        except BaseException:
            self._remove(layer)
            raise
        self._remove(layer)
        return self._made(lowers)

    def give(self, layer: WriteLayer) -> bool:
        """Take over the layer of a container if that left it as it was. All its processes but init have ended.

        Return whether it is taken over.
        """
        if not layer.reusable:
            return False
        self._pays = not layer.kept and (layer.mount is None or layer.is_as_mounted)
        if layer.mount is None or not self._pays:
            return False
        with self._lock:
            if self._closed or self._possible is False or len(self._idle) >= LIMIT:
                return False
            self._idle.append(layer)
        return True

    def refuse(self) -> None:
        """Mount no more roots for several containers: this kernel did not let one attach its root."""
        self._possible = False
        self.trim((), 0)

    def trim(self, lowers: tuple[str, ...], number: int) -> None:
        """Remove all that wait but `number` of them on these layers."""
        with self._lock:
            alike = [layer for layer in self._idle if layer.lowers == lowers]
            kept = alike[len(alike) - number :] if number < len(alike) else alike
            removed = [layer for layer in self._idle if layer not in kept]
            self._idle = kept
        for layer in removed:
            self._remove(layer)

    def close(self) -> None:
        """Remove those that wait, and take over no more."""
        with self._lock:
            self._closed = True
        self.trim((), 0)

    def _take(self, lowers: tuple[str, ...]) -> WriteLayer | None:
        while True:
            with self._lock:
                found = next((layer for layer in reversed(self._idle) if layer.lowers == lowers), None)
                if found is None:
                    return None
                self._idle.remove(found)
            if (renewed := self._renewed(found)) is not None:
                return renewed
            self._remove(found)  # its launcher has ended

    def _renewed(self, old: WriteLayer) -> WriteLayer | None:
        """Return a layer with another id and name on the directories of one; None if its root is not mounted any more.

        What other processes know of the container before is by its id.
        """
        new = WriteLayer(self._store, self._runner, old.lowers)
        mount = old.mount
        if mount is None or new.root.upper is None or not mount.move(new.root.upper):
            return None
        try:
            mount.renew(str(old.path))
            os.rename(old.path, new.path)  # overlay has the directories by their inodes
        except OSError:
            return None
        old.mount, new.mount = None, mount
        new.root = replace(new.root, mounted=True)
        return new

    def _made(self, lowers: tuple[str, ...]) -> WriteLayer:
        layer = WriteLayer(self._store, self._runner, lowers, view(self._store, self._launcher, lowers))
        layer.make()
        return layer

    def _can_mount(self, layer: WriteLayer) -> bool:
        if self._possible is None:
            self._possible = tells_changes(str(layer.path))
        return self._possible

    def _mount(self, layer: WriteLayer) -> bool:
        """Have the root of a new layer mounted. Return False if that is not possible here: the layer is used up."""
        upper = layer.root.upper
        assert upper is not None
        try:
            if not self._launcher.mount_root(layer.root):
                self._possible = False
                return False
        except OSError:  # no descriptor or no memory is left for it now
            return False
        try:
            layer.mount = RootMount(self._launcher, upper, str(layer.path))
        except OSError as error:
            self._launcher.unmount_root(upper)
            if error.errno not in SHORTAGES:  # this process may not look into the layer
                self._possible = False
            return False
        layer.root = replace(layer.root, mounted=True)
        return True

    def _remove(self, layer: WriteLayer) -> None:
        with contextlib.suppress(OSError, NbcontainerError):  # the cleanup removes what cannot be removed now
            if not layer.remove():
                self._discard(layer.left)
