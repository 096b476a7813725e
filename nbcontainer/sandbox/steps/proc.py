"""Steps that mount /proc, by what the kernel allows where the notebook runs (`ProcLevel`).

The kernel mounts a new /proc in a user namespace only if no part of the outer one is covered (mount_too_revealing in
fs/namespace.c). Docker, podman and Kubernetes cover parts of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
)
from nbcontainer.sandbox.diagnosis import namespace_advice, proc_advice
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted
from nbcontainer.sandbox.steps.rootfs import STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis

_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC

_DESCRIPTIONS = {
    ProcLevel.OWN: "mount a new /proc",
    ProcLevel.NOTEBOOK: "attach a new /proc that the notebook mounted",
    ProcLevel.PROCESSES: "mount a new /proc that shows processes only",
    ProcLevel.OUTER: "bind the notebook's /proc, read-only",
}


LIMITS = {
    ProcLevel.NOTEBOOK: "parts of the outer /proc are covered, so the notebook mounts the container's",
    ProcLevel.PROCESSES: "it has no files about the machine: free, uptime, node's processor count and java's limits "
    "do not work",
    ProcLevel.OUTER: "ps, pkill and psutil do not work, and a cell sees processes that start outside after it",
}
"""What a user must expect of a level other than `ProcLevel.OWN`."""


@dataclass(frozen=True)
class MountProc(Step):
    """A /proc for the container's pid namespace. `level` is a value of `ProcLevel`."""

    level: str = ProcLevel.OWN.value

    phrase: ClassVar[str] = "mount /proc"
    why: ClassVar[str] = "the container sees its own processes and no others"
    risk: ClassVar[str] = "it would see the host's processes, their command lines and environments"
    chinese: ClassVar[Chinese] = Chinese(
        "挂载 /proc（方式：{level}）",
        "容器只看到自己的进程",
        "容器会看到主机的进程、它们的命令行和环境变量",
    )
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EPERM: proc_advice, errno.EACCES: namespace_advice}

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return, as text, what the step does with these arguments; the name of any level but the first comes last."""
        level = arguments["level"]
        text = _DESCRIPTIONS.get(level, cls.phrase)
        return text if level == ProcLevel.OWN else f"{text} ({listed([level])})"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it on the stage. For `ProcLevel.NOTEBOOK`, the last of `files` is the detached mount.

        Raises `OSError`, with EPERM if the notebook has sent no mount.
        """
        target = f"{STAGE}/proc"
        if self.level == ProcLevel.OUTER:
            _bind_outer(kernel, target)
        elif self.level == ProcLevel.NOTEBOOK:
            if not files:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "/proc")
            kernel.move_mount(files[-1], "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)
        else:
            data = "subset=pid" if self.level == ProcLevel.PROCESSES else None
            kernel.mount("proc", target, "proc", _FLAGS, data)


def _bind_outer(kernel: Kernel, target: str) -> None:
    """Bind the outer /proc with all that covers it: only a recursive bind is allowed (mount_namespaces(7))."""
    kernel.mount("/proc", target, None, MS_BIND | MS_REC, None)
    # Without it, a process of the same uid outside could be changed here: oom_score_adj asks for no ptrace right.
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    # Without propagation: what is mounted there later would be writable here.
    kernel.mount_setattr(AT_FDCWD, target, AT_RECURSIVE, attr_set=attributes, propagation=MS_PRIVATE)


@dataclass(frozen=True)
class CoverProcesses(Step):
    """Covers each process of an outer /proc, except for init, with an empty directory.

    `place` is that /proc, as init sees it. A cover ends with its process, so that the number can be used again. A
    process that starts later is not covered.
    """

    place: str

    phrase: ClassVar[str] = "cover the processes of the outer /proc"
    why: ClassVar[str] = "the container does not see the processes that run outside"
    risk: ClassVar[str] = "it would see the processes that run outside, with their command lines and environments"
    chinese: ClassVar[Chinese] = Chinese(
        "遮住 {place} 中外部的进程",
        "容器看不到在外部运行的进程",
        "容器会看到外部的进程、它们的命令行和环境变量",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return, as text, what the step does with these arguments."""
        return f"cover the processes that run outside in {quoted(arguments['place'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount one empty, read-only tmpfs over each process and each thread that is not covered yet."""
        empty = ""
        for target in _outside(kernel, self.place):
            if not (empty and _bind(kernel, empty, target)) and _mount_empty(kernel, target):
                empty = target


def _bind(kernel: Kernel, empty: str, target: str) -> bool:
    """Cover `target` with the directory `empty`; return False if either process has ended."""
    with contextlib.suppress(FileNotFoundError):
        kernel.mount(empty, target, None, MS_BIND, None)  # it keeps the flags of what it is bound from
        return True
    return False


def _mount_empty(kernel: Kernel, target: str) -> bool:
    """Cover `target` with a new empty file system; return False if its process has ended."""
    with contextlib.suppress(FileNotFoundError):
        kernel.mount("tmpfs", target, "tmpfs", _FLAGS | MS_RDONLY, "size=0k,nr_inodes=1")
        return True
    return False


def _outside(kernel: Kernel, place: str) -> Iterator[str]:
    """Yield the directories of processes in `place` that are not init's and not covered, and those of their threads.

    A thread's directory can be entered by its number, though it is not listed (proc_pid(5)).
    """
    own = kernel.readlink("/proc/self")
    device = kernel.stat(place).st_dev
    for name in kernel.listdir(place):
        target = f"{place}/{name}"
        if not name.isdigit() or name == own:
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if kernel.stat(target).st_dev != device:
                continue
            for thread in kernel.listdir(f"{target}/task"):
                if thread != name:
                    yield f"{place}/{thread}"
            yield target
