"""The workspace of one process: the store, the launchers and the background queue that containers need.

`Workspace` also implements `nbcontainer.images.runner.Runner`: it runs functions on untrusted files in sandboxes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.containers.background import BackgroundQueue
from nbcontainer.containers.history.states import States
from nbcontainer.containers.writes.ending import EndingContainers
from nbcontainer.containers.writes.host_roots import view
from nbcontainer.errors import ContainerError, StoreError
from nbcontainer.images import trash
from nbcontainer.images.library import Images
from nbcontainer.linux.paths import absolute
from nbcontainer.sandbox import sandboxed_call
from nbcontainer.sandbox.diagnosis import NESTED, Machine
from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.spec import Directory, Overlay, Userns
from nbcontainer.sandbox.userns import idmap
from nbcontainer.store.layout import Store, default_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.containers.active import ActiveCell
    from nbcontainer.containers.history.state import StateId

_SANDBOXED_MODULES = (
    "nbcontainer.images.sandboxed",
    "nbcontainer.images.cow.volume_jobs",
    "nbcontainer.sandbox.inside",
)
"""Modules whose functions run in sandboxes: the launcher loads them before it enters its namespaces."""


@contextlib.contextmanager
def _not_nested() -> Iterator[None]:
    """In a container of this project, replace the hint of a store that cannot be opened: another one would not help."""
    try:
        yield
    except StoreError as error:
        if Machine().nested:
            raise StoreError(error.message, hint=NESTED) from error
        raise


class Workspace:
    """The store at `path` (host; the user's default if None), with launchers for containers on it.

    Thread-safe. `active` describes the containers that this process runs, by name. `doubtful` are layers that removed
    containers had and others may have: the background queue looks at all of them at once. `isolations` are those of the
    last cells of containers, with the states that they led to, until they are on disk.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open the store. No process is started yet. Raises `StoreError`, and `UsageError` as `absolute` does."""
        self.idmap = idmap.choose()
        owner = (self.idmap.root_uid, self.idmap.root_gid)
        with _not_nested():
            # Links in a circle stay in this path, and the store cannot be opened. `Path.resolve` raises `RuntimeError`.
            self.store = Store(Path(os.path.realpath(absolute(path or default_path()))), owner)
        self.states = States(self.store.path)
        self.images = Images(self.store, self)
        self.launcher = Launcher(self.store.path, self.idmap, preload=_SANDBOXED_MODULES)
        self.background = BackgroundQueue()
        self.ending = EndingContainers()
        self.active: dict[str, ActiveCell] = {}
        self.doubtful: list[str] = []
        self.isolations: dict[str, tuple[StateId, Callable[[], dict[str, Any]]]] = {}
        self._host_launcher: Launcher | None = None
        self._owner = os.getpid()
        self._lock = threading.RLock()

    def check_process(self) -> None:
        """Raise `ContainerError` in a child by fork(2): containers and files that are ready are its parent's."""
        if self._owner != os.getpid():
            problem = "a container, or an engine, was opened before this process was forked"
            raise ContainerError(problem, hint="open it here: `nbcontainer.get(NAME)`; or start processes by spawn")

    def later(self, task: Callable[[], object]) -> None:
        """See `Runner`: queue a task for the background thread."""
        self.background.add(task)

    def discard_later(self, paths: Sequence[Path]) -> None:
        """Remove trees of the store in the background."""
        if paths:
            self.later(lambda: trash.discard(self.store, self, list(paths)))

    def finish_apply(self, container: Any) -> None:
        """Finish a killed `apply` of a `Container` that is in use: an engine does it."""

    # Sandboxed functions: `nbcontainer.images.runner.Runner`

    @property
    def single_id(self) -> bool:
        """Whether containers have a single user id."""
        return self.idmap.kind == idmap.MapKind.SINGLE

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
        root = Directory(path, read_only)
        return sandboxed_call.call(self.launcher, function, root, files, progress=progress, **arguments)

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
        self.ending.wait()
        layers = tuple(lowers)
        below = view(self.store, self.launcher, layers)
        root = Overlay(tuple(f"{layer}/diff" for layer in layers)) if below is None else below.root(layers, None)
        return sandboxed_call.call(self.launcher, function, root, files, progress=progress, **arguments)

    # Launchers

    def launcher_for(self, userns: Userns) -> Launcher:
        """Return the launcher of containers with this user namespace. The host's is for root only."""
        if userns != Userns.HOST:
            return self.launcher
        with self._lock:
            if self._host_launcher is None:
                machine = Machine()
                ids = idmap.host_map(machine.read("self/uid_map"), machine.read("self/gid_map"))
                self._host_launcher = Launcher(self.store.path, ids, preload=_SANDBOXED_MODULES)
            return self._host_launcher

    def close_launchers(self) -> None:
        """End the launchers, and with them every container of this process. Idempotent."""
        self.launcher.close()
        if self._host_launcher is not None:
            self._host_launcher.close()

    # Active containers, for other processes to see

    def note_active(self, name: str, cell: ActiveCell | None) -> None:
        """Write to the session's file that a container runs, or with None that it ended."""
        with self._lock, contextlib.suppress(OSError):  # a full disk ends no cell: other processes do not see it then
            if cell is None:
                if self.active.pop(name, None) is None:
                    return
            else:
                self.active[name] = cell
            running = {key: active.to_json() for key, active in self.active.items()}
            self.store.sessions.publish({"pid": os.getpid(), "running": running})


class NoWorkspace:
    """The workspace of an unpickled container: each use of it raises `ContainerError`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        problem = f"container '{self._name}' was copied from another process and cannot be used here"
        raise ContainerError(problem, hint="open a named container with `nbcontainer.get(NAME)`")
