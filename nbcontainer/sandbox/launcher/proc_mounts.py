"""Mounts of /proc that the notebook makes for a container, where the kernel refuses them in a user namespace.

The notebook must be root with SYS_ADMIN, in a mount namespace that no user namespace but the host's owns.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from nbcontainer.linux import mounts
from nbcontainer.linux.namespaces import CLONE_NEWPID, setns
from nbcontainer.linux.process import library_path
from nbcontainer.sandbox import protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

_ATTRIBUTES = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC

_INSIDE = (
    "import sys; sys.path += sys.argv[2:]; "
    "from nbcontainer.sandbox.launcher.proc_mounts import send_own; send_own(int(sys.argv[1]))"
)


def answer(channel: socket.socket, namespaces: Sequence[int], import_path: Sequence[str]) -> None:
    """Send to `channel` a detached /proc of the pid namespace (a descriptor), or nothing if that is refused.

    Closes `namespaces`. `import_path` are the directories of this package. Raises `OSError` if the channel is closed.
    """
    made: list[int] = []
    try:
        if len(namespaces) == 1:
            made.append(mount_proc(namespaces[0], import_path))
    except OSError:
        pass  # the other side reports that it has none
    finally:
        protocol.close(namespaces)
    try:
        protocol.send(channel, {"proc": bool(made)}, made)
    finally:
        protocol.close(made)


def mount_proc(namespace: int, import_path: Sequence[str]) -> int:
    """Return a detached mount of /proc for a pid namespace. The caller closes it. Raises `OSError`."""
    try:
        return _mounted(namespace)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return _mounted_inside(namespace, import_path)


def _mounted(namespace: int | None) -> int:
    """Return a /proc of the pid namespace (Linux 6.17), or of this process's if None."""
    context = mounts.fsopen("proc")
    try:
        if namespace is not None:
            mounts.fsconfig_fd(context, "pidns", namespace)
        mounts.fsconfig_create(context)
        return mounts.fsmount(context, _ATTRIBUTES)
    finally:
        os.close(context)


def _mounted_inside(namespace: int, import_path: Sequence[str]) -> int:
    """Do it in a process inside the namespace: before Linux 6.17, /proc is that of the process which mounts it."""
    ours, theirs = protocol.pair()
    with ours, theirs:
        failed: list[OSError] = []
        # setns(2) moves the later children of one thread only, and this thread ends.
        thread = threading.Thread(target=_run_inside, args=(namespace, theirs, import_path, failed))
        thread.start()
        thread.join()
        theirs.close()
        files: list[int] = []
        message = protocol.receive(ours, files)
    if failed:
        raise failed[0]
    if message is None or len(files) != 1:
        protocol.close(files)
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "/proc")
    return files[0]


def _run_inside(namespace: int, channel: socket.socket, import_path: Sequence[str], failed: list[OSError]) -> None:
    try:
        setns(namespace, CLONE_NEWPID)
        subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _INSIDE, str(channel.fileno()), *import_path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[channel.fileno()],
            env=library_path(),
            cwd="/",
            check=False,
        )
    except OSError as error:
        failed.append(error)


def send_own(descriptor: int) -> None:
    """Send a detached /proc of this process's pid namespace to a socket, or nothing if it is refused."""
    with socket.socket(fileno=descriptor) as channel:
        try:
            made = _mounted(None)
        except OSError:
            return
        protocol.send(channel, {"proc": True}, [made])
