"""Steps that mount the layers of an image as one file system: overlayfs."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.files import RESOLVE_NO_SYMLINKS
from nbcontainer.linux.mounts import (
    AT_FDCWD,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
)
from nbcontainer.sandbox.steps.base import Chinese, Step, counted, quoted
from nbcontainer.sandbox.steps.rootfs import LAYERS, ROOT, STAGE, bind_read_only, open_in_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.errors import SetupFailed
    from nbcontainer.linux.kernel import Kernel

_OPTIONS_LIMIT = 4000  # bytes; the kernel cuts mount(2)'s data at a page

# A store whose file system cannot hold an upper directory, in the phrase that doctor and a cell share.
UPPER_ADVICE = "set NBCONTAINER_HOME to a directory on ext4, xfs or btrfs (in Docker: on a volume)"

FEW_CHANGES = "directories of an image can be neither removed nor renamed there (tmpfs: before Linux 6.6)"
"""What an upper's file system without attributes of users is a limit for, in the same phrase."""

_NO_OVERLAY = "load the overlay module (modprobe overlay), or use a kernel of 5.11 or later"

_MANY_LAYERS = "it has more layers than this kernel takes: export it and import that, as one, or use Linux 6.5 or later"


@dataclass(frozen=True)
class ShowHost(Step):
    """A directory of the host as a read-only file system of its own, in the stage's directory `name`.

    `source` is as in `HostLower`. The second layer is there because overlayfs needs two where nothing is written.
    """

    source: str
    name: str

    phrase: ClassVar[str] = "show the host's files"
    why: ClassVar[str] = "the store lies in it, and overlayfs takes no layer that lies in another: this one lies apart"
    risk: ClassVar[str] = "it could change the host's files, which are to be read-only"
    chinese: ClassVar[Chinese] = Chinese(
        "以只读方式显示主机的目录 {source}",
        "仓库就在这个目录里，而 overlayfs 的一层不能在另一层之内",
        "容器可以改动主机的文件",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "the root here is an overlay, as in Docker: set NBCONTAINER_HOME to a directory on a volume",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"show the host's directory {quoted(arguments['source'])} as a file system of its own, read-only"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it."""
        empty = f"{STAGE}/{self.name}-empty"
        for path in (empty, f"{STAGE}/{self.name}"):
            kernel.mkdir(path, 0o755)
        kernel.chdir(LAYERS)
        lowers = f"{escaped(self.source)}:../{empty}"
        data = f"lowerdir={lowers},userxattr,index=off,metacopy=off"
        kernel.mount("overlay", f"../{STAGE}/{self.name}", "overlay", MS_NODEV | MS_NOSUID | MS_RDONLY, data)
        kernel.chdir("..")


def escaped(path: str) -> str:
    """A path as one of overlay's `lowerdir` option."""
    for letter in "\\:,":
        path = path.replace(letter, f"\\{letter}")
    return path


@dataclass(frozen=True)
class MountOverlay(Step):
    """The container's root: the image's layers below, this cell's own layer above. Or a part of it, at `target`.

    `lowers` (the topmost first), `upper` and `work` are paths below the store's `layers`; the last lower may be the
    host's. Without an upper the view is read-only. `userxattr` lets deletes and renames work in a user namespace
    (Documentation/filesystems/overlayfs.rst); `volatile` (Linux 5.10) leaves out syncing what no crash needs to
    survive.
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    target: str = "/"

    phrase: ClassVar[str] = "mount the overlay"
    why: ClassVar[str] = "the image below, read-only; what the cell writes goes to a layer of its own"
    risk: ClassVar[str] = "it would write to the image itself, and to every other container of it"
    chinese: ClassVar[Chinese] = Chinese(
        "挂载 overlay：下面是镜像的层，上面是单元格自己的层",
        "镜像在下面，只读；单元格写入的内容进入自己的层",
        "容器会直接改动镜像，也就改动了使用它的所有容器",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: UPPER_ADVICE,
        errno.ENOENT: "a layer is missing: remove the container; or remove the image, and pull or load it again",
        errno.ENODEV: _NO_OVERLAY,
        errno.EPERM: _NO_OVERLAY,
        errno.E2BIG: _MANY_LAYERS,
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        top = "read-only" if arguments["upper"] is None else "with a writable layer on top"
        return f"mount {counted(len(arguments['lowers']), 'layer')} at {quoted(arguments['target'])}, {top}"

    def options(self) -> list[tuple[str, str | None]]:
        """The mount's options apart from the lowers, in order."""
        options: list[tuple[str, str | None]] = [("userxattr", None), ("index", "off"), ("metacopy", "off")]
        if self.upper is not None and self.work is not None:
            options += [("volatile", None), ("upperdir", self.upper), ("workdir", self.work)]
        return options

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it on the stage's root; a part is mounted beside it, and moved to a real directory in it."""
        if self.target == "/":
            self.mount_at(kernel, ROOT)
            return
        place = f"{STAGE}/part{self.target.replace('/', '-')}"
        kernel.mkdir(place, 0o755)
        self.mount_at(kernel, place)
        target = open_in_root(kernel, self.target, os.O_PATH | os.O_DIRECTORY, RESOLVE_NO_SYMLINKS)
        kernel.move_mount(AT_FDCWD, place, target, "", MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)

    def mount_at(self, kernel: Kernel, place: str) -> None:
        """Mount it on `place`, relative to init's working directory: by one mount(2) if the options fit a page."""
        kernel.chdir(LAYERS)
        if self.upper is None and len(self.lowers) == 1:
            bind_read_only(kernel, self.lowers[0], f"../{place}")  # overlay needs an upper or two lowers
            kernel.chdir("..")
            return
        words = [f"lowerdir={':'.join(map(escaped, self.lowers))}"]
        words += [key if value is None else f"{key}={value}" for key, value in self.options()]
        data = ",".join(words)
        if len(data) <= _OPTIONS_LIMIT:
            flags = MS_NODEV | (MS_RDONLY if self.upper is None else 0)
            kernel.mount("overlay", f"../{place}", "overlay", flags, data)
        else:
            self._mount_layer_by_layer(kernel, place)
        kernel.chdir("..")

    def _mount_layer_by_layer(self, kernel: Kernel, place: str) -> None:
        mounted = self.mount_detached(kernel)
        kernel.move_mount(mounted, "", AT_FDCWD, f"../{place}", MOVE_MOUNT_F_EMPTY_PATH)
        kernel.close(mounted)

    def mount_detached(self, kernel: Kernel) -> int:
        """Return a descriptor of the overlay, mounted nowhere. The working directory is the store's `layers`.

        lowerdir+ (Linux 6.5) adds a layer at a time, 500 at most, where one string of options ends at a page. The
        caller closes the descriptor.
        """
        context = kernel.fsopen("overlay")
        try:
            kernel.fsconfig(context, "source", "overlay")  # as by mount(2): /proc/self/mounts shows it
            self._add_lowers(kernel, context)
            for key, value in self.options():
                kernel.fsconfig(context, key, value)
            kernel.fsconfig_create(context)
            return kernel.fsmount(context, MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if self.upper is None else 0))
        finally:
            kernel.close(context)

    def _add_lowers(self, kernel: Kernel, context: int) -> None:
        try:
            for lower in self.lowers:
                kernel.fsconfig(context, "lowerdir+", lower)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG)) from error  # one that older kernels do not know


