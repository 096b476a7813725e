"""The step that shows the tools of another image in the container's /dev."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import MS_NODEV, MS_NOSUID, MS_RDONLY
from nbcontainer.sandbox.steps.base import Chinese, Step, counted
from nbcontainer.sandbox.steps.exchange.display import EXCHANGE
from nbcontainer.sandbox.steps.overlay import escaped
from nbcontainer.sandbox.steps.rootfs import BELOW, LAYERS, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

TOOLBOX = f"{EXCHANGE}/toolbox"
"""Container path of the tools. /dev is memory, so that the mount point is in no layer."""


@dataclass(frozen=True)
class MountToolbox(Step):
    """The tools: an overlay of `layers` (paths below the store's `layers`, the topmost first) at `TOOLBOX`.

    An overlay without an upper directory stays read-only even for a container that may mount (overlayfs.rst). A bind
    mount of the layer could be made writable.
    """

    layers: tuple[str, ...]

    phrase: ClassVar[str] = "mount the toolbox"
    why: ClassVar[str] = "an image without a shell gets one, and its layers stay as they are"
    risk: ClassVar[str] = "nothing; by a mount that can be written, it could change the tools of other containers"
    chinese: ClassVar[Chinese] = Chinese(
        "挂载工具箱",
        "没有 shell 的镜像也能得到一个 shell，镜像的层保持不变",
        "没有危险，但如果这个挂载可以写入，容器就能改动其他容器的工具",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.ENOENT: "the image busybox was removed: run the cell again",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return a description of the step with these arguments."""
        return f"mount {counted(len(arguments['layers']), 'layer')} of busybox at {TOOLBOX}, read-only"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount them in the root's /dev."""
        kernel.mkdir(ROOT + TOOLBOX, 0o755)
        kernel.chdir(LAYERS)
        lowers = ":".join((*map(escaped, self.layers), f"../{BELOW}"))
        flags = MS_NODEV | MS_NOSUID | MS_RDONLY
        data = f"lowerdir={lowers},userxattr,index=off,metacopy=off"
        kernel.mount("overlay", f"../{ROOT}{TOOLBOX}", "overlay", flags, data)
        kernel.chdir("..")
