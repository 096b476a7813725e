"""The engine of one process on one store: a workspace, its warm pool, and the container of the last cell."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from nbcontainer.containers.cleanup import end_session
from nbcontainer.containers.warm.warm_pool import WarmContainer, WarmPool
from nbcontainer.containers.workspace import Workspace
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteLayer
from nbcontainer.errors import ContainerError, ContainerNotFound, NbcontainerError, UsageError
from nbcontainer.images import trash
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.handle import readable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.cow.attaching import CowVolumes
    from nbcontainer.containers.options import RunOptions
    from nbcontainer.containers.warm.warm_files import WarmFiles
    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.sandbox.cgroups.group import Group, GroupLimits
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.plan import PlanTemplate


_FAREWELL = 0.5
"""Seconds for a live container to end by itself, when its notebook ends."""


class Live(Protocol):
    """A container that runs between cells, with these options."""

    options: RunOptions

    @property
    def handle(self) -> ContainerHandle | None:
        """The handle of the container while it runs."""

    def wake(self) -> None:
        """Wake what runs cells in it, if anything does: a cell is about to come."""

    def ask(self) -> None:
        """Ask what runs in it to end, and do not wait for that."""

    def stop(self, grace: float) -> None:
        """End everything in it, at once if it does not end within `grace` seconds; its changes are kept."""

    def kill(self) -> None:
        """End everything in it at once. The end of a job is not waited for."""


class Server(Protocol):
    """A socket at `path`, relative to the store (`nbcontainer.containers.live.exec_server`)."""

    path: str

    def close(self) -> None:
        """Accept no more connections."""


class LiveJob(Live, Protocol):
    """A run that continues between cells (`nbcontainer.containers.jobs`)."""

    def join(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, `seconds` at most; return whether it has."""

    def kill(self, reason: Reason = ..., grace: float = ...) -> None:
        """End it at once, and do not wait for that. `reason` and `grace` are as in its outcome."""


def _report_ended(jobs: list[str]) -> None:
    print(f"nbcontainer: ended with the notebook: {', '.join(jobs)}", file=sys.stderr)


