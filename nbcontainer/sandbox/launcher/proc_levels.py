"""The launcher's choice of where /proc comes from: each level is tried with the steps of a container.

A level is tried only if the kernel refused the one before with EPERM. See `ProcLevel` for the order.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, NoReturn

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher.unsharing import MapGate
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.namespaces import OWN_USER, CloneInit
from nbcontainer.sandbox.steps.proc import MountProc
from nbcontainer.sandbox.steps.rootfs import MountStage, SlaveMounts

if TYPE_CHECKING:
    import socket
    from typing import Any

    from nbcontainer.linux.kernel import Kernel


def choose(kernel: Kernel, control: socket.socket, store: int, idmap: dict[str, Any]) -> ProcLevel:
    """Return the first level that the kernel allows; `OWN` if it allows none, so that a cell reports the failure.

    `control` is the socket to the notebook, which mounts for `NOTEBOOK`; `store` is a descriptor of the store.
    """
    os.fchdir(store)  # the working directory goes into a new mount namespace with the process, a descriptor does not
    try:
        return _first_allowed(kernel, control, idmap)
    finally:
        os.chdir("/")


def _first_allowed(kernel: Kernel, control: socket.socket, idmap: dict[str, Any]) -> ProcLevel:
    for level in ProcLevel:
        if level == ProcLevel.OUTER and idmap["kind"] == "host":
            break  # without user namespaces, containers would see into each other
        code = _try(kernel, level, control, idmap)
        if code == 0:
            return level
        if code != errno.EPERM:
            break
    return ProcLevel.OWN


def _try(kernel: Kernel, level: ProcLevel, control: socket.socket, idmap: dict[str, Any]) -> int:
    """Return 0 if a container can have a /proc of this level, otherwise the errno."""
    own_user = level == ProcLevel.OUTER
    gate = MapGate(idmap) if own_user else None
    try:
        pid = kernel.clone(CloneInit(("mount", "pid", *((OWN_USER,) if own_user else ()))).flags())
        if pid == 0:
            _trial(kernel, level, control, gate)
        try:
            if gate is not None:
                gate.open_for(kernel, pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError as error:
        return error.errno or errno.EINVAL
    finally:
        if gate is not None:
            gate.close()
    return status if status >= 0 else errno.EINVAL


def _trial(kernel: Kernel, level: ProcLevel, control: socket.socket, gate: MapGate | None) -> NoReturn:
    """Exit with 0 if the steps succeed, otherwise with the errno."""
    code = errno.EINVAL
    try:
        if gate is not None:
            gate.wait(kernel)
        files = ask_for_proc(kernel, control) if level == ProcLevel.NOTEBOOK else []
        for step in (SlaveMounts(), MountStage(), MountProc(level.value)):
            step.apply(kernel, files)
        code = 0
    except OSError as error:
        code = error.errno or errno.EINVAL
    finally:
        os._exit(code)


def ask_for_proc(kernel: Kernel, channel: socket.socket) -> list[int]:
    """Return a detached mount of /proc for this process's pid namespace, which the notebook made; none if it did not.

    The caller closes it.
    """
    namespace = kernel.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    files: list[int] = []
    protocol.send(channel, {"mount_proc": True}, [namespace])
    kernel.close(namespace)
    protocol.receive(channel, files)
    return files
