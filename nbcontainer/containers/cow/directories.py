"""The host's directory of a copy-on-write volume: which one it is, and a descriptor of it for a sandbox."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from typing import TYPE_CHECKING, Any

from nbcontainer.containers.mounts import NO_IDS
from nbcontainer.errors import ChangesRefused, UsageError
from nbcontainer.linux.files import RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, birth_time, openat2
from nbcontainer.linux.mounts import AT_FDCWD
from nbcontainer.linux.paths import Node
from nbcontainer.linux.procfs import read_text
from nbcontainer.sandbox.steps.rootfs import BELOW
from nbcontainer.sandbox.userns.idmapped_mounts import cannot_open, idmapped_tree
from nbcontainer.sandbox.userns.volume_trees import inner_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.containers.history.volume_states import VolumeState
    from nbcontainer.containers.workspace import Workspace
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Volume

_IDMAPPED_LOWERS = (5, 19)
_SHOWN = 3  # paths in one line


def check_source(workspace: Workspace, volume: Volume) -> None:
    """Raise `UsageError` if a host's directory cannot be a copy-on-write volume."""
    store = workspace.store.path
    if f"{store}/".startswith(f"{volume.source.rstrip('/')}/"):
        problem = f"the copy-on-write volume {volume.source} contains the store {store}"
        raise UsageError(problem, hint="mount a subdirectory of it, or set NBCONTAINER_HOME to another directory")
    assert volume.cow is not None
    below = mounted_in(volume.source)
    if below and not volume.cow.nosub:
        problem = f"the copy-on-write volume {volume.source} has file systems mounted in it, which it cannot show"
        hint = "write cow,nosub to leave them out, or mount them as volumes of their own"
        raise UsageError(f"{problem}: {some(below)}", hint=hint)


def mounted_in(source: str) -> list[str]:
    """Return the places (host) at which file systems are mounted below a directory."""
    return inner_mounts(source, read_text("/proc/self/mountinfo"))


def some(paths: list[str]) -> str:
    """Return the first paths as text, and how many there are besides."""
    shown, more = paths[:_SHOWN], len(paths) - _SHOWN
    return ", ".join(map(repr, shown)) + (f" and {more} more" if more > 0 else "")


def maps_ids(launcher: Launcher) -> bool:
    """Return whether directories of the host need idmapped mounts: root's containers have ids of their own."""
    return launcher.idmap.root_uid != os.geteuid()


def check_kernel(release: str = "") -> None:
    """Raise `UsageError` if this kernel has no overlays on idmapped mounts; `release` is as in uname(2)."""
    release = release or platform.release()
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < _IDMAPPED_LOWERS:
        problem = f"copy-on-write volumes of root require Linux 5.19, and this is {release}"
        raise UsageError(problem, hint="run it as a plain user, or mount the directory with :ro")


@contextlib.contextmanager
def opened(workspace: Workspace, state: VolumeState) -> Iterator[tuple[int, Node]]:
    """Yield a descriptor of a volume's directory with the containers' ids, closed at the end, and the directory.

    Mounts below it are not part of it. Raises `ChangesRefused` if the path leads to another directory than at the
    container's first cell, or through a link.
    """
    node = _found(state)
    if not maps_ids(workspace.launcher):
        fd = _open(node)
    else:
        check_kernel()
        namespace = workspace.launcher.user_namespace()
        try:
            identity = (node.device, node.inode)
            fd = idmapped_tree(node.path, namespace, "volume", recursive=False, hint=NO_IDS, identity=identity)
        finally:
            os.close(namespace)
    try:
        yield fd, node
    finally:
        os.close(fd)


def run(workspace: Workspace, job: Callable[..., Any], tree: int, layers: Iterable[str], **arguments: Any) -> Any:
    """Run a function of `nbcontainer.images.cow.volume_jobs` in a sandbox, on a directory and the layers of a volume.

    `tree` is a descriptor of the directory. Raises `OSError`, and what a sandbox raises.
    """
    with contextlib.ExitStack() as stack:
        files = [tree]
        for layer in layers:
            files.append(os.open(workspace.store.path / "layers" / layer / "diff", os.O_PATH | os.O_DIRECTORY))
            stack.callback(os.close, files[-1])
        return workspace.on_directory(job, BELOW, files, read_only=True, **arguments)


def _found(state: VolumeState) -> Node:
    """Return the directory at a volume's path. Raises `ChangesRefused` if it is not the first cell's."""
    try:
        fd = openat2(AT_FDCWD, state.source, _DIRECTORY, resolve=_STRAIGHT)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        problem = f"cannot open the directory {state.source} of the volume '{state.target}': {why}"
        raise ChangesRefused(problem, hint="move the directory back, or `%container discard` the changes") from error
    try:
        facts = os.fstat(fd)
        node = Node(state.source, facts.st_dev, facts.st_ino, birth_time(fd))
    finally:
        os.close(fd)
    if not state.is_same_directory(node.device, node.inode, node.born):
        problem = f"{state.source} is not the directory that container volume '{state.target}' began with"
        raise ChangesRefused(problem, hint="move that directory back, or `%container discard` the changes")
    return node


_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STRAIGHT = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def _open(node: Node) -> int:
    try:
        fd = openat2(AT_FDCWD, node.path, _DIRECTORY, resolve=_STRAIGHT)
    except OSError as error:
        raise cannot_open("the volume", node.path, error) from error
    try:
        facts = os.fstat(fd)
        if (facts.st_dev, facts.st_ino) != (node.device, node.inode):
            raise ChangesRefused(f"{node.path} was replaced meanwhile", hint="try again")
    except BaseException:
        os.close(fd)
        raise
    return fd
