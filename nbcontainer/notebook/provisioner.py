"""Any kernel inside a container: a provisioner, of the entry points `jupyter_client.kernel_provisioners`.

The kernel makes its sockets in a directory of its own, and frontends find them through links that it cannot change
(`nbcontainer.notebook.kernel_sockets`). The connection file is for the kernel to read alone. The container has no
network unless it is asked for. jupyter_client calls the methods in the order of their docstrings
(jupyter-client.readthedocs.io, "Customizing the kernel's runtime environment").
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Unicode

from nbcontainer.commands.grammar import Command, parse
from nbcontainer.commands.options.table import options_without
from nbcontainer.commands.run import request_of
from nbcontainer.containers.cells.streams import Streams
from nbcontainer.containers.engine import default_engine
from nbcontainer.containers.run import choose_container, run_in
from nbcontainer.errors import ContainerBusy, NbcontainerError, UsageError
from nbcontainer.linux.paths import resolve
from nbcontainer.notebook.kernel_sockets import KernelSockets
from nbcontainer.notebook.notebook_directory import with_notebooks
from nbcontainer.store import writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.connect import KernelConnectionInfo

    from nbcontainer.containers.cells.request import Request
    from nbcontainer.containers.container import Container
    from nbcontainer.containers.engine import Engine
    from nbcontainer.oci.documents import Image
    from nbcontainer.sandbox.supervisor import Supervisor
    from nbcontainer.store.layout import Store

RUN_WORDS = Command(
    "provisioner",
    "IMAGE",
    "Runs a kernel in a container of IMAGE, or in the one named by --name.",
    options_without("rm", "timeout", "here", "explain", "untrusted", "cache", short_help=False),
    most=1,
)

_PARENT = "1"
"""A kernel's parent in a container is init. Without a parent, ipykernel writes that Ctrl-C will not work. It does not
watch this one (kernelapp.py), which outlives the kernel."""

_SHARED, _OUTSIDE = "k", "s"
"""Directories in a kernel's own: the one that the kernel makes its sockets in, and the one that frontends use."""

_START_LIMIT = 60.0  # seconds until a container must have begun


