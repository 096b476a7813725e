"""Steps that take power away, from init and from the cell's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.process import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, capability_mask
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.steps.base import Chinese, Step, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class DropBounding(Step):
    """Cuts the set that any later exec can gain from."""

    keep: tuple[str, ...] = DEFAULT_CAPABILITIES

    phrase: ClassVar[str] = "cut the bounding set of capabilities"
    why: ClassVar[str] = "no program of the container's, setuid or not, can gain more than these capabilities"
    risk: ClassVar[str] = "a setuid program of the image could gain capabilities that reach the kernel"
    chinese: ClassVar[Chinese] = Chinese(
        "限制以后的程序能获得的权能：{keep}",
        "容器里的任何程序，不管是不是 setuid，都不能获得更多权能",
        "镜像中的 setuid 程序可以获得能触及内核的权能",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"limit the capabilities that any later program can gain to: {listed(arguments['keep'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """PR_CAPBSET_DROP for each that is not kept, capabilities(7)."""
        kernel.drop_bounding(capability_mask(self.keep), kernel.last_capability())


@dataclass(frozen=True)
class HardenInit(Step):
    """Closes init to the cell, which may be the same user."""

    phrase: ClassVar[str] = "protect init from inspection"
    why: ClassVar[str] = "pid 1 is a program of the host, so no process of the container may inspect it"
    risk: ClassVar[str] = "it could inspect init, and find the host's interpreter there (CVE-2019-5736)"
    chinese: ClassVar[Chinese] = Chinese(
        "不让容器查看 init",
        "1 号进程是主机的程序，所以容器里的进程不能查看它",
        "容器可以查看 init，并由此找到主机的解释器（CVE-2019-5736）",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Not dumpable (so no ptrace and no /proc/1/exe, fd, root), no new privileges."""
        kernel.prctl(PR_SET_DUMPABLE, 0)
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class CloseInit(HardenInit):
    """Closes init to the cell, whose setuid programs work: in place of `HardenInit` and `NoNewPrivileges`."""

    phrase: ClassVar[str] = "close init to the container, and leave new privileges to setuid programs"
    why: ClassVar[str] = "pid 1 cannot be looked into; sudo and su give root's capabilities, and no others"
    chinese: ClassVar[Chinese] = Chinese(
        "不让容器查看 init，但 setuid 程序可以获得特权",
        "1 号进程不能被查看；sudo 和 su 只能给出容器中 root 的权能",
        "容器可以查看 init，并由此找到主机的解释器（CVE-2019-5736）",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Not dumpable. Init executes nothing, so that new privileges are of no use to it."""
        kernel.prctl(PR_SET_DUMPABLE, 0)


@dataclass(frozen=True)
class DropCapabilities(Step):
    """What the cell's process has: the kept set for root, nothing for another user; nothing to inherit."""

    keep: tuple[str, ...] = DEFAULT_CAPABILITIES

    phrase: ClassVar[str] = "drop the capabilities"
    why: ClassVar[str] = "root in the container can do what programs expect, not what reaches the kernel"
    risk: ClassVar[str] = "root in the container could mount, trace, load modules and change the network"
    chinese: ClassVar[Chinese] = Chinese(
        "root 只保留这些权能，其他用户没有权能：{keep}",
        "容器里的 root 能做程序所需的事，但触及不到内核",
        "容器里的 root 可以挂载、跟踪进程、加载模块和修改网络",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"keep these capabilities as root, and none as another user: {listed(arguments['keep'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """capset(2) with an empty inheritable set (CVE-2022-29162), the ambient set cleared."""
        mask = self.mask(kernel)
        kernel.clear_ambient()
        kernel.capset(mask, mask, 0)

    def mask(self, kernel: Kernel) -> int:
        """Return the set that this process may have, as a bit mask."""
        return capability_mask(self.keep) if kernel.getuid() == 0 else 0


@dataclass(frozen=True)
class NoNewPrivileges(Step):
    """Makes setuid files and file capabilities inert."""

    phrase: ClassVar[str] = "forbid new privileges"
    why: ClassVar[str] = "no exec gives more than the process has"
    risk: ClassVar[str] = "a setuid program in the image or in a volume could give it more privileges"
    chinese: ClassVar[Chinese] = Chinese(
        "禁止获得新的特权",
        "执行任何程序都不会得到比进程已有的更多的特权",
        "镜像或卷中的 setuid 程序可以让它得到更多特权",
    )
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """PR_SET_NO_NEW_PRIVS, prctl(2). It is for good, and inherited."""
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
