"""Steps that make /proc, /dev and /sys, on the stage and so ahead of time.

What is in them follows the OCI runtime specification (config-linux.md, "Default Filesystems" and "Default Devices")
and Docker's default masked and read-only paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted
from nbcontainer.sandbox.steps.network import AllowPing
from nbcontainer.sandbox.steps.proc import CoverProcesses, MountProc
from nbcontainer.sandbox.steps.rootfs import STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
"""The devices every container has, with their numbers (Documentation/admin-guide/devices.txt)."""

_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}

SCRIPT = "/dev/cell"
"""Container path of the cell's body. /dev is the container's own tmpfs, so that no image and no volume can be in
the way, and it is in no layer and no commit."""

MASKED = (
    "proc/acpi",
    "proc/asound",
    "proc/dynamic_debug",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/system/cpu/cpu*/thermal_throttle",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/fs/selinux",
)
READ_ONLY = ("proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger")


@dataclass(frozen=True)
class MountSys(Step):
    """/sys, read-only. With the host's network it is the host's: the kernel binds a sysfs to its network namespace.

    It is the host's too where the kernel refuses a new one, since parts of the host's are covered or it has none.
    """

    host_network: bool = False

    phrase: ClassVar[str] = "mount /sys"
    why: ClassVar[str] = "programs look at the hardware here; none may change it"
    risk: ClassVar[str] = "it could change settings of the host's hardware"
    chinese: ClassVar[Chinese] = Chinese(
        "以只读方式挂载 /sys",
        "程序在这里查看硬件，但谁也不能修改",
        "容器可以修改主机硬件的设置",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        source = "the host's /sys" if arguments["host_network"] else "a new /sys"
        return f"mount {source}, read-only"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it on the stage."""
        target = f"{STAGE}/sys"
        if not self.host_network:
            with contextlib.suppress(PermissionError):
                kernel.mount("sysfs", target, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, None)
                return
        kernel.mount("/sys", target, None, MS_BIND | MS_REC, None)
        attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        # Without propagation: what the host mounts in its own later would be writable here.
        kernel.mount_setattr(AT_FDCWD, target, AT_RECURSIVE, attr_set=attributes, propagation=MS_PRIVATE)


