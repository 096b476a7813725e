"""Steps that make the container's file system and make it the root."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS
from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.sandbox.diagnosis import namespace_advice
from nbcontainer.sandbox.steps.base import Chinese, Step, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis

STAGE = "stage"
"""A directory of the store, and so relative to init's working directory, where a container's mounts are assembled."""

ROOT = f"{STAGE}/root"

LAYERS = "layers"
"""The store's directory of layers. Overlay is mounted from inside it: its option string is cut at a page."""

BELOW = "below"
"""A directory of the store with the files that a container finds where its image has none: the lowest lower."""

HOST_TREES = "host"
"""A directory of the store where a launcher shows, to its containers alone, directories of the host's by their ids."""


@dataclass(frozen=True)
class SlaveMounts(Step):
    """Lets the host's mounts and unmounts come in, and none go out."""

    phrase: ClassVar[str] = "set the propagation of mounts"
    why: ClassVar[str] = "what is mounted in the container stays in the container"
    risk: ClassVar[str] = "its mounts would appear on the host"
    chinese: ClassVar[Chinese] = Chinese(
        "把所有挂载设为从属（slave）",
        "在容器里做的挂载只留在容器里",
        "容器里的挂载会出现在主机上",
    )
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EPERM: namespace_advice, errno.EACCES: namespace_advice}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make every mount a slave."""
        kernel.mount(None, "/", None, MS_REC | MS_SLAVE, None)


@dataclass(frozen=True)
class MountStage(Step):
    """A small tmpfs on the store's `stage` directory, seen by this container alone."""

    phrase: ClassVar[str] = "mount the stage"
    why: ClassVar[str] = "a place to assemble the mounts in, gone with the last of them"
    risk: ClassVar[str] = "nothing by itself; the other mounts would have no place that only this container sees"
    chinese: ClassVar[Chinese] = Chinese(
        "挂载一个小的 tmpfs 作为准备区",
        "有一个地方可以先把各个挂载装配好，最后一个挂载消失时它也消失",
        "本身没有危险，但其他挂载就没有只属于这个容器的地方",
    )
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EPERM: namespace_advice, errno.EACCES: namespace_advice}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it and make the directories for the root, /proc, /dev and /sys."""
        kernel.mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m")
        for name in ("root", "proc", "dev", "sys"):
            kernel.mkdir(f"{STAGE}/{name}", 0o755)


@dataclass(frozen=True)
class BindRoot(Step):
    """A directory of the store, given relative to it, as the root: for unpacking and packing inside a sandbox."""

    source: str
    read_only: bool = False

    phrase: ClassVar[str] = "bind the root"
    why: ClassVar[str] = "the sandboxed function sees this one directory and nothing else"
    risk: ClassVar[str] = "the sandboxed function would see more of the store than this one directory"
    chinese: ClassVar[Chinese] = Chinese(
        "把目录 {source} 作为根目录",
        "这个沙箱函数只能看到这一个目录",
        "这个沙箱函数会看到仓库中的其他目录",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        access = ", read-only" if arguments["read_only"] else ""
        return f"use the store's directory {quoted(arguments['source'])} as the root{access}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Bind it on the stage's root."""
        if self.read_only:
            bind_read_only(kernel, self.source, ROOT)
        else:
            kernel.mount(self.source, ROOT, None, MS_BIND, None)


def bind_read_only(kernel: Kernel, source: str, target: str) -> None:
    """Bind a directory so that nothing can be written by it."""
    kernel.mount(source, target, None, MS_BIND, None)
    # A remount would have to name every flag that the host's mount has, noexec for one (mount_namespaces(7)).
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID
    kernel.mount_setattr(AT_FDCWD, target, 0, attr_set=attributes)


