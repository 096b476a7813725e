"""The notebook's side of the launcher: starts it, sends it plans, and returns handles of containers."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from nbcontainer.errors import LauncherError
from nbcontainer.linux.procfs import status
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.handle import wait_readable
from nbcontainer.sandbox.launcher.connection import Connection, import_path, lost
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.launcher.host_trees import HostTrees
from nbcontainer.sandbox.launcher.limited_directories import LimitedDirectories
from nbcontainer.sandbox.launcher.plain_trees import plain_tree
from nbcontainer.sandbox.launcher.spares import Spares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.limited_directories import DirectoryLike
    from nbcontainer.sandbox.spec import Overlay, ProcLevel
    from nbcontainer.sandbox.steps.base import Plan, Step
    from nbcontainer.sandbox.userns.idmap import IdMap


_BEFORE = "a new container ended before its cell began"
_CONFIGURING = "the launcher ended while it configured a network"

_Result = TypeVar("_Result")


class Launcher:
    """A launcher for one store and one id map. Thread-safe. `close` ends its process and all its containers.

    `store` is the store's absolute host path, `preload` the modules whose functions run in sandboxes.
    """

    def __init__(self, store: Path, idmap: IdMap, *, preload: tuple[str, ...] = ()) -> None:
        self.store = store
        self.idmap = idmap
        self._lock = threading.RLock()
        self.connection = Connection(store, idmap, preload)
        self.spares = Spares(self.connection)
        self._host_trees = HostTrees(self.connection)
        self._limited = LimitedDirectories(self.connection)

    @property
    def pid(self) -> int:
        """The launcher's host pid. Starts the launcher if it does not run. Raises `LauncherError`."""
        with self._lock:
            self.connection.ensure()
            assert self.connection.process is not None
            return self.connection.process.pid

    @property
    def proc(self) -> ProcLevel:
        """Where the containers' /proc comes from. The first use waits for the launcher. Raises `LauncherError`."""
        if self.connection.proc is None:
            with self._lock:
                self.connection.ensure()
        assert self.connection.proc is not None
        return self.connection.proc

    def start(self) -> None:
        """Start the process without waiting until it is ready. Raises `LauncherError`."""
        with self._lock:
            self.connection.start()

    @property
    def helper(self) -> bool:
        """Whether inits can be the compiled helper. The first use waits for the launcher. Raises `LauncherError`."""
        if not self.connection.is_ready:
            with self._lock:  # it was lost: the next one has a helper, too
                self.connection.ensure()
        return self.connection.helper is not None

    def order(
        self,
        prepare: tuple[Step, ...],
        *,
        prefault: bool = True,
        compiled: bool = False,
        likely: Plan | None = None,
    ) -> None:
        """Order a spare that applies `prepare` before there is a cell, without waiting for it.

        `submit` of a plan that begins with `prepare` uses it; `dismiss` ends it. With `prefault`, it goes through the
        rest of a plain plan, so that its cell starts sooner. If it is `compiled`, its init is the helper, where there
        is one. `likely` is the plan that will probably take it: `collect` makes what that sends. Raises
        `LauncherError`.
        """
        with self._lock:
            self.connection.ensure()
            self.spares.order(prepare, prefault=prefault, compiled=compiled, likely=likely)

    def wake(self, prepare: tuple[Step, ...]) -> None:
        """Wake the spare that has applied `prepare`, if there is one: the rest of its plan comes soon."""
        with self._lock:
            self.spares.wake(prepare)

    def collect(self) -> None:
        """Take over the spares that are started by now, so that `submit` does not have to."""
        with self._lock:
            self.spares.collect()

    def has(self, prepare: tuple[Step, ...]) -> bool:
        """Return whether a living spare has applied `prepare`, or one is being started."""
        with self._lock:
            return self.spares.has(prepare)

    def pid_of(self, prepare: tuple[Step, ...]) -> int:
        """Return the host pid of the spare that applies `prepare`; wait for it. Raises `ContainerLost`."""
        with self._lock:
            return self.spares.pid_of(prepare)

    def dismiss(self, *prepared: tuple[Step, ...]) -> None:
        """End the spares that have applied one of these, and wait until their mounts are gone."""
        with self._lock:
            leaving = self.spares.remove(*prepared)
        for spare in leaving:
            spare.channel.close()
        for spare in leaving:
            with spare:
                wait_readable(spare.pidfd)

    def submit(
        self,
        todo: Plan,
        files: Sequence[int],
        *,
        before: Callable[[ContainerHandle], None] | None = None,
        explain: bool = False,
        joinable: bool = False,
        limit: float | None = None,
    ) -> ContainerHandle:
        """Start a container with copies of `files` (0, 1 and 2 are the cell's streams).

        `before` is called with the handle before anything of the cell begins. With `explain`, the handle gets what init
        called. If it is `joinable`, more processes can be started in it. `limit` is the cell's time limit in seconds,
        for an init whose notebook cannot apply it. Raises `SandboxError`.
        """
        done, running = self._take(todo)
        try:
            if before is not None:
                before(running)
            running.begin(todo, done, files, explain=explain, joinable=joinable, limit=limit)
        except BaseException as error:
            with running:  # when this is raised, nothing uses the upper directory and no process is in the group
                running.kill()
                running.wait()
            if isinstance(error, ConnectionError):  # it was killed while it waited, and its upper directory is used up
                detail = self.connection.last_error(of_init=True)
                raise lost(_BEFORE, detail) from None
            raise
        return running

    def _take(self, todo: Plan) -> tuple[int, ContainerHandle]:
        """Return what `Spares.take` does, but no spare that failed before there was a cell.

        What it was refused then may be there now: one that is ordered for this cell takes its place.
        """
        while True:
            with self._lock:
                self.connection.ensure()
                done, running, is_new = self.spares.take(todo)
            if is_new or not running.failed_ahead():
                return done, running
            with running:  # its mounts end with it: the next one has the same upper directory
                running.kill()
                running.wait()

    def help(self, running: ContainerHandle, path: str, argv: Sequence[str], files: Sequence[int]) -> int:
        """Run a program of the host for a spare, which ends with it. Returns its pidfd; the caller closes that.

        `path` is absolute (host). The program has copies of `files` as descriptors 0 and up, and no others. It runs as
        the container's root in the launcher's namespaces, in the store's directory, without an environment. A program
        that cannot be executed writes the reason to descriptor 2. Raises `LauncherError`.
        """
        with self._lock:
            self.connection.ensure()
            self.spares.collect_all()  # answers come in the order of the orders
            number = self.connection.number()
            order = {"help": running.pid, "path": path, "argv": list(argv), "order": number}
            try:
                self.connection.send(order, files)
            except ConnectionError:
                raise lost(_BEFORE) from None
            message, pidfds = self.connection.receive(number)
        if message.get("failed"):
            raise LauncherError(f"cannot start {path}: {message['failed']}", hint="see `%container doctor`")
        if "failed" in message:
            raise lost(_BEFORE)
        return pidfds[0]

    def configure(self, namespace: int, todo: Sequence[Step]) -> None:
        """Apply steps in a container's network namespace, by a process that the launcher forks for it.

        Raises `SandboxError`.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader, "rb") as pipe:
            try:
                with self._lock:
                    self.connection.ensure()
                    self.connection.send({"configure": plan.encode(todo)}, [namespace, writer])
            except ConnectionError:
                raise lost(_CONFIGURING) from None
            finally:
                os.close(writer)
            answer = pipe.read()
        if not answer:
            raise lost(_CONFIGURING)
        if failed := json.loads(answer):
            raise setup_failed(failed)

    def show(self, directories: Sequence[str]) -> tuple[str, ...]:
        """Return the path of each host directory (absolute) as containers see it, from the store's `layers`.

        If the containers' root is this user, these are the directories themselves. Otherwise the launcher mounts them
        with the ids of the containers' root, without the mounts below them, until the launcher ends.
        Raises `ContainerError`, `LauncherError`.
        """
        if self.idmap.root_uid == os.geteuid():
            return tuple(directories)
        with self._lock:
            return self._living(lambda: self._host_trees.show(directories))

    def limit(self, path: str, size: int, directories: Sequence[DirectoryLike]) -> None:
        """Mount a tmpfs of `size` bytes over a directory, and make directories in it.

        `path` is relative to the store. Only the launcher has the mount, and the containers that are ordered from now
        on; it ends with the directory. If the mount fails, a container that needs it reports that the directories do
        not exist. A launcher that is started anew mounts it again, until `use_limited`. Raises `LauncherError`.
        """
        with self._lock:
            self._living(lambda: self._limited.add(path, size, directories))

    def use_limited(self, path: str) -> None:
        """A container writes to the tmpfs at `path` from now on: what it writes ends with this launcher's process."""
        with self._lock:
            self._limited.forget(path)

    def mount_root(self, root: Overlay) -> bool:
        """Mount the overlay of a root for containers with the compiled init. Return False if that cannot be done here.

        The plan of a container on it has `root.mounted`. No two containers may have it at a time. Raises `OSError`,
        `LauncherError`.
        """
        with self._lock:
            self.connection.ensure()
            self._collect_interpreted()
            return self._living(lambda: self.spares.roots.mount(root))

    def move_root(self, upper: str, place: str) -> bool:
        """Note that the upper directory of a mounted root is at another place. Return False if it is not mounted."""
        return self.spares.roots.move(upper, place)

    def unmount_root(self, upper: str) -> None:
        """Unmount a root; a container that has it unmounts it at its end."""
        self.spares.roots.unmount(upper)

    def has_overlay(self, lower: str, upper: str, work: str, control: str) -> bool:
        """Return whether an overlay with the work directory `work` exists: mounted, or held by a descriptor in it.

        See `nbcontainer.sandbox.steps.overlay.exists`, also for the paths. Raises `OSError`, `LauncherError`.
        """
        with self._lock:
            return bool(self._living(lambda: self._ask({"overlay": [lower, upper, work, control]})))

    def _collect_interpreted(self) -> None:
        """Take over the spares that the process has been ordered to make: its answers come in the order of the orders.

        The others are those of the compiled helper, with a connection of its own.
        """
        if any(number >= 0 for number in self.spares.ordered):
            self.spares.collect_all()

    def _ask(self, order: dict[str, Any]) -> object:
        """Return the answer to an order. Raises `OSError` if the launcher could not do it, `ContainerLost`."""
        self._collect_interpreted()
        number = self.connection.number()
        self.connection.send({**order, "order": number})
        answer, _ = self.connection.receive(number)
        if "failed" in answer:
            raise OSError(*answer["failed"])
        return answer["found"]

    def _living(self, send: Callable[[], _Result]) -> _Result:
        """Return what `send` returns, sent to a new process if this one has ended and its end was not seen yet."""
        self.connection.ensure()
        try:
            return send()
        except ConnectionError:
            self.connection.close()
            self.connection.ensure()
            return send()

    def user_namespace(self) -> int:
        """Return a descriptor of the containers' user namespace, for idmapped mounts. The caller closes it."""
        with self._lock:
            self.connection.ensure()
            assert self.connection.namespace is not None
            return os.dup(self.connection.namespace)

    def plain_tree(self, source: str, identity: tuple[int, int]) -> int:
        """Return a detached mount of `source` (host) with the host's ids, for root without SYS_ADMIN.

        `identity` is as for `clone_tree`. The caller closes it. Raises `OSError`, `LauncherError`.
        """
        with self._lock:
            self.connection.ensure()
            assert self.connection.namespace is not None
            assert self.connection.mount_namespace is not None
            namespaces = (self.connection.namespace, self.connection.mount_namespace)
            return plain_tree(namespaces, source, identity, import_path())

    def memory(self) -> int:
        """Return the launcher's resident memory in bytes (VmRSS in /proc/PID/status)."""
        return int(status(self.pid).get("VmRSS", "0 kB").split()[0]) * 1024

    def close(self) -> None:
        """End the launcher and its containers, and wait for it. Idempotent; the next use starts a new launcher."""
        with self._lock:
            self.connection.close()
