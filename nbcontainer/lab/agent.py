"""The process of a laboratory, from its side: it applies single calls, runs shells, and applies plans step by step.

It is root of a user namespace, in mount, process, network, host-name and message namespaces of its own, and its root is
a tree that imitates a host. It has no filter of system calls: it tries all that the notebook asks for.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.files import read_text
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.mounts import (
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
)
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.steps.namespaces import CloneInit
from nbcontainer.sandbox.steps.overlay import escaped
from nbcontainer.sandbox.steps.program import Execute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.steps.base import Step

DIRECTORY = "/lab"
"""The laboratory's own directory: memory, so that it can hold the upper directory of an overlay."""

STORE = "/store"
"""The decoy of a store, in which plans are applied."""

_CHANNEL = 3
"""The number of the travelling descriptor that is the socket to the notebook."""

_OUTPUT_LIMIT = 1 << 20
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}


def serve(files: Sequence[int], _progress: Callable[[int], None]) -> None:
    """Answer the requests that come by the socket `files[3]`, until the notebook closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the shell that runs
    channel = socket.socket(fileno=os.dup(files[_CHANNEL]))
    os.dup2(files[0], 0)  # the input of shells, whatever the root has at /dev/null
    kernel = Kernel()
    _prepare(kernel)
    with channel:
        while (request := protocol.receive(channel)) is not None:
            protocol.send(channel, _answer(kernel, request))


def _prepare(kernel: Kernel) -> None:
    """Make the laboratory's directory and the decoy store."""
    for place in (DIRECTORY, STORE):
        with contextlib.suppress(FileExistsError):
            kernel.mkdir(place, 0o755)
        kernel.mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=256m")
    for name in ("layers", "layers/image", "layers/image/diff", "below", "stage", "tmp"):
        kernel.mkdir(f"{STORE}/{name}", 0o755)
    os.chdir(DIRECTORY)


def _answer(kernel: Kernel, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": _REQUESTS[request["do"]](kernel, **request.get("with", {}))}
    except OSError as error:
        name = error.filename if isinstance(error.filename, str) else ""
        return {
            "errno": error.errno or 0,
            "error": error.strerror or str(error),
            "path": name,
            "mounts": _mounts(kernel),
        }
    except (KeyError, TypeError, ValueError) as error:
        return {"errno": 0, "error": f"{type(error).__name__}: {error}", "path": "", "mounts": ""}


def _mount_overlay(kernel: Kernel, lower: list[str], upper: str | None, work: str | None, merged: str) -> None:
    words = [f"lowerdir={':'.join(map(escaped, lower))}", "userxattr"]
    if upper is not None and work is not None:
        words += [f"upperdir={escaped(upper)}", f"workdir={escaped(work)}"]
    kernel.mount("overlay", merged, "overlay", 0 if upper is not None else MS_RDONLY, ",".join(words))


def _bind(kernel: Kernel, source: str, target: str, *, read_only: bool, recursive: bool) -> None:
    kernel.mount(source, target, None, MS_BIND | (MS_REC if recursive else 0), None)
    if read_only:  # a bind mount takes its flags from the source; a remount changes them (mount(2))
        kernel.mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NODEV | MS_NOSUID, None)


def _mount(kernel: Kernel, fstype: str, target: str, options: str | None) -> None:
    kernel.mount(fstype, target, fstype, 0, options)


_KINDS = {"private": MS_PRIVATE, "shared": MS_SHARED, "slave": MS_SLAVE}


def _propagation(kernel: Kernel, target: str, kind: str, *, recursive: bool) -> None:
    kernel.mount(None, target, None, _KINDS[kind] | (MS_REC if recursive else 0), None)


def _umount(kernel: Kernel, target: str, *, lazy: bool) -> None:
    kernel.umount2(target, MNT_DETACH if lazy else 0)


def _pivot_root(kernel: Kernel, new_root: str, put_old: str) -> None:
    kernel.pivot_root(new_root, put_old)
    kernel.chdir("/")


