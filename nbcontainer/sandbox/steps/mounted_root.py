"""A root that the launcher mounts, and each container that leaves it unchanged passes on to the next one."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_F_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.sandbox.steps.base import Chinese, Step, counted
from nbcontainer.sandbox.steps.network import NAMES, fill_names
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.rootfs import LAYERS, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_COPY = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH


@dataclass(frozen=True)
class AttachRoot(Step):
    """The container's root: an overlay that `mount_root` has mounted, and that no container has changed.

    `lowers` and `upper` are as in `MountOverlay`. The travelling descriptors are the overlay and the file system with
    the hosts file. The container gets a mount of its own of both: Linux 6.15 copies a detached mount (open_tree(2)).
    """

    lowers: tuple[str, ...]
    upper: str

    phrase: ClassVar[str] = "attach the root"
    why: ClassVar[str] = "the image below, read-only, and a layer that no container has changed, so none has to be made"
    risk: ClassVar[str] = "nothing; the container would have no root"
    chinese: ClassVar[Chinese] = Chinese(
        "接上一个已经挂载的 overlay 作为根目录",
        "镜像在下面，只读；上面的层还没有容器改动过，不必重新创建",
        "没有危险，但容器没有根目录",
    )
    advice: ClassVar[Mapping[int, str]] = {errno.EINVAL: "run the cell again: its root is mounted anew then"}

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"attach a mounted overlay of {counted(len(arguments['lowers']), 'layer')} that no container has changed"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Attach a copy of each, and close the descriptors."""
        root, names = files
        kernel.mkdir(NAMES, 0o755)
        for mounted, place in ((names, NAMES), (root, ROOT)):
            copy = kernel.open_tree(mounted, "", _COPY)
            kernel.move_mount(copy, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH)
            kernel.close(copy)
            kernel.close(mounted)


def mount_root(kernel: Kernel, lowers: tuple[str, ...], upper: str, work: str) -> tuple[int, int]:
    """Return detached mounts of an overlay, as `MountOverlay` has it, and of a tmpfs with its hosts file.

    It is for the launcher's process, with the store as the working directory. The caller closes both. Raises `OSError`:
    with EINVAL before Linux 6.15, which cannot copy them.
    """
    names = _detached_tmpfs(kernel)
    try:
        place = f"/proc/self/fd/{names}"  # a directory that has no other path
        fill_names(kernel, place, tuple(f"{lower}/etc" for lower in lowers))
        kernel.chdir(LAYERS)
        root = MountOverlay((place, *lowers), upper, work).mount_detached(kernel)
        try:
            kernel.close(kernel.open_tree(root, "", _COPY))
        except BaseException:
            kernel.close(root)
            raise
    except BaseException:
        kernel.close(names)
        raise
    return root, names


def _detached_tmpfs(kernel: Kernel) -> int:
    context = kernel.fsopen("tmpfs")
    try:
        for key, value in (("mode", "755"), ("size", "1m")):
            kernel.fsconfig(context, key, value)
        kernel.fsconfig_create(context)
        return kernel.fsmount(context, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)
    finally:
        kernel.close(context)
