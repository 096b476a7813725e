"""Steps for volumes: directories and files of the host's, and tmpfs, mounted inside the root."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NODEV,
    MS_NOSUID,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.sandbox.rootfs import ROOT, STAGE, make_target, open_in_root
from nbcontainer.sandbox.steps import Step
from nbcontainer.sandbox.trees import CHANGED, CHANGED_ADVICE, STALE, clone_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_RESERVED = ("proc", "sys", "dev")

_RESOLVER = "/etc/resolv.conf"

_TARGET_ADVICE = {
    errno.ENOTDIR: "the target, or something above it, is a file in the image: choose another target",
    errno.ELOOP: "a link in the image leads the target in a circle, or where the container's own /, /proc, /sys or "
    "/dev is: choose another target",
    errno.EROFS: "the target does not exist, and what is above it is read-only: make it there first",
}


def mount_point(kernel: Kernel, target: str, *, directory: bool) -> int:
    """`make_target`, but ELOOP where a link of the image's leads to the root itself, or into /proc, /sys or /dev.

    What is asked is where the descriptor is (proc_pid_fd(5)), which no rename can change. The caller closes it.
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


@dataclass(frozen=True)
class BindVolume(Step):
    """One volume.

    `source` is an absolute host path without links, `target` an absolute container path. `tree` is the number of the
    travelling descriptor that holds the detached, idmapped mount of `source`; -1 where the step opens `source` itself,
    and then `device` and `inode` are what it must find there: the launcher's mounts may be older than the host's.
    """

    source: str
    target: str
    directory: bool
    read_only: bool
    tree: int = -1
    device: int = 0
    inode: int = 0

    why: ClassVar[str] = "what is written there is the host's, and stays"
    advice: ClassVar[Mapping[int, str]] = {
        **_TARGET_ADVICE,
        errno.EACCES: "check that the path may be entered and read by this user",
        errno.EISDIR: "the source is a file and the target a directory: name a file in it, as in -v FILE:/dir/name",
        errno.EEXIST: "the target is a dangling symbolic link in the image: choose another target",
        STALE: "it is not the one that was checked: run the cell again",
        CHANGED: CHANGED_ADVICE,
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Attaches the mount to the very directory or file that the target was found to be."""
        tree = files[self.tree] if self.tree >= 0 else self._clone(kernel)
        attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if self.read_only else 0)
        kernel.mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, attr_set=attributes)
        target = mount_point(kernel, self.target, directory=self.directory)
        kernel.move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)
        if self.tree < 0:
            kernel.close(tree)

    def _clone(self, kernel: Kernel) -> int:
        return clone_tree(kernel, self.source, (self.device, self.inode), recursive=True)


@dataclass(frozen=True)
class MountTmpfs(Step):
    """`--tmpfs`: memory at `target`; `size` in bytes, None for half the machine's (tmpfs(5))."""

    target: str
    size: int | None = None

    why: ClassVar[str] = "scratch space in memory, in no layer and no commit"
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = _TARGET_ADVICE

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mounts it on the stage, and moves it to the target it found inside the root."""
        name = f"{STAGE}/tmpfs"
        with contextlib.suppress(FileExistsError):
            kernel.mkdir(name, 0o755)
        options = "mode=1777" if self.size is None else f"mode=1777,size={self.size}"
        kernel.mount("tmpfs", name, "tmpfs", MS_NOSUID | MS_NODEV, options)
        target = mount_point(kernel, self.target, directory=True)
        kernel.move_mount(AT_FDCWD, name, target, "", MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)


@dataclass(frozen=True)
class BindResolver(Step):
    """The host's /etc/resolv.conf, read-only, for a container in the host's network."""

    why: ClassVar[str] = "names resolve as they do on the host"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Binds what the host's link, if it is one, points to; a host without one is left alone."""
        try:
            tree = kernel.open_tree(AT_FDCWD, _RESOLVER, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        except FileNotFoundError:
            return
        _attach_resolver(kernel, tree)


@dataclass(frozen=True)
class MakeResolver(Step):
    """An /etc/resolv.conf of the container's own, read-only, for a container in a private network."""

    text: str

    why: ClassVar[str] = "names are asked of who answers in the container's network"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Writes it on the stage, and mounts it over the image's."""
        name = f"{STAGE}/resolv.conf"
        file = kernel.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        kernel.write(file, self.text.encode())
        kernel.close(file)
        _attach_resolver(kernel, kernel.open_tree(AT_FDCWD, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC))


def _attach_resolver(kernel: Kernel, tree: int) -> None:
    """Puts a detached mount of a file, which is closed then, in the place of the root's /etc/resolv.conf."""
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    kernel.mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=attributes)
    try:
        target = make_target(kernel, _RESOLVER, directory=False)
    except FileExistsError:  # a link to nowhere, as systemd-resolved's is without its /run: over the link itself
        target = open_in_root(kernel, _RESOLVER, os.O_PATH | os.O_NOFOLLOW)
    kernel.move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    kernel.close(target)
    kernel.close(tree)
