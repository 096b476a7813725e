"""The step for `/in` and `/out`: memory that the notebook has descriptors of, for the values of a cell."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
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
from nbcontainer.sandbox.steps.base import Chinese, Step, listed
from nbcontainer.sandbox.steps.rootfs import STAGE
from nbcontainer.sandbox.steps.volumes import TARGET_ADVICE, mount_point

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

INPUT = "/in"
"""Container path of the values that the notebook passes in."""

OUTPUT = "/out"
"""Container path of the values that the cell passes out."""


@dataclass(frozen=True)
class MountValues(Step):
    """`/in` with empty files of these names, read-only, and with `output`, an empty `/out` that every user may write.

    Both are in memory, in no layer and no commit. `size` is the most bytes of `/out`; None for half of the machine's
    memory (tmpfs(5)). After the step, `open_values` returns descriptors for the notebook.
    """

    inputs: tuple[str, ...] = ()
    output: bool = False
    size: int | None = None

    phrase: ClassVar[str] = "make the directories of the cell's values"
    why: ClassVar[str] = "values travel between the notebook and the cell without a directory of the host"
    risk: ClassVar[str] = "nothing; values would need a directory of the host"
    chinese: ClassVar[Chinese] = Chinese(
        "创建存放单元格变量的目录",
        "变量在笔记本和单元格之间传递，不需要主机的目录",
        "没有危险，但传递变量就需要主机的目录",
    )
    advice: ClassVar[Mapping[int, str]] = TARGET_ADVICE

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        size = "" if arguments["size"] is None else f" of at most {arguments['size']} bytes"
        output = f"; an empty {OUTPUT}{size}" if arguments["output"] else ""
        return f"make a read-only {INPUT} with: {listed(arguments['inputs'])}{output}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount both on the stage, and attach them in the root: `/in` as a second mount that is read-only."""
        self._mount(kernel, INPUT, "mode=755")
        tree = kernel.open_tree(AT_FDCWD, STAGE + INPUT, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        kernel.mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=attributes)
        _attach(kernel, tree, INPUT)
        if self.output:
            self._mount(kernel, OUTPUT, "mode=1777" + ("" if self.size is None else f",size={self.size}"))
            tree = kernel.open_tree(AT_FDCWD, STAGE + OUTPUT, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
            _attach(kernel, tree, OUTPUT)

    def _mount(self, kernel: Kernel, name: str, options: str) -> None:
        with contextlib.suppress(FileExistsError):
            kernel.mkdir(STAGE + name, 0o755)
        kernel.mount("tmpfs", STAGE + name, "tmpfs", MS_NOSUID | MS_NODEV, options)

    def open_values(self, kernel: Kernel) -> list[int]:
        """Return descriptors of the empty files of `/in`, in order, then one of `/out`; the caller closes them."""
        found: list[int] = []
        try:
            for name in self.inputs:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                found.append(kernel.open(f"{STAGE}{INPUT}/{name}", flags, 0o644))
            if self.output:
                found.append(kernel.open(STAGE + OUTPUT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except BaseException:
            for fd in found:
                kernel.close(fd)
            raise
        return found


def _attach(kernel: Kernel, tree: int, path: str) -> None:
    target = mount_point(kernel, path, directory=True)
    kernel.move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    kernel.close(target)
    kernel.close(tree)