def _chdir(kernel: Kernel, path: str) -> str:
    kernel.chdir(path)
    return os.getcwd()  # noqa: PTH109 - a Path is not needed


def _mounts(_: Kernel) -> str:
    return read_text("/proc/self/mountinfo") or read_text("/proc/mounts")


def _sh(kernel: Kernel, script: str, timeout: float) -> dict[str, Any]:
    """Run a script by /bin/sh; return its output, with its errors, and its status as a shell has it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
    try:
        pid = kernel.posix_spawn(
            "/bin/sh",
            ("sh", "-c", script),
            _ENVIRONMENT,
            file_actions=actions,
            setsigdef=(signal.SIGINT, signal.SIGPIPE),
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    try:
        return _collected(pid, reader, timeout)
    finally:
        os.close(reader)


def _collected(pid: int, reader: int, timeout: float) -> dict[str, Any]:
    """Return what a process writes until it ends, and how it ended; after `timeout` seconds it is killed."""
    output, ended, deadline = b"", os.pidfd_open(pid), time.monotonic() + timeout
    poll = select.poll()
    for fd in (reader, ended):
        poll.register(fd, select.POLLIN)
    try:
        while True:
            ready = [fd for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)]
            if reader in ready and (data := os.read(reader, 1 << 16)):
                output += data[: _OUTPUT_LIMIT - len(output)]
            elif ended in ready:
                return {"output": output.decode("utf-8", "replace"), "status": _status(os.waitpid(pid, 0)[1])}
            elif not ready:
                os.kill(pid, signal.SIGKILL)
            else:
                poll.unregister(reader)
    finally:
        os.close(ended)


def _status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run(kernel: Kernel, steps: list[Any], without: list[str], script: str, timeout: float) -> dict[str, Any]:
    """Apply a plan in the decoy store, except for the steps named `without`; its program is what runs last.

    The answer is that of `_sh`; with a step that failed, also its name and the error.
    """
    todo = [step for step in plan.decode(steps) if type(step).__name__ not in without]
    reader, writer = os.pipe2(os.O_CLOEXEC)
    said, says = os.pipe2(os.O_CLOEXEC)
    try:
        clone = next((step for step in todo if isinstance(step, CloneInit)), None)
        pid = os.fork() if clone is None else kernel.clone(clone.flags())
        if pid == 0:
            _live(kernel, [step for step in todo if step is not clone], writer, says, script)
        os.close(writer)
        os.close(says)
        writer = says = -1
        answer = _collected(pid, reader, timeout)
        failed = os.read(said, 1 << 12).decode("utf-8", "replace")
        return {**answer, "failed": failed}
    finally:
        protocol.close(fd for fd in (reader, writer, said, says) if fd >= 0)


def _live(kernel: Kernel, todo: Sequence[Step], output: int, says: int, script: str) -> None:
    """Be init of a plan: apply its steps, wait for its program, and end the process."""
    code = 127
    step: Step | None = None
    try:
        os.chdir(STORE)
        body = protocol.memory_file("cell", script.encode())
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        files = (null, output, output, body)
        # A descriptor that a runtime has left open, for the attack on them.
        os.set_inheritable(os.open("/", os.O_RDONLY | os.O_DIRECTORY), True)
        for step in todo:
            if isinstance(step, Execute):
                code = _status(os.waitpid(step.start(kernel), 0)[1])
            else:
                step.apply(kernel, files)
    except OSError as error:
        where = f": {error.filename}" if isinstance(error.filename, str) else ""
        os.write(says, f"{type(step).__name__}: {error.strerror}{where}".encode())
    except Exception as error:
        os.write(says, f"{type(step).__name__}: {error!r}".encode())
    finally:
        os._exit(code)


_REQUESTS: dict[str, Callable[..., Any]] = {
    "mount_overlay": _mount_overlay,
    "bind": _bind,
    "mount": _mount,
    "propagation": _propagation,
    "umount": _umount,
    "pivot_root": _pivot_root,
    "chdir": _chdir,
    "mounts": _mounts,
    "sh": _sh,
    "run": _run,
}
