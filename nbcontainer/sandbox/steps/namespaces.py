"""Steps that separate a container from the host: namespaces, host name, keyring, session."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
)
from nbcontainer.sandbox.diagnosis import limits_advice, namespace_advice
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis

_NAMESPACES = {
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "cgroup": CLONE_NEWCGROUP,
    "net": CLONE_NEWNET,
}

OWN_USER = "user"
"""The name of a user namespace for init alone, below the launcher's, with the same ids."""


@dataclass(frozen=True)
class JoinNetwork(Step):
    """The network of another container of the same notebook, in place of its own (`--network container:NAME`).

    `source` is the number of the travelling descriptor of that network namespace, which that container's init opened
    before anything of the container ran.
    """

    source: int

    phrase: ClassVar[str] = "join the network of the other container"
    why: ClassVar[str] = "the cell reaches the programs of a job on 127.0.0.1"
    risk: ClassVar[str] = "nothing; it would not reach the other container"
    chinese: ClassVar[Chinese] = Chinese(
        "加入另一个容器的网络",
        "单元格通过 127.0.0.1 访问作业中的程序",
        "没有危险，但它访问不到另一个容器",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EPERM: "each container has a user namespace of its own here: run the command with `%container exec`",
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setns(2)."""
        kernel.setns(files[self.source], CLONE_NEWNET)


@dataclass(frozen=True)
class CloneInit(Step):
    """Init itself: the launcher clones into new namespaces, and the child is pid 1 of them.

    The user namespace is the launcher's, which it made when it started, unless `user` is one of the namespaces: then
    the launcher writes the maps of a new one. Applied by the launcher, not by init.
    """

    namespaces: tuple[str, ...] = tuple(_NAMESPACES)

    phrase: ClassVar[str] = "make namespaces"
    why: ClassVar[str] = "mounts, processes, host name, shared memory and network of its own"
    risk: ClassVar[str] = "it would see the host's mounts, processes and network, and could change them"
    chinese: ClassVar[Chinese] = Chinese(
        "在新的命名空间中启动 init：{namespaces}",
        "让容器有自己的挂载、进程、主机名、共享内存和网络",
        "容器会看到并能改动主机的挂载、进程和网络",
    )
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EPERM: namespace_advice, errno.ENOSPC: limits_advice}

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"start init in new namespaces: {listed(arguments['namespaces'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Clone and throw the pid away: for explaining. The launcher calls `flags`."""
        kernel.clone(self.flags())

    def flags(self) -> int:
        """The CLONE_NEW* flags of clone(2)."""
        flags = 0
        for name in self.namespaces:
            flags |= CLONE_NEWUSER if name == OWN_USER else _NAMESPACES[name]
        return flags


@dataclass(frozen=True)
class NewSessionKeyring(Step):
    """A session keyring of the container's own, empty (session-keyring(7))."""

    phrase: ClassVar[str] = "make a session keyring"
    why: ClassVar[str] = "the keys of the notebook's session (Kerberos, fscrypt) are not the container's"
    risk: ClassVar[str] = "it could read and use the keys of the notebook's session"
    chinese: ClassVar[Chinese] = Chinese(
        "新建一个空的会话密钥环",
        "笔记本会话中的密钥（Kerberos、fscrypt）不属于容器",
        "容器可以读取并使用笔记本会话中的密钥",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EDQUOT: "let users have more keys: sysctl -w kernel.keys.maxkeys=2000 (as root)",
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """keyctl(2). Where the kernel or an outer container has no keyrings for it, there are none to leave."""
        try:
            kernel.join_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise


@dataclass(frozen=True)
class SetHostname(Step):
    """The container's host name. A filter of what the notebook runs in, as podman's, may refuse it: then it stays."""

    name: str

    phrase: ClassVar[str] = "set the host name"
    why: ClassVar[str] = "the container has a name of its own"
    risk: ClassVar[str] = "nothing; programs would see the host's name"
    chinese: ClassVar[Chinese] = Chinese(
        "把主机名设为 {name}",
        "容器有自己的名字",
        "没有危险，但程序会看到主机的名字",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"set the host name to {quoted(arguments['name'])}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """sethostname(2), in the uts namespace."""
        with contextlib.suppress(PermissionError):
            kernel.sethostname(self.name)


@dataclass(frozen=True)
class NewSession(Step):
    """A session of the cell's own, without a controlling terminal."""

    phrase: ClassVar[str] = "begin a session"
    why: ClassVar[str] = "it cannot push characters into the notebook's terminal, and is signalled as one group"
    risk: ClassVar[str] = "it could push characters into the notebook's terminal"
    chinese: ClassVar[Chinese] = Chinese(
        "开始一个新的会话",
        "单元格不能向笔记本的终端输入字符，并且能作为一个整体接收信号",
        "容器可以向笔记本的终端输入字符",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setsid(2), and the usual file mode mask."""
        kernel.setsid()
        kernel.umask(0o022)