class ContainerProcess:
    """A program in a container, as `subprocess.Popen` has one: what `LocalProvisioner` asks of it.

    `pid` is init's on the host. Everything in the container ends when the program does, or this process.
    """

    stdin = stdout = stderr = None

    def __init__(self, engine: Engine, request: Request, output: Callable[[bytes], None]) -> None:
        """Start it. Raises this package's errors if it cannot start."""
        self.pid = 0
        self.returncode: int | None = None
        self._error: Exception | None = None
        self._pidfd = -1
        self._killed = False
        self._begun = threading.Event()
        container, image = choose_container(engine, request)
        streams = Streams(output, output, on_follow=self._on_follow, check_wait=self._check_wait)
        work = functools.partial(self._run, engine, container, image, request, streams)
        self._thread = threading.Thread(target=work, name="nbcontainer-kernel", daemon=True)
        self._thread.start()
        if not self._begun.wait(_START_LIMIT):  # another notebook's cell runs in its container
            self.kill()
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, engine: Engine, container: Container, image: Image, request: Request, streams: Streams) -> None:
        code = 1
        try:
            code = run_in(engine, container, image, request, streams).exit_code
        except Exception as error:  # the thread that waits raises it
            self._error = error
        finally:
            self.returncode = code
            self._begun.set()
            if container.anonymous:
                with contextlib.suppress(NbcontainerError, OSError):  # the cleanup removes what cannot be removed now
                    container.remove()

    def _check_wait(self) -> None:
        if self._killed:
            raise ContainerBusy("the kernel's container runs another cell", hint="start the kernel when that has ended")

    def _on_follow(self, follow: Supervisor) -> None:
        self.pid = follow.running.pid
        self._pidfd = os.dup(follow.running.pidfd)
        if self._killed:
            self.kill()
        self._begun.set()

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._thread.is_alive() else self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code. Raises `subprocess.TimeoutExpired`."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the program and its process group; SIGKILL ends the whole container."""
        if self._pidfd >= 0 and self._thread.is_alive():
            signal.pidfd_send_signal(self._pidfd, signal.Signals(number))

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything else in the container; if it has not started, when it starts."""
        self._killed = True
        self.send_signal(signal.SIGKILL)


class ContainerProvisioner(LocalProvisioner):
    """Launches the kernel in a container of the arguments `run`, as in `%container run IMAGE`."""

    run = Unicode("", help="The image and the options, as in %container run IMAGE.").tag(config=True)
    notebooks = Unicode("", help="How to show the notebook's directory: rw, ro, none; empty for none.").tag(config=True)

    process: Any = None
    _folder: str = ""
    _sockets: KernelSockets | None = None
    _store: Store | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Before each start: a directory for the sockets, and the kernel's command in the container's own terms."""
        manager: Any = self.parent
        if not self._folder:
            # Short, since socket paths are limited (unix(7)); closed to others, since a client may run code.
            self._folder = tempfile.mkdtemp(prefix="nbk-", dir=_runtime_directory())
            for name in (_SHARED, _OUTSIDE):
                (Path(self._folder) / name).mkdir(mode=0o700)
            manager.cache_ports = False
            manager.transport = "ipc"
            # Not where the kernel may write: it could put a link in its place, and redirect writes to another file.
            manager.connection_file = f"{self._folder}/kernel.json"
            manager.ip = f"{self._folder}/{_OUTSIDE}/s"
        found: dict[str, Any] = await super().pre_launch(**kwargs)
        Path(manager.connection_file).chmod(0o644)
        (Path(self._folder) / _SHARED).chmod(0o777)
        command = found["cmd"]
        if command[:1] == [sys.executable]:
            # jupyter_client has put its own interpreter in the place of `python`.
            command[0] = self.kernel_spec.argv[0]
        return found

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the container. Raises this package's errors."""
        try:
            request = self._request(cmd, kwargs.get("env") or {})
            engine, output = default_engine(), _writer(kwargs.get("stderr"))
            self._store = engine.store
            request, notice = with_notebooks(engine.store, request, self.notebooks, kwargs.get("cwd") or ".")
            if notice:
                output(f"nbcontainer: {notice}\n".encode())
            self._link_sockets()
            self.process = await _start(engine, request, output)
        except BaseException:
            self._remove_folder()
            raise
        self.pid, self.pgid = self.process.pid, None
        return self.connection_info

    def _request(self, command: list[str], env: dict[str, str]) -> Request:
        words = parse(RUN_WORDS, shlex.split(self.run))
        if not words.operands and not words.has("name"):
            raise UsageError(f"kernel {self.kernel_spec.display_name}: no image", hint="name one in `run`")
        connection_file = f"{self._folder}/kernel.json"
        # The kernel finds its own directory where the frontends find the links to its sockets.
        volumes = [f"{self._folder}/{_SHARED}:{self._folder}/{_OUTSIDE}", f"{connection_file}:{connection_file}:ro"]
        words.options["volume"] = [*words.all("volume"), *volumes]
        own = {
            "JPY_PARENT_PID": _PARENT,
            **self.kernel_spec.env,
            **{name: value for name, value in env.items() if name == "JPY_SESSION_NAME"},
        }
        words.options["env"] = [*(f"{name}={value}" for name, value in own.items()), *words.all("env")]
        # A script, and no command, which an image's entry point would take for its own; what other users of the
        # container make, the server's must be able to connect to.
        request = request_of(words, script=f"#!/bin/sh\numask 0\nexec {shlex.join(command)}\n")
        return replace(request, kernel=self.run, notebook=Path(env.get("JPY_SESSION_NAME", "")).name)

    def _link_sockets(self) -> None:
        manager: Any = self.parent
        self._unlink_sockets()
        names = [f"s-{port}" for port in manager.ports]
        self._sockets = KernelSockets(f"{self._folder}/{_SHARED}", f"{self._folder}/{_OUTSIDE}", names)

    def _unlink_sockets(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
        self._sockets = None

    async def send_signal(self, signum: int) -> None:
        """Hand a signal to init, which hands it on."""
        if self.process is not None:
            self.process.send_signal(signum)

    async def cleanup(self, restart: bool = False) -> None:
        """After the end: the directory goes, unless the kernel comes again."""
        self._unlink_sockets()
        await super().cleanup(restart)
        if not restart:
            self._remove_folder()

    def _remove_folder(self) -> None:
        self._unlink_sockets()
        if not self._folder:
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                sockets = stack.enter_context(resolve(f"{self._folder}/{_SHARED}")).node
                if self._store is not None:  # the inode may be that of another directory next
                    stack.callback(writable.forget, self._store, sockets)
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = ""


async def _start(engine: Engine, request: Request, output: Callable[[bytes], None]) -> ContainerProcess:
    """Start a container in a thread, since an image may have to come first, and a server has others to serve."""
    # A launcher dies with the thread that starts it, and the server's own is the main one.
    for launcher in (engine.launcher, engine.launcher_for(request.options.privileges.userns)):
        launcher.start()

    made: list[ContainerProcess] = []
    given_up = threading.Event()

    def start() -> ContainerProcess:
        made.append(ContainerProcess(engine, request, output))
        if given_up.is_set():
            made[0].kill()
        return made[0]

    try:
        return await asyncio.to_thread(start)
    except asyncio.CancelledError:  # this ends the wait, but not the thread
        given_up.set()
        for process in made:
            process.kill()
        raise


def _runtime_directory() -> str | None:
    """Return the user's own directory for sockets; None for the machine's temporary directory."""
    place = os.environ.get("XDG_RUNTIME_DIR", "")
    return place if place and len(place) < 40 and os.access(place, os.W_OK) else None


def _writer(target: Any) -> Callable[[bytes], None]:
    """Return a writer of the kernel's own output to a descriptor or file, by default standard error."""
    fd = target if isinstance(target, int) and target >= 0 else target.fileno() if hasattr(target, "fileno") else 2

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(fd, data) :]

    return write
