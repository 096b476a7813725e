"""Steps for volumes: directories and files of the host's, and tmpfs, mounted inside the root."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_RELATIME,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
)
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted
from nbcontainer.sandbox.steps.devices import DEVICES
from nbcontainer.sandbox.steps.rootfs import ROOT, STAGE, make_target
from nbcontainer.sandbox.userns.idmapped_mounts import CHANGED, CHANGED_ADVICE, STALE, clone_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

FLAGS = {
    "ro": MS_RDONLY,
    "noexec": MS_NOEXEC,
    "sync": MS_SYNCHRONOUS,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
    "relatime": MS_RELATIME,
    "strictatime": MS_STRICTATIME,
}
"""The flags of a tmpfs, by the options of mount(8), for mount(2)."""

_RESERVED = ("proc", "sys", "dev")


TARGET_ADVICE = {
    errno.ENOTDIR: "the target, or something above it, is a file in the image: choose another target",
    errno.ELOOP: "a link in the image leads the target in a circle, or where the container's own /, /proc, /sys or "
    "/dev is: choose another target",
    errno.EROFS: "the target does not exist, and what is above it is read-only: make it there first",
}


def mount_point(kernel: Kernel, target: str, *, directory: bool) -> int:
    """`make_target`, but ELOOP where a link of the image's leads to the root itself, or into /proc, /sys or /dev.

    It asks for the place of the descriptor (proc_pid_fd(5)), which no rename can change. The caller closes it.
    """
    found = make_target(kernel, target, directory=directory)
    try:
        place = kernel.readlink(f"/proc/self/fd/{found}")
        below = place.removeprefix(f"{kernel.readlink('/proc/self/cwd')}/{ROOT}/")
        if below == place or below.partition("/")[0] in _RESERVED:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), target)
    except BaseException:
        kernel.close(found)
        raise
    return found


def _is_usual_device(found: os.stat_result) -> bool:
    """Return whether it is one of the devices that every container has in /dev."""
    return stat.S_ISCHR(found.st_mode) and (os.major(found.st_rdev), os.minor(found.st_rdev)) in DEVICES.values()


@dataclass(frozen=True)
class BindVolume(Step):
    """One volume.

    `source` is an absolute host path without links, `target` an absolute container path. `tree` is the number of the
    travelling descriptor that holds the detached, idmapped mount of `source`; None if the step opens `source` itself,
    and then `device` and `inode` are what it must find there: the launcher's mounts may be older than the host's. A
    source in the store is relative to it. With `slave`, later mounts of the host come in: no flag of
    this one is on them.
    """

    source: str
    target: str
    directory: bool
    read_only: bool
    tree: int | None = None
    device: int = 0
    inode: int = 0
    noexec: bool = False
    slave: bool = False

    phrase: ClassVar[str] = "mount the volume"
    why: ClassVar[str] = "what is written there is the host's, and stays"
    risk: ClassVar[str] = "nothing; there would be no volume. The checks and flags keep links and setuid programs out"
    chinese: ClassVar[Chinese] = Chinese(
        "把卷 {source} 挂载到 {target}",
        "写入那里的内容属于主机，并且会保留",
        "没有危险，但没有这个卷；检查 inode 和标志可以防住链接和 setuid 程序",
    )
    advice: ClassVar[Mapping[int, str]] = {
        **TARGET_ADVICE,
        errno.EACCES: "check that the path may be entered and read by this user",
        errno.EISDIR: "the source is a file and the target a directory: name a file in it, as in -v FILE:/dir/name",
        errno.EEXIST: "the target is a dangling symbolic link in the image: choose another target",
        STALE: "it is not the one that was checked: run the cell again",
        CHANGED: CHANGED_ADVICE,
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        access = "read-only" if arguments["read_only"] else "writable"
        access += ", without programs" if arguments.get("noexec") else ""
        return f"mount the volume {quoted(arguments['source'])} at {quoted(arguments['target'])}, {access}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Attach the mount to the very directory or file that the target was found to be."""
        tree = self._clone(kernel) if self.tree is None else files[self.tree]
        attributes = self._attributes(kernel, tree)
        propagation = MS_SLAVE if self.slave else MS_PRIVATE
        kernel.mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, attr_set=attributes, propagation=propagation)
        target = mount_point(kernel, self.target, directory=self.directory)
        kernel.move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)
        if self.tree is None:
            kernel.close(tree)

    def _attributes(self, kernel: Kernel, tree: int) -> int:
        """Return the attributes of the mount. A device that each container has works; its mode and owner stay."""
        attributes = MOUNT_ATTR_NOSUID | (MOUNT_ATTR_NOEXEC if self.noexec else 0)
        if not self.directory and _is_usual_device(kernel.fstat(tree)):
            return attributes | MOUNT_ATTR_RDONLY
        return attributes | MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if self.read_only else 0)

    def _clone(self, kernel: Kernel) -> int:
        return clone_tree(kernel, self.source, (self.device, self.inode), recursive=True)


@dataclass(frozen=True)
class MountTmpfs(Step):
    """`--tmpfs`: memory at `target`; `size` in bytes, None for half the machine's (tmpfs(5)).

    The other fields are those of `nbcontainer.sandbox.spec.Tmpfs`.
    """

    target: str
    size: int | None = None
    mode: int = 0o1777
    uid: int | None = None
    gid: int | None = None
    inodes: int | None = None
    flags: tuple[str, ...] = ()

    phrase: ClassVar[str] = "mount a tmpfs"
    why: ClassVar[str] = "scratch space in memory, in no layer and no commit"
    risk: ClassVar[str] = "nothing; the scratch space would be in the layer"
    chinese: ClassVar[Chinese] = Chinese(
        "在 {target} 挂载 tmpfs",
        "内存中的临时空间，不在任何层和任何提交里",
        "没有危险，但临时文件会进入层",
    )
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        **TARGET_ADVICE,
        errno.EINVAL: "its uid or gid is not mapped: without a range in /etc/subuid for this user, root is the only "
        "user in a container",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        size = "half of the memory" if arguments["size"] is None else f"{arguments['size'] / (1 << 20):.4g} MiB"
        flags = f", {listed(arguments['flags'])}" if arguments.get("flags") else ""
        return f"mount a tmpfs of at most {size} at {quoted(arguments['target'])}{flags}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it on the stage, and move it to the target it found inside the root."""
        name = f"{STAGE}/tmpfs"
        with contextlib.suppress(FileExistsError):
            kernel.mkdir(name, 0o755)
        flags = MS_NOSUID | MS_NODEV
        for flag in self.flags:
            flags |= FLAGS[flag]
        kernel.mount("tmpfs", name, "tmpfs", flags, self._options())
        target = mount_point(kernel, self.target, directory=True)
        kernel.move_mount(AT_FDCWD, name, target, "", MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)

    def _options(self) -> str:
        values = {"size": self.size, "uid": self.uid, "gid": self.gid, "nr_inodes": self.inodes}
        given = (f"{name}={value}" for name, value in values.items() if value is not None)
        return ",".join((f"mode={self.mode:o}", *given))
