"""The notebook's side of the launcher: starts it, hands it plans, and holds what comes back."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import ContainerLost, LauncherError
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable, wait_readable
from nbcontainer.sandbox.launcher.failures import launcher_failed, setup_failed
from nbcontainer.sandbox.steps.rootfs import HOST_TREES
from nbcontainer.sandbox.userns.idmapped_mounts import idmapped_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.steps.base import Plan, Step
    from nbcontainer.sandbox.userns.idmap import IdMap

_BOOT = (
    "import sys; sys.path += sys.argv[2:]; from nbcontainer.sandbox.launcher.entry import main; main(int(sys.argv[1]))"
)

_START_LIMIT = 30.0  # seconds; a start takes 0.1


class Launcher:
    """A launcher process for one store and one id map. Thread-safe; `close` ends it and every container of its.

    `store` is the store's absolute host path, `preload` the modules whose functions run as work in sandboxes.
    """

    def __init__(self, store: Path, idmap: IdMap, *, preload: tuple[str, ...] = ()) -> None:
        self.store = store
        self.idmap = idmap
        self.preload = preload
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._words = -1
        self._namespace = -1
        self._ready = False
        self._owner = 0
        self._numbers = itertools.count()
        self._orders: dict[int, tuple[Step, ...]] = {}
        self._spares: list[tuple[tuple[Step, ...], ContainerHandle]] = []
        self._refused: dict[str, Any] = {}
        self._shown: list[str] = []
        """Directories of the host, in the order of their numbers in `HOST_TREES`."""

    @property
    def pid(self) -> int:
        """The launcher's host pid; it is started if it is not there. Raises `LauncherError`."""
        with self._lock:
            self._ensure()
            assert self._process is not None
            return self._process.pid

    def start(self) -> None:
        """Starts the process without waiting for it to be ready."""
        with self._lock:
            if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
                return
            self._forget()
            ours, theirs = protocol.pair()
            self._words = os.memfd_create("nbcontainer-launcher-stderr", os.MFD_CLOEXEC)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-B", "-c", _BOOT, str(theirs.fileno()), *import_path()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._words,
                    pass_fds=[theirs.fileno()],
                    # Nothing of the notebook's environment: what is not there cannot be read by anybody.
                    env={"PATH": os.environ.get("PATH", os.defpath)},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise LauncherError(f"cannot start {sys.executable}: {error.strerror}") from error
            finally:
                theirs.close()
            self._control, self._ready, self._owner = ours, False, os.getpid()
            protocol.send(ours, self._settings())

    def order(self, prepare: tuple[Step, ...]) -> None:
        """Has a spare made that does `prepare` ahead, without waiting for it.

        `submit` of a plan that begins so takes it; `dismiss` lets it go.
        """
        with self._lock:
            self._ensure()
            self._order(prepare)

    def wake(self, prepare: tuple[Step, ...]) -> None:
        """Tells a spare that has done `prepare`, if there is one, that the rest comes soon."""
        with self._lock, contextlib.suppress(OSError):
            spare = next((spare for done, spare in self._spares if done == prepare), None)
            if spare is not None:
                protocol.send(spare.channel, {"soon": True})

    def collect(self) -> None:
        """Takes what the launcher has made by now, so that `submit` need not."""
        with self._lock:
            while self._orders and self._control is not None and readable(self._control.fileno()):
                self._collect_one()

    def has(self, prepare: tuple[Step, ...]) -> bool:
        """Whether a living spare has done `prepare`, or one is about to."""
        with self._lock:
            spare = next((spare for done, spare in self._spares if done == prepare), None)
            return prepare in self._orders.values() if spare is None else not readable(spare.pidfd)

    def pid_of(self, prepare: tuple[Step, ...]) -> int:
        """The host pid of the init that has done `prepare`, or is about to: waits for it. Raises `ContainerLost`."""
        with self._lock:
            while prepare in self._orders.values():
                self._collect_one()
            for done, spare in self._spares:
                if done == prepare:
                    return spare.pid
        raise ContainerLost("a container ended while it waited", hint="run the cell again")

    def dismiss(self, *prepared: tuple[Step, ...]) -> None:
        """Ends the spares that have done one of these, where there are any, and waits until their mounts are gone."""
        with self._lock:
            while any(order in prepared for order in self._orders.values()):
                self._collect_one()
            leaving = [spare for done, spare in self._spares if done in prepared]
            self._spares = [(done, spare) for done, spare in self._spares if done not in prepared]
        for spare in leaving:
            spare.channel.close()
        for spare in leaving:
            with spare:
                wait_readable(spare.pidfd)

    def submit(
        self, todo: Plan, files: Sequence[int], *, before: Callable[[ContainerHandle], None] | None = None
    ) -> ContainerHandle:
        """Starts a container with copies of `files` (0, 1 and 2 are the cell's streams). Raises `SandboxError`.

        `before` is handed it when nothing of the cell has begun.
        """
        done, running = self._take(todo)
        try:
            if before is not None:
                before(running)
            running.begin(todo, done, files)
        except BaseException as error:
            with running:  # nothing has its upper any more, and nobody is in its group, when this is raised
                running.kill()
                running.wait()
            if isinstance(error, ConnectionError):  # it was killed while it waited, and its upper is used up
                hint = self._last_words(protocol.LAST_WORDS) or "run it again"
                raise ContainerLost("a new container ended before it could begin", hint=hint) from None
            raise
        return running

    def help(self, running: ContainerHandle, path: str, argv: Sequence[str], files: Sequence[int]) -> int:
        """Runs a program of the host's for a container that waits, and ends it with that; its pidfd, for the caller.

        `path` is absolute (host), `files` are copied to its descriptors from 0 on, and it has no others. It is
        container root in the launcher's namespaces, in the store's directory, without an environment. A program that
        cannot be run says why on descriptor 2. Raises `LauncherError`.
        """
        with self._lock:
            self._ensure()
            assert self._control is not None
            while self._orders:  # answers come in the order of the orders
                self._collect_one()
            number = next(self._numbers)
            order = {"help": running.pid, "path": path, "argv": list(argv), "order": number}
            protocol.send(self._control, order, files)
            message, came = self._answer()
            while message["order"] != number:  # an interrupt's, see `_collect_one`
                protocol.close(came)
                message, came = self._answer()
        if message.get("failed"):
            raise LauncherError(f"cannot start {path}: {message['failed']}")
        if "failed" in message:
            raise ContainerLost("a new container ended before it could begin", hint="run it again")
        return came[0]

    def configure(self, namespace: int, todo: Sequence[Step]) -> None:
        """Has steps applied in a container's network namespace, by a process that has the right to and ends then.

        Raises `SandboxError`.
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(reader, "rb") as answer:
            try:
                with self._lock:
                    self._ensure()
                    assert self._control is not None
                    protocol.send(self._control, {"configure": plan.encode(todo)}, [namespace, writer])
            finally:
                os.close(writer)
            said = answer.read()
        if not said:
            raise ContainerLost("the launcher ended while it made a network", hint="run it again")
        if failed := json.loads(said):
            raise setup_failed(failed)

    def _take(self, todo: Plan) -> tuple[int, ContainerHandle]:
        """A spare that has done the beginning of a plan, as much as there is one for, and how many steps that is."""
        with self._lock:
            self._ensure()
            if (found := self._spare_for(todo)) is not None:
                return found
            if not any(todo.begins_with(order) for order in self._orders.values()):
                self._order(todo.prepare)
            while self._orders:
                self._collect_one()
                if (found := self._spare_for(todo)) is not None:
                    return found
        raise setup_failed(self._refused)

    def _spare_for(self, todo: Plan) -> tuple[int, ContainerHandle] | None:
        fitting = [index for index, (done, _) in enumerate(self._spares) if todo.begins_with(done)]
        if not fitting:
            return None
        done, spare = self._spares.pop(max(fitting, key=lambda index: len(self._spares[index][0])))
        return len(done), spare

    def _order(self, prepare: tuple[Step, ...]) -> None:
        assert self._control is not None
        number = next(self._numbers)
        message = {"prepare": plan.encode(prepare), "order": number}
        try:
            protocol.send(self._control, message)
        except (BrokenPipeError, ConnectionError):
            self._forget()
            self._ensure()
            protocol.send(self._control, message)
        self._orders[number] = prepare

    def _collect_one(self) -> None:
        """Takes the launcher's answer to the oldest order. Raises `LauncherError` where it has gone.

        An order is given up when an interrupt comes in between: its answer must not be taken for that to another.
        """
        number = next(iter(self._orders))
        prepare = self._orders.pop(number)
        message, files = self._answer()
        while message["order"] != number:
            protocol.close(files)
            message, files = self._answer()
        if "failed" in message:
            self._refused = message["failed"]
            return
        pidfd, channel = files
        self._spares.append((prepare, ContainerHandle(socket.socket(fileno=channel), message["pid"], pidfd)))

    def _answer(self) -> tuple[dict[str, Any], list[int]]:
        assert self._control is not None
        files: list[int] = []
        try:
            message = protocol.receive(self._control, files)
        except ConnectionError:
            message = None
        except BaseException:
            protocol.close(files)  # an init whose order is given up ends with its channel
            raise
        if message is None:
            words = self._last_words()
            self._forget()
            raise ContainerLost("the launcher ended while it made a container", hint=words or "run it again")
        return message, files

    def show(self, directories: Sequence[str]) -> tuple[str, ...]:
        """Where containers find directories of the host's (absolute), as a path each from the store's `layers`.

        Where they are not the containers' root's own, they are shown with its ids, without what is mounted in them,
        for as long as this launcher is; else they are where they are. Raises `ContainerError`, `LauncherError`.
        """
        if self.idmap.root_uid == os.geteuid():
            return tuple(directories)
        with self._lock:
            self._ensure()
            new = [directory for directory in directories if directory not in self._shown]
            self._send_trees(new, len(self._shown))
            self._shown += new
            return tuple(f"../{HOST_TREES}/{self._shown.index(directory)}" for directory in directories)

    def _send_trees(self, directories: Sequence[str], first: int) -> None:
        if not directories:
            return
        assert self._control is not None
        trees: list[int] = []
        try:
            for directory in directories:
                hint = "its file system has no idmapped mounts, so it cannot be an image: use another"
                trees.append(idmapped_tree(directory, self._namespace, "the host's", recursive=False, hint=hint))
            protocol.send(self._control, {"show": first}, trees)
        finally:
            protocol.close(trees)

    def limit(self, path: str, size: int, directories: Sequence[tuple[str, int]]) -> None:
        """Mounts memory of `size` bytes over a directory, and makes directories in it, by their names and modes.

        `path` is from the store; the mount is the launcher's and its containers', who get it with their first order
        from now on, and goes with the directory. Where it cannot be made, a container that is to have it says that the
        directories are not there. Raises `LauncherError`.
        """
        with self._lock:
            self._ensure()
            assert self._control is not None
            protocol.send(self._control, {"limit": path, "size": size, "directories": directories})

    def user_namespace(self) -> int:
        """A descriptor of the containers' user namespace, for idmapped mounts. The caller closes it."""
        with self._lock:
            self._ensure()
            return os.dup(self._namespace)

    def memory(self) -> int:
        """Resident memory of the launcher in bytes (VmRSS in /proc/PID/status)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def close(self) -> None:
        """Ends the launcher and its containers, and waits for it. Idempotent; a later use starts a new one."""
        with self._lock:
            self._forget()

    def _ensure(self) -> None:
        """Starts the process if there is none, and waits until it is ready. Raises `LauncherError`."""
        self.start()
        if self._ready:
            return
        assert self._control is not None
        self._control.settimeout(_START_LIMIT)
        files: list[int] = []
        try:
            message = protocol.receive(self._control, files)
        except TimeoutError:
            message = {"failed": f"it said nothing for {_START_LIMIT:.0f} s"}
        except OSError as error:
            message = {"failed": str(error)}
        except BaseException:  # an interrupt: whether the answer is lost is not known
            protocol.close(files)
            self._forget()
            raise
        if message is None:
            message = {"failed": self._last_words() or "it ended without a word"}
        if "failed" in message:
            self._forget()
            raise launcher_failed(message)
        self._control.settimeout(None)
        self._namespace = files.pop()
        self._ready = True

    def _last_words(self, of: str = "") -> str:
        """The launcher's, or those `of` an init."""
        if self._words < 0:
            return ""
        lines = protocol.read_memory_file(self._words).decode("utf-8", "replace").strip().splitlines()
        said = [line.removeprefix(of) for line in lines if line.startswith(protocol.LAST_WORDS) == bool(of)]
        return said[-1] if said else ""

    def _settings(self) -> dict[str, Any]:
        idmap = asdict(self.idmap)
        for name in ("uids", "gids"):
            idmap[name] = [[r["inside"], r["outside"], r["count"]] for r in idmap[name]]
        return {
            "parent": os.getpid(),
            # The death signal is the starting thread's (prctl(2)), which only for the main one is the notebook's.
            "die_with_thread": threading.current_thread() is threading.main_thread(),
            "store": str(self.store),
            "idmap": idmap,
            "preload": list(self.preload),
        }

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        protocol.close(fd for fd in (self._words, self._namespace) if fd >= 0)
        for _, spare in self._spares:
            spare.close()
        self._orders.clear()
        self._spares.clear()
        self._shown.clear()
        self._control, self._process, self._ready = None, None, False
        self._words = self._namespace = -1


def import_path() -> list[str]:
    """The directories where this package and the compression library lie: all that the launcher imports from."""
    names = ["nbcontainer"] + (["backports.zstd"] if sys.version_info < (3, 14) else [])
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            path = str(Path(spec.origin).resolve().parents[name.count(".") + 1])
            if path not in found:
                found.append(path)
    return found
