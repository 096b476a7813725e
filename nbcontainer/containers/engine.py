"""One process's use of one store: the launcher, the sandboxed work, and what is prepared ahead."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.warm_pool import WarmContainer, WarmPool
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.limited_write_layer import LimitedWriteLayer
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import NbcontainerError, UsageError
from nbcontainer.images import library
from nbcontainer.sandbox import sandboxed_call
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.spec import Directory, Overlay
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.layout import Store, default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nbcontainer.containers.container import Container
    from nbcontainer.containers.warm_pool import PlanFor
    from nbcontainer.sandbox.cgroups.group import Group, GroupLimits
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.steps.base import Plan

_WORK_MODULES = ("nbcontainer.images.sandboxed",)

_QUIET = 0.004
"""Seconds that the background thread leaves to the one that has something for it: they share an interpreter."""


class Engine:
    """The store at `path` (host; the user's default where None) and the machinery to run containers from it.

    Thread-safe. `close` ends every container that this process runs, and its session.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Opens the store; nothing is started yet. Raises `StoreError`."""
        self.idmap = idmap.choose()
        owner = (self.idmap.root_uid, self.idmap.root_gid)
        self.store = Store((path or default_path()).resolve(), owner)
        self.launcher = Launcher(self.store.path, self.idmap, preload=_WORK_MODULES)
        self._host_launcher: Launcher | None = None
        self._lock = threading.RLock()
        self._ahead = WarmPool(self.store, self.launcher, lambda path: library.discard(self.store, self, [path]))
        self._chores: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._held: list[Callable[[], object]] | None = None
        self._housekeeper: threading.Thread | None = None
        self.closed = False
        self.last: Container | None = None
        self._anonymous: Container | None = None
        self._owner = os.getpid()
        self._groups: list[Group] = []
        self.running: dict[str, dict[str, Any]] = {}
        atexit.register(self.close)

    def start(self, image: str = "busybox") -> None:
        """Starts the launcher, without waiting for it, and clears away what dead processes left.

        If the store has it, `image` is prepared to be the first cell's.
        """
        from nbcontainer.containers.cleanup import sweep
        from nbcontainer.containers.run import prewarm_image

        self.launcher.start()
        self.later(lambda: prewarm_image(self, image))
        self.later(lambda: sweep(self))

    def close(self) -> None:
        """Ends everything of this process. Idempotent; what a fork(2) of this process has of it is the parent's."""
        if self._owner != os.getpid():
            return
        self.go_on()
        with self._lock:
            if self.closed:
                return
            self.closed = True
        atexit.unregister(self.close)
        if self._housekeeper is not None:
            self._chores.put(None)
            self._housekeeper.join()
        from nbcontainer.containers.cleanup import end_session

        self._ahead.close()  # what mounts while its directories are removed leaves some
        with contextlib.suppress(OSError, NbcontainerError):
            end_session(self)
        self.launcher.close()
        if self._host_launcher is not None:
            self._host_launcher.close()
        self._groups = [one for one in self._groups if not one.remove()]
        with contextlib.suppress(OSError):
            self.store.memory.rmdir()
        self.store.close()

    # Work in sandboxes: `nbcontainer.images.runner.Runner`

    @property
    def single_id(self) -> bool:
        """Whether containers have a single user id."""
        return self.idmap.kind == idmap.SINGLE

    def on_directory(
        self,
        function: Callable[..., Any],
        path: str,
        files: Sequence[int] = (),
        *,
        read_only: bool = False,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """See `Runner`."""
        return sandboxed_call.call(
            self.launcher, function, Directory(path, read_only), files, progress=progress, **arguments
        )

    def on_layers(
        self,
        function: Callable[..., Any],
        lowers: Sequence[str],
        files: Sequence[int] = (),
        *,
        progress: Callable[[int], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """See `Runner`."""
        layers = tuple(lowers)
        below = view(self.store, self.launcher, layers)
        root = Overlay(tuple(f"{layer}/diff" for layer in layers)) if below is None else below.root(layers, None)
        return sandboxed_call.call(self.launcher, function, root, files, progress=progress, **arguments)

    # Launchers

    def launcher_for(self, userns: str) -> Launcher:
        """The launcher of containers with a user namespace (`""`), or of those without (`host`, for root only)."""
        if userns != idmap.HOST:
            return self.launcher
        with self._lock:
            if self._host_launcher is None:
                self._host_launcher = Launcher(self.store.path, idmap.host_map())
            return self._host_launcher

    # Upper directories, made ahead where the next cell can be foreseen

    def begin(
        self,
        launcher: Launcher,
        lowers: tuple[str, ...],
        plan_for: PlanFor,
        limits: GroupLimits,
        storage: int | None = None,
        *,
        afresh: bool = False,
    ) -> tuple[WarmContainer, Plan]:
        """A container for a cell on these layers (the topmost first), and the plan that `plan_for` makes on its upper.

        It is one that waits, with its group where it is in one, if the plan fits it and it need not be made `afresh`;
        else it has nothing behind it but an upper, which holds `storage` bytes where that is given. Upper and group are
        the caller's to remove.
        """
        waits = launcher is self.launcher and storage is None and not afresh
        if waits and (found := self._ahead.take(lowers, limits, plan_for)) is not None:
            return found
        below = view(self.store, self.launcher, lowers)
        if below is not None and launcher is not self.launcher:
            raise UsageError("the image host needs a user namespace", hint="leave out --userns=host")
        upper = (
            WriteLayer(self.store, lowers, below)
            if storage is None
            else LimitedWriteLayer(self, lowers, below, storage)
        )
        upper.make()
        return WarmContainer(upper, (), limits), plan_for(upper)

    def expect(self) -> None:
        """Says that a cell is about to come: to be said while its words are still being read."""
        self._ahead.expect()

    def output_pipe(self) -> tuple[int, int]:
        """A pipe for one stream of a cell, made ahead or now: (read end, write end). The caller closes both."""
        return self._ahead.output_pipe()

    def prewarm(self, lowers: tuple[str, ...], limits: GroupLimits, plan_for: PlanFor) -> None:
        """Prepares for the next cell to be on these layers, and as `plan_for` says, in the background."""
        self.later(lambda: self._ahead.prepare(lowers, limits, plan_for))

    def clear_away(
        self, upper: WriteLayer | None, running: ContainerHandle | None = None, group: Group | None = None
    ) -> None:
        """Removes what nobody wants of a cell, in the background: once its mounts are gone, which it waits for."""
        self.later(lambda: self._clear_away(upper, running, group))

    def _clear_away(self, upper: WriteLayer | None, running: ContainerHandle | None, group: Group | None) -> None:
        if running is not None:
            with running:
                running.wait()
        # One that the kernel did not let go is tried again when the next cell has ended, and at the end.
        groups = (*self._groups, *(() if group is None else (group,)))
        self._groups = [one for one in groups if not one.remove()]
        if upper is not None and not upper.remove():
            library.discard(self.store, self, [upper.path])
        self.launcher.collect()

    def drop_layer(self, layer: str) -> None:
        """Removes a cell's layer that could not be written down, in the background; nothing for no layer."""
        if layer:
            self.later(lambda: library.discard(self.store, self, [self.store.path / "layers" / layer]))

    def hold(self) -> None:
        """Keeps what is for the background thread until `go_on`: it would be in the way of a cell that ends."""
        with self._lock:
            self._held = [] if self._held is None else self._held

    def go_on(self) -> None:
        """Hands what `hold` kept to the background thread."""
        with self._lock:
            held, self._held = self._held, None
        for chore in held or ():
            self.later(chore)

    def later(self, chore: Callable[[], object]) -> None:
        """Has a background thread do it: what nobody waits for. Its errors are nobody's: the next use meets them."""
        with self._lock:
            if self.closed:
                return
            if self._held is not None:
                self._held.append(chore)
                return
            if self._housekeeper is None or not self._housekeeper.is_alive():
                name = "nbcontainer-housekeeper"
                self._housekeeper = threading.Thread(target=self._keep_house, name=name, daemon=True)
                self._housekeeper.start()
            self._chores.put(chore)

    def _keep_house(self) -> None:
        busy = False
        while (chore := self._chores.get()) is not None:
            if not busy:
                time.sleep(_QUIET)
            with contextlib.suppress(OSError, NbcontainerError):
                chore()
            busy = not self._chores.empty()

    def settle(self) -> None:
        """Waits until the background thread has done what it was given before."""
        self.go_on()
        done = threading.Event()
        self.later(done.set)
        if not self.closed:
            done.wait()

    def replace_last(self, container: Container | None) -> None:
        """Makes `container` the last one; with an anonymous one, or None, the anonymous one before it is removed.

        That is done in the background.
        """
        with self._lock:
            self.last = container
            if container is not None and not container.anonymous:
                return
            before, self._anonymous = self._anonymous, container
        if before is not None and before is not container and any(cell.layer for cell in before.record.cells):
            self.later(before.remove)

    # What runs now, for other processes to see

    def note_running(self, name: str, facts: dict[str, Any] | None) -> None:
        """Says, in the session's file, that a container runs (or, with None, no more)."""
        with self._lock, contextlib.suppress(OSError):  # a full disk ends no cell: then others do not see it
            if facts is None:
                if self.running.pop(name, None) is None:
                    return
            else:
                self.running[name] = facts
            self.store.sessions.tell({"pid": os.getpid(), "running": self.running})


_default: Engine | None = None
_default_lock = threading.Lock()


def default_engine() -> Engine:
    """This process's engine on the user's store, opened at its first use (and again after a fork or a close)."""
    global _default
    with _default_lock:
        if _default is None or _default.closed or _default_pid != os.getpid():
            set_default_engine(Engine())
        assert _default is not None
        return _default


_default_pid = 0


def set_default_engine(engine: Engine | None) -> None:
    """Puts another engine in its place: for tests, and for a store elsewhere."""
    global _default, _default_pid
    _default, _default_pid = engine, os.getpid()
