"""A program of another user in a running container: a copy of init becomes that user, and then the program.

The copy has what init gives to every process that joins: the namespaces, the filter, the limits and the capabilities
of the container. It keeps three descriptors, and the kernel lets no process look into it before it is the program.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import termios
import time
from typing import TYPE_CHECKING, Any, NoReturn

from nbcontainer.linux.process import PR_SET_DUMPABLE
from nbcontainer.sandbox.step_failure import FailedStep, failure_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Step
    from nbcontainer.sandbox.steps.program import Execute
    from nbcontainer.sandbox.steps.rights.user import SetUser

_PATIENCE = 5.0
"""Seconds for the copy to be the program: a process of the same user may stop it (SIGSTOP) before it is."""

_TOO_LATE = f"it is not the program after {_PATIENCE:.0f} s: a process of the container may have stopped it"

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # by an interpreter


def start_as(kernel: Kernel, user: SetUser, execute: Execute) -> int:
    """Return the pid of a copy of this process that has become `user`, and the program of `execute`.

    Its streams are the descriptors 0 to 2. This process needs the capabilities of the change (SETUID, SETGID). Raises
    `FailedStep` if the copy could not do it; it is killed then.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = os.fork()
            if pid == 0:
                _become(kernel, user, execute, writer)
        finally:
            kernel.close(writer)
        failure = _failure(reader, execute)
    finally:
        kernel.close(reader)
    if failure is None:
        return pid
    os.kill(pid, signal.SIGKILL)  # init reaps it, as it does every process
    raise FailedStep(failure)


def _failure(reader: int, execute: Execute) -> dict[str, Any] | None:
    """Return what the copy says of its failure, None once it is the program: its end of the pipe is closed then."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    report, deadline = b"", time.monotonic() + _PATIENCE
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        if not (read := os.read(reader, 1 << 16)):
            said: dict[str, Any] | None = json.loads(report) if report else None
            return said
        report += read
    return failure_in(execute, OSError(errno.ETIMEDOUT, _TOO_LATE))


def _become(kernel: Kernel, user: SetUser, execute: Execute, writer: int) -> NoReturn:
    """Become the user and the program; if that fails, write what failed, and end."""
    step: Step = user
    try:
        kernel.setsid()
        kernel.close_all_but((writer,))
        if user.terminal:
            kernel.ioctl(0, termios.TIOCSCTTY)
        user.become(kernel, "", 0 if user.terminal else None)
        kernel.prctl(PR_SET_DUMPABLE, 0)  # the change of user undoes it where fs.suid_dumpable says so
        for number in _IGNORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        step = execute
        execute.start(kernel, _replace)
    except Exception as error:
        os.write(writer, json.dumps(failure_in(step, error)).encode())
    finally:
        os._exit(127)


def _replace(path: str, argv: Sequence[str], env: Mapping[str, str], **_: object) -> NoReturn:
    """execve(2) in the place of posix_spawn(3): what that would set is set already. Raises `OSError`."""
    os.execve(path, list(argv), env)
