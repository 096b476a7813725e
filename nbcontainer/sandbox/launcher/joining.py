"""More processes in a running container, which its init starts.

Init has the namespaces, the user, the capabilities, the system call filter and the limits of the container, since the
plan gave them to it: what it spawns has them by inheritance. No process enters the container from outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import secrets
import select
import signal
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.linux.process import capability_mask
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher.exec_as_user import start_as
from nbcontainer.sandbox.launcher.function_calls import answer
from nbcontainer.sandbox.launcher.notebook_watch import TimeLimit
from nbcontainer.sandbox.steps.exchange.display import EXCHANGE
from nbcontainer.sandbox.steps.program import CallFunction, ConnectStreams, Execute, open_terminal
from nbcontainer.sandbox.steps.rights.user import SetUser

if TYPE_CHECKING:
    import socket

    from nbcontainer.linux.kernel import Kernel

_STREAMS = 3
_ABOVE_STREAMS = 10


class JoinedProcesses:
    """The processes that init has started in addition to the cell, by their pids in the container."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.capabilities = 0
        """The capabilities of the container's programs, as a bit mask."""
        self._numbers: dict[int, int] = {}
        self._scripts: dict[int, str] = {}
        self._limits: dict[int, TimeLimit] = {}
        self._killed: dict[int, int] = {}
        """By the pids of processes that were killed: a pidfd of each."""

    def start(self, request: dict[str, Any], files: list[int]) -> int | None:
        """Start the process of a request: `join` is its number, `execute` its step. Raises `OSError`, `FailedStep`.

        With `user`, the step of another user than the container's, it becomes that user first.

        The first three `files` are its streams. The fourth one is the body of its script, which becomes a file: the
        argument `script` of the request is its path. All are closed. Of these streams, the first ones are a new
        terminal, as many as the request's `terminal` says; return its controlling end, which the caller closes.
        """
        moved = _above_streams(self._kernel, files)
        number, path = int(request["join"]), str(request.get("script", ""))
        control = None
        self._use(self.capabilities)
        try:
            if streams := int(request.get("terminal", 0)):
                control, terminal = map(self._moved, open_terminal(self._kernel, ""))
                moved[:streams] = [self._replaced(fd, terminal) for fd in moved[:streams]]
                self._kernel.close(terminal)
            if path:
                self._write(path, moved[_STREAMS])
            ConnectStreams().apply(self._kernel, moved)
            pid = self._started(request)
        except BaseException:
            self._remove(path)
            if control is not None:
                self._kernel.close(control)
            raise
        finally:
            with contextlib.suppress(OSError):  # the container may have closed its root
                self._kernel.chdir("/")
            self._use(self.capabilities & capability_mask(("KILL",)))
            for fd in (*range(_STREAMS), *moved):
                with contextlib.suppress(OSError):
                    self._kernel.close(fd)
        self._numbers[pid], self._scripts[pid] = number, path
        self._limits[pid] = TimeLimit(request.get("limit"))
        return control

    def _started(self, request: dict[str, Any]) -> int:
        """Return the pid of the process of a request, whose streams are those of this process."""
        (execute,) = plan.decode([request["execute"]])
        assert isinstance(execute, Execute)
        if request.get("user") is None:
            return execute.start(self._kernel)
        (user,) = plan.decode([request["user"]])
        assert isinstance(user, SetUser)
        return start_as(self._kernel, user, execute)

    def _use(self, effective: int) -> None:
        """Make these capabilities effective, of those of the container's programs. Init holds them only for a start.

        With them it finds the script and the directory wherever root of the container would (CAP_DAC_OVERRIDE).
        """
        if self.capabilities:
            self._kernel.capset(self.capabilities, effective, 0)

    def call(self, request: dict[str, Any], files: list[int], channel: socket.socket) -> None:
        """Have a copy of this process call a function of this package that was loaded ahead, and send its answer.

        It has the container's root, user, filter and limits, and the capabilities of its programs. The container cannot
        look into it, as it cannot look into init. All `files` are closed. Raises `OSError`.
        """
        try:
            pid = os.fork()
            if pid == 0:
                self._answer(request, files, channel)
            with contextlib.suppress(OSError):  # it has done so itself, or has ended
                os.setpgid(pid, pid)
        finally:
            while files:
                self._kernel.close(files.pop())
        self._numbers[pid], self._scripts[pid] = int(request["join"]), ""

    def _answer(self, request: dict[str, Any], files: list[int], channel: socket.socket) -> NoReturn:
        """Be the copy: call the function of a request, send its answer, and end."""
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the function removes what is not finished
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._kernel.capset(self.capabilities, self.capabilities, 0)
            (step,) = plan.decode([request["call"]])
            assert isinstance(step, CallFunction)
            protocol.send(channel, {"join": int(request["join"]), "answer": answer(step, files, _no_progress)})
        finally:
            os._exit(0)

    def _moved(self, fd: int) -> int:
        """Return a descriptor of the same, above those of the streams."""
        return self._replaced(fd, fd)

    def _replaced(self, fd: int, by: int) -> int:
        """Close a descriptor, and return a copy of `by` above those of the streams."""
        copy = fcntl.fcntl(by, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STREAMS)
        self._kernel.close(fd)
        return copy

    def _write(self, path: str, source: int) -> None:
        target = self._kernel.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o555)
        offset = 0
        try:
            while sent := self._kernel.sendfile(target, source, offset, 1 << 30):
                offset += sent
        finally:
            self._kernel.close(target)

    def _remove(self, path: str) -> None:
        if path:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - pathlib is not loaded here

    def end_late_ones(self) -> None:
        """Send each process group that should have ended the signal that it is due."""
        for pid, limit in self._limits.items():
            if (number := limit.due()) is not None:
                self._send(pid, number)

    def signal(self, number: int, sent: int) -> None:
        """Send a signal to the process group of a process; one that has ended is ignored."""
        for pid, known in self._numbers.items():
            if known == number:
                self._send(pid, sent)

    def _send(self, pid: int, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(pid, number)
            if number == signal.SIGKILL and pid not in self._killed:
                self._killed[pid] = os.pidfd_open(pid)

    def dead(self) -> list[dict[str, Any]]:
        """Return the messages that processes have ended which were killed, and which nothing here can reap.

        Another process of the container traces such a one, and does not wait for it (ptrace(2)).
        """
        gone = [pid for pid, pidfd in self._killed.items() if is_readable(pidfd)]
        return [message for pid in gone if (message := self._ended(pid, signal.SIGKILL, 0.0, 0))]

    def ended(self, pid: int, status: int, usage: resource.struct_rusage) -> dict[str, Any] | None:
        """Return the message that a process has ended, None for the pid of any other process."""
        return self._ended(pid, status, usage.ru_utime + usage.ru_stime, peak_memory(usage))

    def _ended(self, pid: int, status: int, cpu_time: float, peak_memory: int) -> dict[str, Any] | None:
        number = self._numbers.pop(pid, None)
        if number is None:
            return None
        self._remove(self._scripts.pop(pid, ""))
        self._limits.pop(pid, None)
        if (pidfd := self._killed.pop(pid, None)) is not None:
            self._kernel.close(pidfd)
        return {"join": number, "ended": status, "cpu": cpu_time, "peak_memory": peak_memory}


def peak_memory(usage: resource.struct_rusage) -> int:
    """Return the peak memory of a process that this one has started, in bytes; 0 if it is not known.

    What starts by vfork(2) has the memory of its parent until it is the program, and its peak counts that
    (ru_maxrss in getrusage(2)).
    """
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > own else 0


def _no_progress(_: int) -> None:
    pass


def _above_streams(kernel: Kernel, files: list[int]) -> list[int]:
    """Return copies of descriptors above those of the streams, and close `files`. If one cannot be made: `OSError`."""
    moved: list[int] = []
    try:
        for fd in files:
            moved.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STREAMS))
    except OSError:
        for fd in moved:
            kernel.close(fd)
        raise
    finally:
        while files:
            kernel.close(files.pop())
    return moved


def script_path(number: int) -> str:
    """Return the container path for the script of a process: every user of the container may make files there.

    So no process of the container can make it before: its name cannot be known.
    """
    return f"{EXCHANGE}/shown/cell.{number}.{secrets.token_hex(8)}"


def is_readable(fd: int) -> bool:
    """Return whether a message has come or the other end is closed; of a process, whether it has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
