"""The launcher's process and the socket to it: start, wait until it is ready, exchange messages, end."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nbcontainer.errors import ContainerLost, LauncherError
from nbcontainer.linux.process import library_path
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import readable
from nbcontainer.sandbox.helper.building import BACKGROUND
from nbcontainer.sandbox.helper.helper_server import HelperServer, start_server
from nbcontainer.sandbox.helper.program import NotBuilt, Unavailable
from nbcontainer.sandbox.launcher import proc_mounts
from nbcontainer.sandbox.launcher.failures import launcher_failed
from nbcontainer.sandbox.spec import ProcLevel

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nbcontainer.sandbox.userns.idmap import IdMap

_BOOT = (
    "import sys; sys.path += sys.argv[2:]; from nbcontainer.sandbox.launcher.entry import main; main(int(sys.argv[1]))"
)

_ATTEMPTS = 3
"""How often the helper is started: for a moment, there may be no descriptor or no memory."""

_START_LIMIT = 30.0  # seconds; a start takes 0.1


class ConnectionObserver(Protocol):
    """Holds something that belongs to one process of the launcher: drops it with that process, or gives it the next."""

    def on_ready(self) -> None:
        """A process is ready, and has had no order yet. Raises `OSError`, and this package's errors."""

    def on_closed(self) -> None:
        """The process has ended, or is no longer this one."""


