"""A command in a container of a notebook, run from another process of the same user: `nbcontainer exec`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.active import running_containers
from nbcontainer.containers.live.exec_server import short_path
from nbcontainer.containers.live.joined_streams import JoinedStreams
from nbcontainer.containers.lookup import get
from nbcontainer.errors import ContainerError, ContainerNotFound
from nbcontainer.linux.pipes import output_pipe
from nbcontainer.outcome import Reason
from nbcontainer.sandbox import protocol, sandboxed_call
from nbcontainer.sandbox.handle import ContainerHandle, readable
from nbcontainer.sandbox.join_watch import PATIENCE, JoinWatch
from nbcontainer.sandbox.joined import ENDED, end_copy
from nbcontainer.sandbox.silent_observer import SilentObserver
from nbcontainer.sandbox.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.containers.active import ActiveCell
    from nbcontainer.containers.cells.streams import Streams
    from nbcontainer.containers.engine import Engine
    from nbcontainer.outcome import Outcome


_CLOSED = "the notebook has closed the connection"

_ANSWER = PATIENCE + 1.0
"""Seconds in which a notebook says that a command has ended that it was to kill. `JoinWatch` needs less to end it."""

_DEATH = 1000.0
"""Milliseconds in which a container ends with its notebook."""


@dataclass(frozen=True)
class ExecRequest:
    """A command for a running container. `env` are NAME=value strings; `terminal` is how many streams are one.

    `user` is another user than the container's, as `--user` takes it; "" for that one.
    """

    name: str
    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    terminal: int = 0

    def as_message(self) -> dict[str, Any]:
        """Return the request as JSON values."""
        return dict(vars(self))


class RemoteProcess(ContainerHandle):
    """The handle of a command that a notebook runs: the messages about it come through the notebook's socket."""

    lost = Reason.CONTAINER_ENDED

    def __init__(self, channel: socket.socket, cell: ActiveCell) -> None:
        super().__init__(channel, cell.pid, os.pidfd_open(cell.pid))
        self.refused: dict[str, Any] | None = None

    def _take(self, message: dict[str, Any]) -> None:
        super()._take(message)
        if "refused" in message:
            self.refused = message
        if (self.refused or self.failed) is not None and self.ended is None:
            self.ended = {"ended": 127 << 8, "cpu": 0.0, "peak_memory": 0}

    def read(self) -> bool:
        """See `ContainerHandle.read`. A notebook that closes the connection of a container that runs has refused."""
        more = super().read()
        if not more and self.ended is None and not readable(self.pidfd, _DEATH):
            self._take({"refused": _CLOSED, "hint": "try again"})
        return more

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group. A notebook that has ended is ignored."""
        if self.ended is None:
            try:
                protocol.send(self.channel, {"signal": int(number)})
            except OSError:
                return

    def kill(self) -> None:
        """Kill the command. A notebook that does not say in time that it has ended has refused: it may be stopped."""
        first = self.killed_at is None
        super().kill()
        if first:
            timer = threading.Timer(_ANSWER, self._give_up)
            timer.daemon = True
            timer.start()

    def _give_up(self) -> None:
        """Wake the thread that reads the channel."""
        if self.ended is None:
            self._take({"refused": "the notebook does not answer", "hint": "see whether it is stopped or busy"})
        with contextlib.suppress(OSError):  # it is closed
            self.channel.shutdown(socket.SHUT_RD)

    def kill_container(self) -> None:
        """Kill every process of the container. A dead init is ignored."""
        super().signal(signal.SIGKILL)

    def wait(self) -> None:
        """Wait until the command has ended."""
        while self.ended is None and self.read():
            pass


def run_there(engine: Engine, request: ExecRequest, streams: Streams, *, timeout: float | None = None) -> Outcome:
    """Return the outcome of a command in a running container of any notebook of this user.

    Raises `ContainerNotFound`, `ContainerError`, `SetupFailed`.
    """
    cell = _find(engine, request.name)
    with JoinedStreams(streams.stdin, output_pipe) as opened:
        started = time.monotonic()
        with _connected(engine, request.name, cell) as remote:
            opened.watch(remote, remote.kill_container)
            _ask(remote, request.name, request.as_message(), opened.travelling)
            opened.close_sent()
            sinks = dict(zip(opened.outputs, (streams.stdout, streams.stderr), strict=True))
            supervisor = Supervisor(
                remote,
                _Observer(sinks, streams),
                opened.outputs,
                timeout=timeout,
                keyboard=streams.keyboard,
                feed=opened.feed,
                started=started,
            )
            outcome = supervisor.to_end()
            if remote.refused is not None:
                raise ContainerError(str(remote.refused["refused"]), hint=str(remote.refused["hint"]))
            return outcome


def of_notebook(engine: Engine, name: str) -> Callable[..., Any]:
    """Return what calls a function that copies files in a running container of any notebook of this user."""

    def call(function: Callable[..., Any], files: list[int], **arguments: Any) -> Any:
        cell = _find(engine, name)
        with _connected(engine, name, cell) as remote, JoinWatch(remote, (), remote.kill_container):
            try:
                message = {"name": name, "function": function.__name__, "arguments": arguments}
                _ask(remote, name, message, files)
                while remote.answer is None and remote.ended is None and remote.read():
                    pass
            except BaseException:
                end_copy(remote)
                raise
            if remote.refused is not None:
                raise ContainerError(str(remote.refused["refused"]), hint=str(remote.refused["hint"]))
            return sandboxed_call.answer_of(remote, function.__name__)

    return call


def _find(engine: Engine, name: str) -> ActiveCell:
    cell = running_containers(engine.store).get(name)
    if cell is None:
        get(engine, name)  # raises if the container does not exist
        hint = f"start it in a notebook, with `%%container --name {name} --bg`"
        raise ContainerNotFound(f"container '{name}' does not run", hint=hint)
    if not cell.door:
        hint = "a job (`--bg`) or a live container (`--live`) can be joined"
        raise ContainerError(f"container '{name}' runs a cell that cannot be joined", hint=hint)
    return cell


def _connect(engine: Engine, name: str, cell: ActiveCell) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with short_path(engine, cell.door) as short:
            channel.connect(short)
    except OSError as error:
        channel.close()
        problem = f"cannot reach the notebook of container '{name}': {error.strerror}"
        raise ContainerError(problem, hint="see `nbcontainer ps` for what runs") from error
    return channel


def _connected(engine: Engine, name: str, cell: ActiveCell) -> RemoteProcess:
    """Return a handle of what the notebook of a container will run in it; the caller closes it."""
    channel = _connect(engine, name, cell)
    try:
        return RemoteProcess(channel, cell)
    except OSError as error:
        channel.close()
        if error.errno not in ENDED:
            raise
        raise _just_ended(name) from error


def _ask(remote: RemoteProcess, name: str, message: dict[str, Any], files: Sequence[int]) -> None:
    try:
        protocol.send(remote.channel, message, files)
    except OSError as error:
        if error.errno not in ENDED:
            raise
        if readable(remote.pidfd, _DEATH):
            raise _just_ended(name) from error
        raise ContainerError(_CLOSED, hint="try again") from error


def _just_ended(name: str) -> ContainerError:
    return ContainerError(f"container '{name}' has just ended", hint="see `nbcontainer ps` for what runs")


class _Observer(SilentObserver):
    """Passes the output of the command to its sinks."""

    def __init__(self, sinks: dict[int, Callable[[bytes], None]], streams: Streams) -> None:
        self._sinks = sinks
        self._streams = streams

    def on_output(self, descriptor: int, data: bytes) -> None:
        self._sinks[descriptor](data)

    def on_terminal(self, terminal: int) -> None:
        sink = self._streams.on_terminal(terminal) if self._streams.on_terminal is not None else None
        self._sinks[terminal] = sink or self._streams.stdout