def open_in_root(kernel: Kernel, target: str, flags: int, resolve: int = 0) -> int:
    """A descriptor of container path `target` below the stage's root; no link leads out. The caller closes it.

    A lookup that a rename disturbs is EAGAIN (openat2(2)): it is tried again.
    """
    root = kernel.open(ROOT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for attempt in range(128):
            try:
                return kernel.openat2(
                    root,
                    target,
                    flags | os.O_CLOEXEC,
                    resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
                )
            except OSError as error:
                if error.errno != errno.EAGAIN or attempt == 127:
                    raise
        raise AssertionError("unreachable")
    finally:
        kernel.close(root)


def make_target(kernel: Kernel, target: str, *, directory: bool) -> int:
    """An O_PATH descriptor of the mount point `target` in the root; what is missing of it is made.

    Raises `OSError`: ENOTDIR or EISDIR where the image has something of the other kind there. The caller closes it.
    """
    parts = [part for part in target.split("/") if part]
    for depth in range(1, len(parts) + 1):
        path = "/" + "/".join(parts[:depth])
        last = depth == len(parts)
        try:
            found = open_in_root(kernel, path, os.O_PATH)
        except FileNotFoundError:
            parent = open_in_root(kernel, "/" + "/".join(parts[: depth - 1]), os.O_PATH | os.O_DIRECTORY)
            try:
                if last and not directory:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    kernel.close(kernel.open(parts[-1], flags, 0o644, dir_fd=parent))
                else:
                    kernel.mkdir(parts[depth - 1], 0o755, dir_fd=parent)
            except OSError as error:
                error.filename = path
                raise
            finally:
                kernel.close(parent)
            found = open_in_root(kernel, path, os.O_PATH)
        if last:
            if stat.S_ISDIR(kernel.fstat(found).st_mode) != directory:
                kernel.close(found)
                code = errno.ENOTDIR if directory else errno.EISDIR
                raise OSError(code, os.strerror(code), target)
            return found
        kernel.close(found)
    return open_in_root(kernel, "/", os.O_PATH)


@dataclass(frozen=True)
class AttachStaged(Step):
    """Moves the staged /proc, /dev or /sys into the root, on a real directory of the image's.

    An image that has a link there is refused: everything written below would go where the link says.
    """

    name: str

    phrase: ClassVar[str] = "attach a mount"
    why: ClassVar[str] = "prepared for a warm container, put in its place"
    risk: ClassVar[str] = "a link in the image could lead these mounts to another directory"
    chinese: ClassVar[Chinese] = Chinese(
        "把 /{name} 放到它的位置上",
        "它已经提前做好，现在只需移到位",
        "镜像中的链接可以把这个挂载引到别的目录",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.ELOOP: "the image has a symbolic link where a directory must be: use another image",
        errno.ENOTDIR: "the image has a file where a directory must be: use another image",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"put {quoted('/' + arguments['name'])} in its place"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Attach it; a missing directory is made."""
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            target = open_in_root(kernel, f"/{self.name}", flags, RESOLVE_NO_SYMLINKS)
        except FileNotFoundError:
            kernel.mkdir(f"{ROOT}/{self.name}", 0o755)
            target = open_in_root(kernel, f"/{self.name}", flags, RESOLVE_NO_SYMLINKS)
        kernel.move_mount(AT_FDCWD, f"{STAGE}/{self.name}", target, "", MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)


@dataclass(frozen=True)
class ReadOnlyRoot(Step):
    """`--read-only`: the root refuses writes; volumes and tmpfs keep their own flags."""

    phrase: ClassVar[str] = "make the root read-only"
    why: ClassVar[str] = "the cell asked for a root that cannot be written"
    risk: ClassVar[str] = "it could write to its root, although the cell asked for a read-only one"
    chinese: ClassVar[Chinese] = Chinese(
        "把根目录设为只读",
        "这个单元格要求根目录不可写",
        "容器可以写它的根目录",
    )
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make the root mount itself, not those below it, read-only."""
        kernel.mount_setattr(AT_FDCWD, ROOT, 0, attr_set=MOUNT_ATTR_RDONLY)


@dataclass(frozen=True)
class PivotRoot(Step):
    """Makes the assembled tree the root, and takes the old one away."""

    phrase: ClassVar[str] = "switch the root"
    why: ClassVar[str] = "no path leads to the host's files any more"
    risk: ClassVar[str] = "it could reach every file of the host that the user can reach"
    chinese: ClassVar[Chinese] = Chinese(
        "切换根目录，并卸下旧的根",
        "主机的文件从此没有路径可以到达",
        "容器可以到达这个用户在主机上能到达的所有文件",
    )
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "the notebook's own root is an initramfs, which the kernel cannot pivot away from: "
        "run it from a disk or a chroot",
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Stack the old root on the new one and detach it: no directory for it is needed (pivot_root(2))."""
        kernel.chdir(ROOT)
        kernel.pivot_root(".", ".")
        kernel.umount2(".", MNT_DETACH)
        kernel.chdir("/")


@dataclass(frozen=True)
class MakeWorkdir(Step):
    """The working directory, made where the image does not have it, as Docker does."""

    path: str

    phrase: ClassVar[str] = "enter the working directory"
    why: ClassVar[str] = "the program starts in a directory that is there, inside the root"
    risk: ClassVar[str] = "a link in the image could make the program start in a directory of the host"
    chinese: ClassVar[Chinese] = Chinese(
        "如果镜像没有工作目录 {path}，就创建它",
        "程序从根目录之内的一个目录开始运行",
        "镜像中的链接可以让程序从主机的目录开始运行",
    )
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        errno.ENOENT: "choose another with -w",
        errno.EACCES: "it, or a directory above it, is closed to this user: choose another with -w",
        errno.ENOTDIR: "it is a file in the image: choose another with -w",
        errno.ELOOP: "it leads through a link that containers may not follow: choose another with -w",
        errno.EROFS: "it does not exist, and what is above it is read-only: choose another with -w",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"make the working directory {quoted(arguments['path'])} if the image lacks it"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Look it up, or make it, without following a link out of the root (CVE-2024-21626)."""
        kernel.close(make_target(kernel, self.path, directory=True))


@dataclass(frozen=True)
class StoreAsHost(Step):
    """For `--userns=host`: shows a directory of the store with the ids that a container's root has on this host.

    Layers belong to root's ranges (see `idmap.ROOT_BASE`); an idmapped mount (Linux 5.12; below overlay 5.19) moves
    them. `ranges` are (first id in the store, first id here, number of ids).
    """

    ranges: tuple[tuple[int, int, int], ...]
    name: str = LAYERS

    phrase: ClassVar[str] = "map the owners of the store's files"
    why: ClassVar[str] = "without a user namespace, the layers' root must be the host's"
    risk: ClassVar[str] = "without a user namespace, the layers would belong to a user that is not root"
    chinese: ClassVar[Chinese] = Chinese(
        "以主机 root 为所有者显示目录 {name}",
        "没有用户命名空间时，层的 root 必须就是主机的 root",
        "没有危险，但层中文件的所有者会不对",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "the store's file system has no idmapped mounts: leave out --userns=host",
        errno.EPERM: "only the host's root can do this: leave out --userns=host",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"show the store's directory {quoted(arguments['name'])} as if the host's root owned its files"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Put an idmapped copy of the layers' mount over the directory."""
        tree = kernel.open_tree(AT_FDCWD, self.name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        namespace = kernel.user_namespace(self.ranges)
        kernel.mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=namespace)
        kernel.move_mount(tree, "", AT_FDCWD, self.name, MOVE_MOUNT_F_EMPTY_PATH)
        kernel.close(namespace)
        kernel.close(tree)
