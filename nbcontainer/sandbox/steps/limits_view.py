"""The step that shows a container the limits of its own control groups, where programs look for them (cgroups(7))."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
)
from nbcontainer.linux.namespaces import CLONE_NEWCGROUP
from nbcontainer.sandbox.steps.base import Chinese, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel

PLACE = "/sys/fs/cgroup"
_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC


@dataclass(frozen=True)
class ShowLimits(Step):
    """The container's own control groups at /sys/fs/cgroup, read-only: of version 2, or each one of version 1.

    Init is in the groups by now, whose names begin with `prefix`. A hierarchy in which it has no group of its own is
    not shown: its root could be the host's. A new cgroup namespace makes each group the root of what is seen, so that
    no name of the host's is in /proc/self/mountinfo.
    """

    prefix: str

    phrase: ClassVar[str] = "show the container's limits"
    why: ClassVar[str] = "Java and others choose their memory and threads by the limits in /sys/fs/cgroup"
    risk: ClassVar[str] = "nothing; Java and others would take more memory than they may use, and be killed"
    chinese: ClassVar[Chinese] = Chinese(
        "显示容器的资源限制",
        "Java 等程序根据 /sys/fs/cgroup 中的限制选择内存和线程数",
        "没有危险，但 Java 等程序会用超出限制的内存，然后被杀死",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """unshare(2) and mount(2). Where an outer container refuses that, the limits hold and are not shown."""
        groups = own_groups(kernel.read_text("/proc/self/cgroup"), self.prefix)
        with contextlib.suppress(PermissionError):
            kernel.unshare(CLONE_NEWCGROUP)
            legacy = [names for names in groups if names]
            if legacy:
                self._show_legacy(kernel, legacy)
            elif groups:
                kernel.mount("cgroup2", PLACE, "cgroup2", _FLAGS, None)
            if groups:
                kernel.mount_setattr(AT_FDCWD, PLACE, AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY)

    def _show_legacy(self, kernel: Kernel, hierarchies: Sequence[str]) -> None:
        kernel.mount("tmpfs", PLACE, "tmpfs", _FLAGS, "mode=755,size=64k")
        for names in hierarchies:
            kernel.mkdir(f"{PLACE}/{names}", 0o755)
            kernel.mount("cgroup", f"{PLACE}/{names}", "cgroup", _FLAGS, names)
            for name in names.split(",") if "," in names else ():
                kernel.symlink(names, f"{PLACE}/{name}")


def own_groups(text: str, prefix: str) -> list[str]:
    """Return the hierarchies in which a process has a group named `prefix`…, by its /proc/PID/cgroup.

    Each is its controllers, as in `cpu,cpuacct`; empty for version 2.
    """
    fields = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    return [names for _, names, path in fields if path.rpartition("/")[2].startswith(prefix)]
