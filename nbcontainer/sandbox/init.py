"""The two processes every container begins with: init (pid 1), and the one that becomes the cell (pid 2).

The launcher clones init, which applies the part of the plan that can be done ahead and forks the second. That one
waits for the rest of the plan, applies it and becomes the cell's program, while init does what only pid 1 can: reap,
hand signals on, end what the cell leaves behind, and say how it ended. So a cell's start has no fork in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.errors import NbcontainerError
from nbcontainer.linux.processes import set_name, set_pdeathsig
from nbcontainer.sandbox import plan, wire
from nbcontainer.sandbox.lockdown import HardenInit, NewSession
from nbcontainer.sandbox.process import Call, OpenTerminal, open_terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps import Step

_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)


def main(kernel: Kernel, channel: socket.socket, prepare: Sequence[Step]) -> NoReturn:
    """Init's whole life. `channel` leads to the notebook, `prepare` is what can be done ahead. Ends the process."""
    try:
        set_pdeathsig(signal.SIGKILL)
        kernel.close_all_but((channel.fileno(),))
        set_name("nbcontainer-init")
        for sig in _FORWARDED:
            signal.signal(sig, signal.SIG_IGN)
        failure = _apply(kernel, prepare, ())
        cell = os.fork()
        if cell == 0:
            _Cell(kernel, channel).live(failure)
        # The root will be switched under this process too (pivot_root(2)); it must hold on to no other directory.
        kernel.chdir("/")
        HardenInit().apply(kernel, ())
        _forward_signals_to(cell)
        status, usage = _reap_until(cell)
        _end_everything()
        ended = {"ended": status, "cpu": usage.ru_utime + usage.ru_stime, "peak_memory": usage.ru_maxrss * 1024}
        with contextlib.suppress(OSError):  # the notebook has gone, and with it whoever would want to know
            wire.send(channel, ended)
    except BaseException as error:
        os.write(2, f"nbcontainer init: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _forward_signals_to(cell: int) -> None:
    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):
            os.killpg(cell, number)

    for sig in _FORWARDED:
        signal.signal(sig, forward)


def _reap_until(cell: int) -> tuple[int, Any]:
    """Reaps every child until the cell's own process; its wait status and resource usage."""
    while True:
        pid, status, usage = os.wait4(-1, 0)
        if pid == cell:
            return status, usage


def _end_everything() -> None:
    """Kills whatever else is in the pid namespace, and reaps it, so that nothing is left when the notebook hears."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _apply(kernel: Kernel, todo: Iterable[Step], files: Sequence[int]) -> dict[str, Any] | None:
    """Applies steps in order; None, or what there is to say of the first that failed."""
    for step in todo:
        try:
            step.apply(kernel, files)
        except Exception as error:  # whatever it is: a cell that could not start must not look like one that failed
            return _failure(step, error)
    return None


def _failure(step: Step, error: Exception) -> dict[str, Any]:
    if not isinstance(error, OSError):
        return {"step": type(step).__name__, "errno": 0, "error": str(error) or type(error).__name__, "path": ""}
    return {
        "step": type(step).__name__,
        "errno": error.errno or 0,
        "error": error.strerror or str(error),
        "path": _path(error),
    }


def _path(error: OSError) -> str:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else ""


class _Cell:
    """Pid 2 until it is the cell's program, or has run the function that it was asked to."""

    def __init__(self, kernel: Kernel, channel: socket.socket) -> None:
        self.kernel = kernel
        self.channel = channel
        self.files: list[int] = []

    def live(self, failure: dict[str, Any] | None) -> NoReturn:
        """Waits for the rest of the plan and applies it. `failure` is of what was done ahead. Ends the process."""
        try:
            NewSession().apply(self.kernel, ())
            # What this interpreter, and init, changed: the rest is as the kernel made it.
            for sig in (*_FORWARDED, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(sig, signal.SIG_DFL)
            request = wire.receive(self.channel, self.files)
            if request is not None:  # else the notebook wants this one no more, or has gone
                self._run(request, failure)
        except BaseException as error:
            os.write(2, f"nbcontainer cell: {type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(127)

    def _run(self, request: dict[str, Any], failure: dict[str, Any] | None) -> None:
        setup, enter = plan.decode(request["setup"]), plan.decode(request["enter"])
        failure = failure or self._set_up(setup)
        last = enter[-1]
        failure = failure or _apply(self.kernel, enter[:-1], self.files)
        if failure is None and isinstance(last, Call):
            self._call(last)
            os._exit(0)
        failure = failure or _apply(self.kernel, (last,), self.files)
        wire.send(self.channel, {"failed": failure})

    def _set_up(self, setup: Sequence[Step]) -> dict[str, Any] | None:
        for step in setup:
            if isinstance(step, OpenTerminal):
                control, terminal = open_terminal(self.kernel)
                wire.send(self.channel, {"terminal": True}, [control])
                self.files[:3] = [terminal] * 3
            elif (failure := _apply(self.kernel, (step,), self.files)) is not None:
                return failure
        return None

    def _call(self, call: Call) -> None:
        """Runs a function of this package, and sends what came of it."""
        function = getattr(sys.modules[call.module], call.function)
        try:
            answer = {"result": function(self.files, self._progress, **json.loads(call.arguments))}
        except NbcontainerError as error:
            answer = {"raised": type(error).__name__, "message": error.message, "hint": error.hint}
        except OSError as error:
            answer = {"errno": error.errno or 0, "error": error.strerror or str(error), "path": _path(error)}
        wire.send(self.channel, {"answer": answer})

    def _progress(self, done: int) -> None:
        """Tells the notebook how far a function is, in bytes; a full channel loses it rather than waits."""
        with contextlib.suppress(OSError):
            self.channel.sendmsg([json.dumps({"progress": done}).encode()], [], socket.MSG_DONTWAIT)
