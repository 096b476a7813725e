"""The launcher's first steps: from an interpreter that has just started to its namespaces.

Where containers' root may write the interpreter's file (it is the user's own, as conda's is, or there is no user
namespace), a cell could come by that file: it is /proc/self/exe for as long as a cell's program has not replaced it,
and so can be run by a cell, kept open, and have its mode changed (compare CVE-2019-5736). So it is mounted read-only
over itself here, and run once more from there. That is in namespaces that no container is in: who has the capability
to trace in the user namespace that a program was begun in may look into it (ptrace(2)), and init is that program.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.mounts import AT_FDCWD, MOUNT_ATTR_RDONLY, MS_BIND
from nbcontainer.linux.process import close_all_but
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.launcher.unsharing import make_namespaces, refuse, root_of

_INTERPRETER = "/proc/self/exe"
_ENTERED = "NBCONTAINER_ENTERED"
"""In the environment of the second run: no other process sees it."""


def main(descriptor: int) -> None:
    """Run the launcher until the notebook ends. `descriptor` is the socket to it; nothing else is kept open."""
    control = socket.socket(fileno=descriptor)
    close_all_but((descriptor,))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a notebook that was begun with it ignored would leave none to reap
    entered = os.environ.pop(_ENTERED, None) is not None
    if not entered and (peeked := control.recv(protocol.PACKET_LIMIT, socket.MSG_PEEK)):
        settings = json.loads(peeked)
        if is_exposed(settings["idmap"]):
            try:
                make_namespaces(Kernel(), settings["idmap"])
                close_interpreter(Kernel())
                os.execve(sys.orig_argv[0], sys.orig_argv, {**os.environ, _ENTERED: "1"})
            except OSError as error:
                refuse(control, settings, error)
                return
    from nbcontainer.sandbox.launcher import server

    server.main(control, entered=entered)


def is_exposed(idmap: dict[str, Any]) -> bool:
    """Whether the root of containers may change the file of this interpreter, or its mode."""
    if root_of(idmap) != os.geteuid():
        return False
    return os.stat(_INTERPRETER).st_uid == os.geteuid() or os.access(_INTERPRETER, os.W_OK)  # noqa: PTH116


def close_interpreter(kernel: Kernel) -> None:
    """Mount this interpreter's file read-only over itself, in this mount namespace. Raises `OSError`."""
    path = os.readlink(_INTERPRETER)  # noqa: PTH115 - what is behind it may not be resolved again
    kernel.mount(path, path, None, MS_BIND, None)
    kernel.mount_setattr(AT_FDCWD, path, 0, attr_set=MOUNT_ATTR_RDONLY)