class Engine(Workspace):
    """A workspace that runs cells: it keeps warm containers, and the container of the last cell.

    `live` are the containers that run between cells, by name (`nbcontainer.containers.live`).

    Thread-safe. `close` ends every container that this process runs, and its session.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the store at `path` (host; the user's default if None). Raises `StoreError`."""
        super().__init__(path)
        self.closed = False
        self.last: Container | None = None
        self._noted: set[str] = set()
        self.live: dict[str, Live] = {}
        self.jobs: dict[str, LiveJob] = {}
        """The jobs of this process by the names of their containers, those that have ended too."""
        self.report_ended: Callable[[list[str]], None] = _report_ended
        """Called at the end with the names of the jobs that ran still, and were ended."""
        self.exec_server: Server | None = None
        self.file_digests: object = None
        """Digests of files for keys of cached cells (`nbcontainer.containers.cached`); None before the first."""
        self.last_template: tuple[object, PlanTemplate] | None = None
        """The template of the last cell, and what it was made of (`nbcontainer.containers.cells.template`)."""
        self._ending = False
        self._anonymous: Container | None = None
        self._groups: list[Group] = []
        self._allocated = 0
        """How many containers cells have taken so far."""
        self._prewarmed = 0
        """How often `prewarm` was called."""
        self._warm = WarmPool(self.store, self, self.launcher, lambda paths: trash.discard(self.store, self, paths))
        atexit.register(self.close)

    def close(self) -> None:
        """End everything of this process. Idempotent. In a fork(2) of this process it does nothing."""
        if self._owner != os.getpid():
            return
        self.background.release()
        if self.exec_server is not None:
            self.exec_server.close()
        self._end_live()
        with self._lock:
            if self.closed:
                return
            self.closed = True
        atexit.unregister(self.close)
        self.background.close()
        self._warm.close()  # first: a container that still mounts leaves directories behind
        with contextlib.suppress(OSError, NbcontainerError):
            end_session(self)
        self.close_launchers()
        self._groups = [one for one in self._groups if not one.remove()]
        with contextlib.suppress(OSError):
            self.store.memory.rmdir()
        self.store.close()

    def _end_live(self) -> None:
        """End the containers that run between cells, all at the same time, and report the jobs among them in a line."""
        self._ending = True
        lives, deadline = dict(self.live), time.monotonic() + _FAREWELL
        jobs = {name: self.jobs[name] for name in lives if name in self.jobs}
        for live in lives.values():
            live.ask()
        for job in jobs.values():
            job.join(max(0.0, deadline - time.monotonic()))
        for job in jobs.values():
            job.kill(Reason.STOPPED, _FAREWELL)
        for live in lives.values():
            with contextlib.suppress(OSError, NbcontainerError):
                live.stop(max(0.0, deadline - time.monotonic()))
        if jobs:
            self.report_ended([*jobs])

    def network_of(self, name: str) -> tuple[str, int]:
        """Return the network of a container that runs between cells, and a descriptor of its network namespace.

        The caller closes that. Raises `ContainerNotFound`, `ContainerError`.
        """
        live = self.live.get(name)
        handle = None if live is None else live.handle
        if live is None or handle is None:
            hint = f"start it with `%%container IMAGE --name {name} --bg`"
            raise ContainerNotFound(f"no container '{name}' runs in this notebook", hint=hint)
        network, namespace = handle.joined_network or (live.options.networking.network, handle.network_namespace)
        if namespace is None:
            hint = "run the command with `%container exec`"
            raise ContainerError(f"the network of container '{name}' cannot be joined here", hint=hint)
        handle.touched = "another container joined its network"
        return network, os.dup(namespace)

    def note_once(self, text: str, notify: Callable[[str], None]) -> None:
        """Call `notify` with a line about this place, if no cell of this notebook has shown it."""
        if text not in self._noted:
            self._noted.add(text)
            notify(text)

    # The beginning of a cell: warm containers

    def allocate(
        self,
        launcher: Launcher,
        lowers: tuple[str, ...],
        template: PlanTemplate,
        limits: GroupLimits,
        storage: int | None = None,
        *,
        afresh: bool = False,
    ) -> WarmContainer:
        """Return a container for a cell on these layers (the topmost first), with the plan of `template` on its layer.

        It is a warm one, in its group if it has limits, if one fits and `afresh` is false. Else it has a new write
        layer, limited to `storage` bytes if that is given, and has done no steps. The caller removes layer and group.
        """
        self._allocated += 1
        warm = launcher is self.launcher and storage is None and not afresh
        if warm and (found := self._warm.take(lowers, limits, template)) is not None:
            return found
        self.ending.wait()
        if launcher is not self.launcher and view(self.store, self.launcher, lowers) is not None:
            raise UsageError("the image 'host' requires a user namespace", hint="remove --userns=host")
        if storage is None:
            upper = self._warm.layers.new(lowers, template, afresh=afresh or launcher is not self.launcher)
        else:
            below = view(self.store, self.launcher, lowers)
            upper = LimitedWriteLayer(self.store, self, self.launcher, lowers, below, storage)
            upper.make()
        return WarmContainer(upper, template, template.on(upper.root, upper.name), (), limits)

    def refuse_mounted_roots(self) -> None:
        """Have each container mount its own root from now on: one could not attach a mounted one."""
        self._warm.layers.refuse()

    def wake(self) -> None:
        """Wake the warm container that the next cell is most likely to use. Call it before the cell is parsed."""
        self._warm.wake()

    @property
    def files(self) -> WarmFiles:
        """The files of the next cells: what is taken of them, the caller closes."""
        return self._warm.files

    def prewarm(self, lowers: tuple[str, ...], limits: GroupLimits, template: PlanTemplate) -> None:
        """Make warm containers for a next cell that is like `template`, in the background.

        If that cell has come before they are made, cells come without a pause, and only what saves time is done. At the
        end of the engine, none are made.
        """
        before = self._allocated
        if self._ending:
            return
        self._prewarmed = number = self._prewarmed + 1

        def prepare() -> None:
            hurried = self._allocated != before
            if not hurried or self._prewarmed == number:
                self._warm.prepare(lowers, limits, template, hurried=hurried)

        self.later(prepare)

    # The end of a cell

    def release(
        self,
        upper: WriteLayer | None,
        running: ContainerHandle | None = None,
        group: Group | None = None,
        cow: CowVolumes | None = None,
        *,
        shares: bool = False,
    ) -> None:
        """Remove what a cell leaves, in the background, once its mounts are gone; at once if the engine is closed.

        A write layer that the next container can have is not removed. All processes but init must have ended for that.
        With `shares`, the container counts in the store's `sharing` until it has ended.
        """
        if shares and (running is None or readable(running.pidfd)):  # soon: the next cell asks
            self.store.sharing.end()
            shares = False
        alone = running is not None and running.is_alone
        removed = None if alone and upper is not None and self._warm.layers.give(upper) else upper

        def remove() -> None:
            self._remove_remains(removed, running, group, cow, shares=shares)

        if not self.background.add(remove):  # a cell of another thread, which ended with the engine
            with contextlib.suppress(OSError, NbcontainerError):
                remove()

    def _remove_remains(
        self,
        upper: WriteLayer | None,
        running: ContainerHandle | None,
        group: Group | None,
        cow: CowVolumes | None,
        *,
        shares: bool,
    ) -> None:
        if running is not None:
            with running:
                running.wait()
        if shares:
            self.store.sharing.end()
        if cow is not None:
            cow.release()
        # A group that the kernel keeps is tried again after the next cell, and at the end.
        groups = (*self._groups, *(() if group is None else (group,)))
        self._groups = [one for one in groups if not one.remove()]
        if upper is not None and not upper.remove():
            trash.discard(self.store, self, upper.left)
        self.launcher.collect()

    def finish_apply(self, container: Container) -> None:
        """See `Workspace`: what it takes is imported when it is used."""
        from nbcontainer.containers.cow import interrupted

        interrupted.finish(container)

    def drop_layer(self, layer: str) -> None:
        """Remove a cell's layer whose record could not be written, in the background; "" for no layer."""
        if layer:
            self.discard_later([self.store.path / "layers" / layer])

    def replace_last(self, container: Container | None) -> None:
        """Make `container` the last one. An anonymous one, or None, replaces the anonymous one before it.

        The one before is removed in the background.
        """
        with self._lock:
            self.last = container
            if container is not None and not container.anonymous:
                return
            before, self._anonymous = self._anonymous, container
        if before is not None and before is not container and before.saved:
            self.later(lambda: _retire(before))

    def retain(self, container: Container) -> None:
        """Keep an anonymous container that is used again, although a later one replaces it as the last one."""
        with self._lock:
            if self._anonymous is container:
                self._anonymous = None


def _retire(container: Container) -> None:
    """Remove an anonymous container, unless its `apply` cannot be finished now: a later cleanup does both."""
    with container.use():
        if not container.applying:
            container.remove()


_default: Engine | None = None
_default_pid = 0
_default_lock = threading.Lock()


def default_engine() -> Engine:
    """Return this process's engine on the user's store, opened at its first use, and again after a fork or a close."""
    found = _default
    if found is not None and not found.closed and _default_pid == os.getpid():
        return found
    with _default_lock:
        if _default is None or _default.closed or _default_pid != os.getpid():
            set_default_engine(Engine())
        assert _default is not None
        return _default


def set_default_engine(engine: Engine | None) -> None:
    """Replace the default engine: for tests, and for a store elsewhere."""
    global _default, _default_pid
    _default, _default_pid = engine, os.getpid()


def close_default_engine() -> None:
    """Close the default engine, if this process has opened it."""
    with _default_lock:
        if _default is not None and _default_pid == os.getpid():
            _default.close()
