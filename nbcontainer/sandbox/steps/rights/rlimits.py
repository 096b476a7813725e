"""Steps for what a container may use, and for what the kernel does with it if the host's memory is used up."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.process import PR_SET_DUMPABLE
from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, PROCESSES
from nbcontainer.sandbox.steps.base import Chinese, Step, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis, Machine


@dataclass(frozen=True)
class SetLimits(Step):
    """Limits of each process, as (name, soft, hard). None of them is more than the notebook itself has.

    Open files are half as many: the kernel lets a process send descriptors while its limit on open files is higher than
    the number of those on their way, in all sockets of the user (unix(7)). The launcher is the user of its containers.
    Where a user's processes are counted on the whole machine, those in containers cannot be limited by their number.
    """

    limits: tuple[tuple[str, int, int], ...] = DEFAULT_LIMITS

    phrase: ClassVar[str] = "set the limits of its processes"
    why: ClassVar[str] = "the container's processes have the usual limits, whatever the notebook was started with"
    risk: ClassVar[str] = "one process could use up the files, memory locks or core dumps that the notebook may use"
    chinese: ClassVar[Chinese] = Chinese(
        "设置每个进程的资源限制",
        "不管笔记本是怎样启动的，容器的进程都有通常的限制",
        "一个进程可以用尽笔记本能用的资源",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        limits = (f"{name} {_shown(soft)} (at most {_shown(hard)})" for name, soft, hard in arguments["limits"])
        return f"limit each process: {listed(limits)}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setrlimit(2)."""
        for name, soft, hard in self.limits:
            if name == PROCESSES and not kernel.counts_by_namespace():
                continue
            number = getattr(resource, f"RLIMIT_{name.upper()}")
            _, most = kernel.getrlimit(number)
            if number == resource.RLIMIT_NOFILE and most != resource.RLIM_INFINITY:
                most //= 2
            kernel.setrlimit(number, (_lower(soft, most), _lower(hard, most)))


def _lower(first: int, second: int) -> int:
    """Return the lower of two limits."""
    return min((first, second), key=lambda limit: (limit == resource.RLIM_INFINITY, limit))


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


_OOM_SCORE_ADJ = "/proc/self/oom_score_adj"


def _oom_advice(machine: Machine, _: int) -> str:
    own = machine.read("self/oom_score_adj") or "0"
    return f"write {own} (the notebook's value) or more: less requires --userns=host and the capability SYS_RESOURCE"


@dataclass(frozen=True)
class AdjustOomScore(Step):
    """How early the kernel ends init, and all that it starts, if the host's memory is used up (-1000 to 1000).

    Only a process with CAP_SYS_RESOURCE outside of all user namespaces may go below the value that the notebook was
    started with (proc_pid_oom_score_adj(5)).
    """

    value: int

    phrase: ClassVar[str] = "set the OOM score adjustment"
    why: ClassVar[str] = "if the host's memory is used up, the kernel ends the cell before or after other processes"
    risk: ClassVar[str] = "nothing; the kernel would treat the cell like the notebook"
    chinese: ClassVar[Chinese] = Chinese(
        "把 OOM 分数调整值设为 {value}",
        "主机内存用尽时，内核先于或晚于其他进程结束单元格",
        "没有危险，但内核会像对待笔记本一样对待单元格",
    )
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EACCES: _oom_advice, errno.EPERM: _oom_advice}
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"set the OOM score adjustment to {arguments['value']}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write it to the file of init, from which the cell inherits it.

        Init owns the file only while it is dumpable (proc(5)). No process of the container exists yet.
        """
        kernel.prctl(PR_SET_DUMPABLE, 1)
        try:
            file = kernel.open(_OOM_SCORE_ADJ, os.O_WRONLY | os.O_CLOEXEC)
        finally:
            kernel.prctl(PR_SET_DUMPABLE, 0)
        try:
            kernel.write(file, str(self.value).encode())
        finally:
            kernel.close(file)
