"""Detached mounts of host paths for a notebook that is root and may not mount.

The launcher may mount, and lacks root's access to paths: it has other ids. A process that joins its namespaces and
keeps root's ids has both. It runs no code of a container, and ends when it has sent the mount.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from nbcontainer.linux import mounts
from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, setns
from nbcontainer.linux.process import library_path
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.userns.idmapped_mounts import clone_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

_INSIDE = (
    "import sys; sys.path += sys.argv[7:]; "
    "from nbcontainer.sandbox.launcher.plain_trees import send_tree; send_tree(*sys.argv[1:7])"
)


def plain_tree(namespaces: tuple[int, int], source: str, identity: tuple[int, int], import_path: Sequence[str]) -> int:
    """Return a detached mount of `source` with all mounts below it, with the host's ids. The caller closes it.

    `namespaces` are descriptors of the launcher's user namespace and mount namespace; the other arguments are those of
    `clone_tree`. Mounts that the host makes there come in, and none go out. Raises `OSError`.
    """
    ours, theirs = protocol.pair()
    with ours:
        with theirs:
            words = [theirs.fileno(), *namespaces, source, *identity]
            subprocess.run(
                [sys.executable, "-I", "-S", "-B", "-c", _INSIDE, *map(str, words), *import_path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *namespaces],
                env=library_path(),
                cwd="/",
                check=False,
            )
        files: list[int] = []
        message = protocol.receive(ours, files) or {"errno": 0}
    if len(files) == 1:
        return files[0]
    protocol.close(files)
    code = int(message["errno"]) or 1
    raise OSError(code, os.strerror(code), source)


def send_tree(channel: str, user: str, mount: str, source: str, device: str, inode: str) -> None:
    """Send the mount to a socket, or the errno. The numbers are those of descriptors; ends in the namespaces."""
    with socket.socket(fileno=int(channel)) as answer:
        try:
            setns(int(user), CLONE_NEWUSER)
            setns(int(mount), CLONE_NEWNS)
            tree = clone_tree(Kernel(), source, (int(device), int(inode)), recursive=True)
            mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE, propagation=mounts.MS_SLAVE)
        except OSError as error:
            protocol.send(answer, {"errno": error.errno or 0})
            return
        protocol.send(answer, {"errno": 0}, [tree])
