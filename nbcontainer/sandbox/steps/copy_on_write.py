"""The step for a copy-on-write volume: a directory of the host's below, a layer for the changes above."""

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
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_PRIVATE,
)
from nbcontainer.sandbox.steps.base import Chinese, Step, counted, quoted
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.rootfs import LAYERS, STAGE
from nbcontainer.sandbox.steps.volumes import TARGET_ADVICE, mount_point
from nbcontainer.sandbox.userns.idmapped_mounts import CHANGED, CHANGED_ADVICE, STALE, clone_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_FIXED = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV


@dataclass(frozen=True)
class MountCopyOnWrite(Step):
    """One copy-on-write volume, the `number`th of its container.

    `source`, `target`, `tree`, `device`, `inode` and `noexec` are as in `BindVolume`; the source is a directory,
    without the file systems that are mounted in it. `lowers` (the topmost first) are the layers with earlier changes,
    and `upper` and `work` the directories of this cell's own; all are paths below the store's `layers`.
    """

    number: int
    source: str
    target: str
    lowers: tuple[str, ...]
    upper: str
    work: str
    tree: int | None = None
    device: int = 0
    inode: int = 0
    noexec: bool = False

    phrase: ClassVar[str] = "mount the copy-on-write volume"
    why: ClassVar[str] = "the host's directory below, read-only; changes go to a layer until they are applied"
    risk: ClassVar[str] = "it would write to the host's directory at once, without your approval"
    chinese: ClassVar[Chinese] = Chinese(
        "把 {source} 作为写时复制卷挂载到 {target}",
        "主机的目录在下面，只读；改动进入一个层，直到你应用它们",
        "容器会不经同意就直接写入主机的目录",
    )
    advice: ClassVar[Mapping[int, str]] = {
        **TARGET_ADVICE,
        errno.EACCES: "check that the path may be entered and read by this user",
        errno.EINVAL: "a file system is mounted in it that this user may not leave out, or overlayfs does not support "
        "its file system: mount it with :ro, or mount a subdirectory",
        STALE: "it is not the one that was checked: run the cell again",
        CHANGED: CHANGED_ADVICE,
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return in a phrase what the step does with these arguments."""
        earlier = f" and {counted(len(arguments['lowers']), 'layer')} of changes" if arguments["lowers"] else ""
        places = f"{quoted(arguments['source'])}{earlier} at {quoted(arguments['target'])}"
        return f"mount the directory {places}, with a writable layer on top"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount the overlay on the stage and move it to its target. The directory below has no other place left."""
        below, place = f"{STAGE}/below-{self.number}", f"{STAGE}/changes-{self.number}"
        for path in (below, place):
            kernel.mkdir(path, 0o755)
        self._show(kernel, files, below)
        lowers = (*self.lowers, f"../{below}")
        self._match(kernel, lowers[0])
        MountOverlay(lowers, self.upper, self.work).mount_at(kernel, place)
        kernel.umount2(below, MNT_DETACH)
        kernel.mount_setattr(AT_FDCWD, place, 0, attr_set=_FIXED | (MOUNT_ATTR_NOEXEC if self.noexec else 0))
        target = mount_point(kernel, self.target, directory=True)
        kernel.move_mount(AT_FDCWD, place, target, "", MOVE_MOUNT_T_EMPTY_PATH)
        kernel.close(target)

    def _show(self, kernel: Kernel, files: Sequence[int], place: str) -> None:
        """Attach the host's directory to the stage, read-only."""
        if self.tree is None:
            tree = clone_tree(kernel, self.source, (self.device, self.inode), recursive=False)
        else:
            tree = files[self.tree]
        attributes = _FIXED | MOUNT_ATTR_RDONLY
        kernel.mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=attributes, propagation=MS_PRIVATE)
        kernel.move_mount(tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH)
        if self.tree is None:
            kernel.close(tree)

    def _match(self, kernel: Kernel, model: str) -> None:
        """Give the upper directory the owner and the mode of the topmost one below: the merged root takes them.

        An owner that has no id in the container stays what it is: the container's root.
        """
        facts = kernel.stat(os.path.normpath(f"{LAYERS}/{model}"))
        upper = os.path.normpath(f"{LAYERS}/{self.upper}")
        with contextlib.suppress(OSError):
            kernel.chown(upper, facts.st_uid, facts.st_gid)
        kernel.chmod(upper, stat.S_IMODE(facts.st_mode) & 0o1777)