@dataclass(frozen=True)
class MountDev(Step):
    """An empty /dev. 0755, or programs that drop privileges cannot look into it."""

    phrase: ClassVar[str] = "mount /dev"
    why: ClassVar[str] = "only the devices that are put there"
    risk: ClassVar[str] = "it would find the host's devices, disks among them"
    chinese: ClassVar[Chinese] = Chinese(
        "挂载一个空的 /dev",
        "里面只有放进去的设备",
        "容器会看到主机的设备，包括磁盘",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount a tmpfs on the stage, with the usual links."""
        kernel.mount("tmpfs", f"{STAGE}/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k")
        for name, target in _LINKS.items():
            kernel.symlink(target, f"{STAGE}/dev/{name}")


@dataclass(frozen=True)
class BindDevice(Step):
    """One device of the host's, checked to be the device it is named after.

    Read-only is the file, not the device: it can be written to, and keeps its mode and owner, which are the host's.
    """

    name: str
    major: int
    minor: int

    phrase: ClassVar[str] = "bind a device"
    why: ClassVar[str] = "every program expects it; a user namespace cannot make device nodes, so it is bound"
    risk: ClassVar[str] = (
        "nothing; programs would not find the device. The check of its number keeps a planted file out"
    )
    chinese: ClassVar[Chinese] = Chinese(
        "绑定主机的设备 /dev/{name}",
        "每个程序都需要它；用户命名空间不能创建设备文件，所以用绑定",
        "没有危险，但程序会找不到这个设备；检查设备号可以防止被调换",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.ENODEV: "the machine's own /dev is not what it should be: mount devtmpfs there",
        errno.ENOENT: "the machine's own /dev is not what it should be: mount devtmpfs there",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"bind the host's device {quoted('/dev/' + arguments['name'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Bind it on the stage. Raises `OSError` (ENODEV) where the host's file is another device, or none."""
        source, target = f"/dev/{self.name}", f"{STAGE}/dev/{self.name}"
        found = kernel.stat(source, follow_symlinks=False)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(self.major, self.minor):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), source)
        kernel.close(kernel.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        kernel.mount(source, target, None, MS_BIND, None)
        kernel.mount_setattr(AT_FDCWD, target, 0, attr_set=MOUNT_ATTR_RDONLY)


@dataclass(frozen=True)
class MountDevDirectory(Step):
    """A file system below /dev: pts (terminals), shm (shared memory) or mqueue (message queues)."""

    name: str
    fstype: str
    options: str
    noexec: bool = True

    phrase: ClassVar[str] = "mount a part of /dev"
    why: ClassVar[str] = "the container's own, apart from the host's"
    risk: ClassVar[str] = "it would share terminals, shared memory or message queues with the host"
    chinese: ClassVar[Chinese] = Chinese(
        "在 /dev/{name} 挂载 {fstype}",
        "这是容器自己的，与主机分开",
        "容器会与主机共用终端、共享内存或消息队列",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"mount {quoted('/dev/' + arguments['name'])} as {arguments['fstype']!r}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount it on the stage."""
        target = f"{STAGE}/dev/{self.name}"
        kernel.mkdir(target, 0o755)
        flags = MS_NOSUID | MS_NOEXEC | (0 if self.fstype == "devpts" else MS_NODEV)
        kernel.mount(self.fstype, target, self.fstype, flags, self.options)


@dataclass(frozen=True)
class ReserveScript(Step):
    """An empty file for the cell's body, which comes when nothing can be made in /dev any more but by its owner."""

    phrase: ClassVar[str] = "reserve a file for the cell's body"
    why: ClassVar[str] = "a warm container has the file before the cell's body arrives"
    risk: ClassVar[str] = "nothing; the cell's body would have no place"
    chinese: ClassVar[Chinese] = Chinese(
        "为单元格的正文创建一个空文件",
        "在单元格到来之前，预热容器就有了存放正文的文件",
        "没有危险，但单元格的正文就没有地方放",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"make an empty file at {SCRIPT} for the cell's body"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make it on the stage, executable: the kernel reads the body's `#!` line."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        kernel.close(kernel.open(STAGE + SCRIPT, flags, 0o755))


@dataclass(frozen=True)
class LinkStreams(Step):
    """Links in /proc/1/fd to the streams of the cell's program.

    Init is closed to the container and has no streams. A link opens what is the cell's own, by the rules for
    its process; the directory is the container's, read-only, and leads to nothing of init.
    `program` is the number of that process.
    """

    program: int = 2

    phrase: ClassVar[str] = "link /proc/1/fd to the cell's streams"
    why: ClassVar[str] = "images write their logs to /proc/1/fd/1, as their program is process 1 elsewhere"
    risk: ClassVar[str] = "nothing; images that write their logs there would fail"
    chinese: ClassVar[Chinese] = Chinese(
        "把 /proc/1/fd 指向单元格的输入输出",
        "很多镜像把日志写到 /proc/1/fd/1",
        "没有危险，但把日志写到那里的镜像会失败",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Mount a tmpfs over it on the stage, with three links, and make it read-only."""
        target = f"{STAGE}/proc/1/fd"
        flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
        kernel.mount("tmpfs", target, "tmpfs", flags, "mode=555,size=4k,nr_inodes=4")
        for number in (0, 1, 2):
            kernel.symlink(f"/proc/{self.program}/fd/{number}", f"{target}/{number}")
        kernel.mount_setattr(AT_FDCWD, target, 0, attr_set=MOUNT_ATTR_RDONLY)


@dataclass(frozen=True)
class MaskPaths(Step):
    """Hides parts of /proc and /sys that show facts of, or reach into, the host. Missing ones are left out.

    A `*` is the rest of a name, as in cpu*.
    """

    paths: tuple[str, ...]

    phrase: ClassVar[str] = "hide a part of /proc or /sys"
    why: ClassVar[str] = "they show facts of the host, which the container does not need"
    risk: ClassVar[str] = "it could read facts about the host, for example its keys and its firmware"
    chinese: ClassVar[Chinese] = Chinese(
        "隐藏：{paths}",
        "这些文件透露主机的信息，或者能影响主机",
        "容器可以读到主机的信息，例如密钥列表和固件",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"hide: {listed('/' + path for path in arguments['paths'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Put the staged null device over each file and one empty, read-only tmpfs over each directory."""
        empty = ""
        for target in self._targets(kernel):
            try:
                found = kernel.stat(target)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(found.st_mode):
                kernel.mount(f"{STAGE}/dev/null", target, None, MS_BIND, None)
            elif empty:
                kernel.mount(empty, target, None, MS_BIND, None)  # it keeps the flags of what it is bound from
            else:
                flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
                kernel.mount("tmpfs", target, "tmpfs", flags, "size=0k,nr_inodes=1")
                empty = target

    def _targets(self, kernel: Kernel) -> Iterator[str]:
        for path in self.paths:
            before, star, after = f"{STAGE}/{path}".partition("*")
            if not star:
                yield before
                continue
            folder, _, beginning = before.rpartition("/")
            with contextlib.suppress(FileNotFoundError):
                for name in sorted(kernel.listdir(folder)):
                    if name.startswith(beginning):
                        yield f"{folder}/{name}{after}"


@dataclass(frozen=True)
class ReadOnlyPaths(Step):
    """Parts of /proc that may be read and not written. What is not there is left out."""

    paths: tuple[str, ...]

    phrase: ClassVar[str] = "make a part of /proc read-only"
    why: ClassVar[str] = "a write there would change the kernel's settings"
    risk: ClassVar[str] = "root in the container could change settings of the kernel"
    chinese: ClassVar[Chinese] = Chinese(
        "设为只读：{paths}",
        "在那里写入会改变内核的设置",
        "容器里的 root 可以修改内核的设置",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"make read-only: {listed('/' + path for path in arguments['paths'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Bind each on itself, read-only."""
        for path in self.paths:
            target = f"{STAGE}/{path}"
            try:
                kernel.mount(target, target, None, MS_BIND | MS_REC, None)
            except FileNotFoundError:
                continue
            flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
            kernel.mount(None, target, None, flags, None)


def device_steps(
    *,
    host_network: bool,
    tty_group: int | None,
    shm_size: int,
    last_group: int = 0,
    program: int = 2,
    proc: ProcLevel = ProcLevel.OWN,
) -> tuple[Step, ...]:
    """The steps for /proc, /dev and /sys.

    `tty_group` is the group of terminals, None where it cannot be mapped, `last_group` the last group that may ping.
    `program` is the process number of the cell's program.
    """
    group = "" if tty_group is None else f",gid={tty_group}"
    outer = proc == ProcLevel.OUTER
    return (
        MountProc(proc.value),
        MountSys(host_network=host_network),
        MountDev(),
        *(BindDevice(name, *numbers) for name, numbers in DEVICES.items()),
        MountDevDirectory("pts", "devpts", f"newinstance,ptmxmode=0666,mode=0620{group}"),
        MountDevDirectory("shm", "tmpfs", f"mode=1777,size={shm_size}"),
        MountDevDirectory("mqueue", "mqueue", ""),
        ReserveScript(),
        # The outer /proc is read-only as a whole, and parts of it are locked (mount_namespaces(7)).
        *(() if outer else _settings_steps(host_network, last_group, program)),
        MaskPaths(MASKED),
        *((CoverProcesses(f"{STAGE}/proc"),) if outer else ()),
    )


def _settings_steps(host_network: bool, last_group: int, program: int) -> tuple[Step, ...]:
    """Return the steps that change a /proc of the container's own."""
    ping = () if host_network else (AllowPing(last_group),)
    return (LinkStreams(program), *ping, ReadOnlyPaths(READ_ONLY))