class Connection:
    """One launcher process at a time, for one store and one id map. Not thread-safe: `Launcher` has the lock.

    After `close`, or when the process has died, the next use starts a new process.
    """

    def __init__(self, store: Path, idmap: IdMap, preload: tuple[str, ...]) -> None:
        self.store = store
        self.idmap = idmap
        self.preload = preload
        self.observers: list[ConnectionObserver] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.namespace: int | None = None
        """A descriptor of the containers' user namespace, once the process is ready."""
        self.mount_namespace: int | None = None
        """A descriptor of the mount namespace that containers begin in, once the process is ready."""
        self.proc: ProcLevel | None = None
        """Where the containers' /proc comes from, as the last process found; None before the first."""
        self.helper: HelperServer | None = None
        """The server of the compiled helper, once the process is ready; None if there is none."""
        self.without_helper = ""
        """Why there is none, in one clause."""
        self._attempts = 0
        self.unsettled = False
        """Whether the process may still be at an order that has no answer."""
        self._control: socket.socket | None = None
        self._stderr: int | None = None
        self._ready = False
        self._owner = 0
        self._store: int | None = None
        """A descriptor of the store's directory, opened in the process's namespaces, until the helper has it."""
        self._numbers = itertools.count()

    @property
    def is_open(self) -> bool:
        """Whether there is a process to exchange messages with, as far as is known."""
        return self._control is not None

    @property
    def is_ready(self) -> bool:
        """Whether that process has said that it is ready."""
        return self._ready

    def start(self) -> None:
        """Start the process unless it runs, without waiting until it is ready. Raises `LauncherError`."""
        if self.process is not None and self._owner == os.getpid() and self.process.poll() is None:
            return
        self.close()
        ours, theirs = protocol.pair()
        self._stderr = os.memfd_create("nbcontainer-launcher-stderr", os.MFD_CLOEXEC)
        try:
            self.process = self._spawn(theirs.fileno(), self._stderr)
        except OSError as error:
            ours.close()
            problem = f"cannot start {sys.executable}: {error.strerror}"
            raise LauncherError(problem, hint="see `%container doctor`") from error
        finally:
            theirs.close()
        self._control, self._ready, self._owner = ours, False, os.getpid()
        with contextlib.suppress(ConnectionError):  # it has ended: `ensure` reports why
            protocol.send(ours, self._settings())

    def _spawn(self, descriptor: int, stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT, str(descriptor), *import_path()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[descriptor],
            # Nothing else of the notebook's environment, so that no container can read it.
            env={"PATH": os.environ.get("PATH", os.defpath), **library_path()},
            cwd="/",
            start_new_session=True,
        )

    def _settings(self) -> dict[str, Any]:
        def ranges(name: str) -> list[list[int]]:
            return [[r.inside, r.outside, r.count] for r in getattr(self.idmap, name)]

        return {
            "parent": os.getpid(),
            # The kernel sends the death signal when the thread that started the launcher ends (prctl(2)). Only the
            # main thread lives as long as the notebook.
            "die_with_thread": threading.current_thread() is threading.main_thread(),
            "store": str(self.store),
            "idmap": {
                "kind": self.idmap.kind,
                "uids": ranges("uids"),
                "gids": ranges("gids"),
                "tool": self.idmap.tool,
            },
            "preload": list(self.preload),
        }

    def ensure(self) -> None:
        """Start the process unless it runs, and wait until it is ready. Raises `LauncherError`."""
        self.start()
        if self._ready:
            if self._store is not None and BACKGROUND.is_over():
                self._start_helper()
            return
        assert self._control is not None
        self._control.settimeout(_START_LIMIT)
        files: list[int] = []
        try:
            message = protocol.receive(self._control, files)
            while message is not None and "mount_proc" in message:
                proc_mounts.answer(self._control, files, import_path())
                files.clear()
                message = protocol.receive(self._control, files)
        except TimeoutError:
            message = {"failed": f"it did not answer within {_START_LIMIT:.0f} s"}
        except OSError as error:
            message = {"failed": str(error)}
        except BaseException:  # an interrupt: whether the answer is lost is not known
            protocol.close(files)
            self.close()
            raise
        if message is None:
            message = {"failed": self.last_error() or "it exited without an error message"}
        if "failed" in message:
            self.close()
            raise launcher_failed(message)
        self._control.settimeout(None)
        self.namespace, self.mount_namespace, self._store = files
        self.proc = ProcLevel(message["proc"])
        self._ready = True
        self._attempts = 0
        self._start_helper()
        self._give_what_was_lost()

    def _give_what_was_lost(self) -> None:
        """Let the observers give a new process what they hold for it. Raises `ContainerLost` if it ended at once."""
        try:
            for observer in self.observers:
                observer.on_ready()
        except BaseException as error:
            detail = self.last_error()
            self.close()  # the next use starts another one, which gets everything
            if isinstance(error, ConnectionError):
                raise lost("a new launcher ended at once", detail) from None
            raise

    def _start_helper(self) -> None:
        """Start the compiled helper in the namespaces of the process. Without it, `helper` stays None.

        `ensure` calls this again if the program is being built, or if this machine may have what is missing later.
        """
        assert self.process is not None
        assert self.namespace is not None
        assert self.mount_namespace is not None
        assert self._stderr is not None
        assert self._store is not None
        namespaces = (self.namespace, self.mount_namespace)
        self._attempts += 1
        again = False
        try:
            self.helper = start_server(self.process.pid, self._stderr, namespaces, self._store)
            self.without_helper = ""
        except (Unavailable, OSError) as error:
            self.without_helper = str(error)
            again = self._build() if isinstance(error, NotBuilt) else isinstance(error, OSError)
        again = again and self.process.poll() is None  # the next process gets a server of its own
        if not again or self._attempts == _ATTEMPTS:
            os.close(self._store)
            self._store = None

    def _build(self) -> bool:
        """Begin to build the helper. Return False if it was built already and is not there, or cannot be."""
        if self._attempts > 1:
            return False
        try:
            BACKGROUND.begin(import_path())
        except OSError as error:
            self.without_helper = str(error)
            return False
        return True

    def settle(self) -> None:
        """Wait until the process has done all orders. All answers to earlier ones were received."""
        number = self.number()
        self.send({"settle": True, "order": number})
        self.receive(number)
        self.unsettled = False

    def number(self) -> int:
        """Return a number that no order has had."""
        return next(self._numbers)

    def send(self, message: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send an order with copies of `files`. Raises `OSError`."""
        assert self._control is not None
        protocol.send(self._control, message, files)

    def post(self, message: dict[str, Any], files: Sequence[int] = ()) -> None:
        """Send an order that has no answer. Raises `OSError`."""
        self.send(message, files)
        self.unsettled = True

    def has_answer(self) -> bool:
        """Whether `receive` would return at once."""
        return self._control is not None and readable(self._control.fileno())

    def receive(self, number: int) -> tuple[dict[str, Any], list[int]]:
        """Return the answer to order `number`, with its descriptors, which the caller closes.

        Answers come in the order of the orders. An interrupt may have given up an earlier order: its answer is skipped.
        Raises `ContainerLost` if the launcher has ended.
        """
        message, files = self._receive()
        while message["order"] != number:
            protocol.close(files)
            message, files = self._receive()
        return message, files

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        assert self._control is not None
        files: list[int] = []
        try:
            message = protocol.receive(self._control, files)
        except ConnectionError:
            message = None
        except BaseException:
            protocol.close(files)  # an init ends with its socket
            raise
        if message is None:
            error = self.last_error()
            self.close()
            raise lost("the launcher ended while it started a container", error)
        return message, files

    def last_error(self, *, of_init: bool = False) -> str:
        """Return the last line of the launcher's standard error, or of an init's; empty if there is none."""
        if self._stderr is None:
            return ""
        lines = protocol.read_memory_file(self._stderr).decode("utf-8", "replace").strip().splitlines()
        lines = [line for line in lines if line.startswith(protocol.INIT_PREFIX) == of_init]
        return lines[-1].removeprefix(protocol.INIT_PREFIX) if lines else ""

    def close(self) -> None:
        """End the process and wait for it; its containers end with it. Idempotent."""
        if self.helper is not None:
            self.helper.close()
        if self._control is not None:
            self._control.close()
        if self.process is not None and self._owner == os.getpid():
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        held = (self._stderr, self.namespace, self.mount_namespace, self._store)
        protocol.close(fd for fd in held if fd is not None)
        for observer in self.observers:
            observer.on_closed()
        self._control = self.process = self._stderr = self.namespace = self.mount_namespace = self._store = None
        self.helper, self._ready, self.unsettled = None, False, False


def lost(problem: str, detail: str = "") -> ContainerLost:
    """Return the error for a container that ended before its cell began."""
    return ContainerLost(f"{problem}: {detail}" if detail else problem, hint="run the cell again")


def import_path() -> list[str]:
    """Return the directories of this package and the compression library: all that the launcher imports from."""
    names = ["nbcontainer"] + (["backports.zstd"] if sys.version_info < (3, 14) else [])
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            path = str(Path(spec.origin).resolve().parents[name.count(".") + 1])
            if path not in found:
                found.append(path)
    return found