def exists(kernel: Kernel, lower: str, upper: str, work: str, control: str = "") -> bool:
    """Return whether an overlay with the work directory `work` exists: mounted, or held by a descriptor in it.

    The kernel refuses to make another one with index=on then: EBUSY (overlayfs.rst, "Sharing and copying layers"). One
    on the empty directory `upper` is made for a moment. If there was none, a second one on the empty directory
    `control` must be refused meanwhile, if that is given. The paths are as in `MountOverlay`, and the working directory
    is the store's `layers`. Raises `OSError`.
    """
    first = kernel.fsopen("overlay")
    try:
        if not _is_made(kernel, first, lower, upper, work):
            return True
        if control:
            second = kernel.fsopen("overlay")
            try:
                if _is_made(kernel, second, lower, control, work):
                    raise OSError(errno.EOPNOTSUPP, "this kernel makes two overlays with one work directory")
            finally:
                kernel.close(second)
    finally:
        kernel.close(first)
    return False


def _is_made(kernel: Kernel, context: int, lower: str, upper: str, work: str) -> bool:
    """Make an overlay; return False if its upper or work directory is another one's. Raises `OSError`."""
    try:
        for flag in ("userxattr", "volatile"):
            kernel.fsconfig(context, flag, None)
        for key, value in (("index", "on"), ("lowerdir", lower), ("upperdir", upper), ("workdir", work)):
            kernel.fsconfig(context, key, value)
        kernel.fsconfig_create(context)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@dataclass(frozen=True)
class GiveRoot(Step):
    """The owner of the root: that of the topmost layer `lower`, given to the cell's own layer `upper`.

    Both are paths below the store's `layers`. The merged root takes the owner of the upper directory (overlayfs.rst).
    """

    lower: str
    upper: str

    phrase: ClassVar[str] = "set the owner of the root directory"
    why: ClassVar[str] = "an earlier cell or the image gave the root directory to another user"
    risk: ClassVar[str] = "nothing; the root directory would belong to root again"
    chinese: ClassVar[Chinese] = Chinese(
        "把根目录的所有者设为层 {lower} 中的所有者",
        "之前的单元格或镜像把根目录给了别的用户",
        "没有危险，但根目录会重新属于 root",
    )
    advice: ClassVar[Mapping[int, str]] = {}

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"give the root directory the owner that it has in layer {quoted(arguments['lower'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Set it. An owner that has no id in the container stays what it is: the container's root.

        The kernel refuses such an id with EINVAL, and any owner with EPERM if the launcher lacks CAP_CHOWN (chown(2)).
        """
        facts = kernel.stat(os.path.normpath(f"{LAYERS}/{self.lower}"))
        upper = os.path.normpath(f"{LAYERS}/{self.upper}")
        try:
            kernel.chown(upper, facts.st_uid, facts.st_gid)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            return
        kernel.chmod(upper, stat.S_IMODE(facts.st_mode))


def upper_refused(error: SetupFailed) -> bool:
    """Whether it is the upper's file system that overlay refused: overlayfs itself, NFS, FUSE (overlayfs.rst)."""
    return error.step == MountOverlay.__name__ and error.errno == errno.EINVAL
