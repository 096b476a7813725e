"""The socket of a notebook through which other processes of its user run commands in its containers.

`nbcontainer exec` in a terminal connects to it. Init starts the command, as for `%container exec`: the notebook passes
on the descriptors of the streams and the messages of init, and nothing that comes from the container. The socket is in
the store, which other users cannot enter, and the kernel reports the user of each connection (SO_PEERCRED in unix(7)).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from nbcontainer.containers.cells.request import Request
from nbcontainer.containers.live.joining import program_of
from nbcontainer.containers.options import run_options
from nbcontainer.errors import ERRNO_ADVICE, ContainerError, NbcontainerError
from nbcontainer.images import sandboxed
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.joined import JoinedHandle
from nbcontainer.sandbox.steps.program import CallFunction
from nbcontainer.store.errors import store_error

if TYPE_CHECKING:
    from nbcontainer.containers.engine import Engine
    from nbcontainer.containers.live.joining import Joinable

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
_PAUSE = 0.1  # seconds until a connection is accepted again for which there was no descriptor, or no memory


def serve(engine: Engine) -> None:
    """Have a process of this user run commands in the engine's containers, from now on. Raises `StoreError`."""
    if engine.exec_server is None:
        engine.exec_server = ExecServer(engine)


class ExecServer:
    """A listening socket at `path`, relative to the store, and a thread that accepts connections. `close` ends both."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.path = f"tmp/{engine.store.unique()}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            bind(self._listener, engine, self.path)
            self._listener.listen()
        except OSError as error:
            self._listener.close()
            raise store_error("make a socket", engine.store.path / self.path, error) from error
        threading.Thread(target=self._accept, name="nbcontainer-exec", daemon=True).start()

    def close(self) -> None:
        """Accept no more connections. Commands that run end with their containers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        (self._engine.store.path / self.path).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED):
                    time.sleep(_PAUSE)  # the connection waits meanwhile, and the next accept(2) would fail at once
                    continue
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="nbcontainer-exec", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there are as many threads as there may be
                connection.close()
                time.sleep(_PAUSE)

    def _serve(self, connection: socket.socket) -> None:
        files: list[int] = []
        with connection, contextlib.suppress(OSError):
            try:
                if not is_of_this_user(connection):
                    return
                message = protocol.receive(connection, files)
                if message is not None:
                    self._run(connection, message, files)
            except NbcontainerError as error:
                protocol.send(connection, {"refused": error.message, "hint": error.hint})
            except (KeyError, TypeError, ValueError):
                protocol.send(connection, {"refused": "another version of nbcontainer runs the notebook", "hint": ""})
            except OSError as error:
                problem = f"the notebook cannot start the command: {error.strerror}"
                protocol.send(connection, {"refused": problem, "hint": ERRNO_ADVICE.get(error.errno or 0, "try again")})
            finally:
                protocol.close(files)

    def _run(self, connection: socket.socket, message: dict[str, Any], files: list[int]) -> None:
        """Run the command of a message with these streams, and pass on what init says, until it has ended."""
        live = cast("Joinable | None", self._engine.live.get(str(message["name"])))
        container = None if live is None else live.handle
        if live is None or container is None:
            raise ContainerError(f"container '{message['name']}' has just ended", hint="see `%container ps`")
        with JoinedHandle(container) as joined:
            if "function" in message:
                joined.call(_copy_of(message), files)
            else:
                self._start(live, joined, message, files)
            protocol.close(files)
            files.clear()
            _Relay(connection, joined).to_end()

    def _start(self, live: Joinable, joined: JoinedHandle, message: dict[str, Any], files: list[int]) -> None:
        """Start the command of a message."""
        terminal = int(message["terminal"])
        command = tuple(map(str, message["command"]))
        if len(files) != 3 or terminal not in (0, 1, 3) or not command:
            raise ValueError("not a request")
        fields = {"env": tuple(map(str, message["env"])), "workdir": str(message["workdir"])}
        options = run_options({**fields, "user": str(message["user"])})
        request = Request(name=live.name, command=command, options=options)
        program = program_of(live, request, joined.number, terminal)
        joined.start(program.execute, files, user=program.user, terminal=terminal)


class _Relay:
    """Passes messages between a process that asked for a command and init, until one of them has ended."""

    def __init__(self, connection: socket.socket, joined: JoinedHandle) -> None:
        self._connection = connection
        self._joined = joined

    def to_end(self) -> None:
        """Pass on until the command has ended. If the other process ends before, kill the command's process group."""
        poll = select.poll()
        for fd in (self._connection.fileno(), self._joined.channel.fileno(), self._joined.pidfd):
            poll.register(fd, select.POLLIN)
        while self._joined.ended is None:
            ready = {fd for fd, _ in poll.poll()}
            if self._joined.channel.fileno() in ready:
                self._pass_back()
            elif self._joined.pidfd in ready:
                return
            if self._connection.fileno() in ready and not self._take_signal():
                self._joined.signal(signal.SIGKILL)
                return

    def _take_signal(self) -> bool:
        try:
            message = protocol.receive(self._connection)
        except OSError:
            return False
        if message is None:
            return False
        self._joined.signal(int(message["signal"]))
        return True

    def _pass_back(self) -> None:
        files: list[int] = []
        message = protocol.receive(self._joined.channel, files)
        if message is None:
            return
        if not message.keys().isdisjoint(("ended", "failed", "answer")):
            self._joined.ended = message
        try:
            protocol.send(self._connection, message, files)
        finally:
            protocol.close(files)


def _copy_of(message: dict[str, Any]) -> CallFunction:
    """Return the step for one of the functions that copy files. Raises `ValueError` for another one."""
    copies = (sandboxed.send_path, sandboxed.receive_path, sandboxed.send_tar, sandboxed.receive_tar)
    function = {one.__name__: one for one in copies}.get(message["function"])
    if function is None:
        raise ValueError("not a request")
    return CallFunction(function.__module__, function.__name__, json.dumps(message["arguments"]))


def is_of_this_user(connection: socket.socket) -> bool:
    """Return whether a process of this user, or of root, is at the other end."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (0, os.geteuid())


def bind(listener: socket.socket, engine: Engine, path: str) -> None:
    """Bind a socket to a path relative to the store, which may be longer than an address. Raises `OSError`."""
    with short_path(engine, path) as short:
        listener.bind(short)


@contextlib.contextmanager
def short_path(engine: Engine, path: str) -> Any:
    """Yield another path (host) for a path relative to the store: an address has 107 bytes at most (unix(7))."""
    folder, name = (engine.store.path / path).parent, (engine.store.path / path).name
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
