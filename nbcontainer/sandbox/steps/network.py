"""Steps that give a container its network: loopback, an address, /etc/resolv.conf, /etc/hosts and ping."""

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
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted
from nbcontainer.sandbox.steps.rootfs import LAYERS, STAGE, make_target, open_in_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class AddAddress(Step):
    """An interface's IPv6 address in a network of 64 bits, and the gateway there to everything else.

    It is applied in the container's network namespace alone, and in no plan: `Launcher.configure`. slirp4netns(1) has
    a container wait for a router's advertisement (RFC 4861), which comes some seconds after its cell has begun: a
    router is asked a second after the link's own address is known to be free (RFC 4862). pasta gives the address.
    """

    interface: str
    address: str
    gateway: str

    phrase: ClassVar[str] = "give the container an IPv6 address"
    why: ClassVar[str] = "a cell can use IPv6 from its start"
    risk: ClassVar[str] = "nothing; the first seconds of a cell would have no IPv6"
    chinese: ClassVar[Chinese] = Chinese(
        "给接口 {interface} 设置 IPv6 地址 {address}",
        "单元格从一开始就能通过 IPv6 连接",
        "没有危险，但最初几秒没有 IPv6",
    )
    advice: ClassVar[Mapping[int, str]] = {
        errno.EACCES: "let new interfaces have IPv6: boot without ipv6.disable_ipv6=1 (as root)"
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        interface, address, gateway = (quoted(arguments[name]) for name in ("interface", "address", "gateway"))
        return f"give the interface {interface} the IPv6 address {address} and the gateway {gateway}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """RTM_NEWADDR and RTM_NEWROUTE (rtnetlink(7)), and no other by an advertisement (accept_ra, ip-sysctl.rst)."""
        kernel.add_ipv6(self.interface, self.address, self.gateway)
        with contextlib.suppress(
            OSError
        ):  # in an outer container, no process may write that: a second one does no harm
            setting = kernel.open(f"/proc/sys/net/ipv6/conf/{self.interface}/accept_ra", os.O_WRONLY | os.O_CLOEXEC)
            try:
                kernel.write(setting, b"0")
            finally:
                kernel.close(setting)


@dataclass(frozen=True)
class RaiseLoopback(Step):
    """Sets `lo` up in the container's network."""

    phrase: ClassVar[str] = "set the loopback interface up"
    why: ClassVar[str] = "programs talk to themselves on 127.0.0.1"
    risk: ClassVar[str] = "nothing; programs could not reach themselves on 127.0.0.1"
    chinese: ClassVar[Chinese] = Chinese(
        "启用环回接口 lo",
        "程序通过 127.0.0.1 与自己通信",
        "没有危险，但程序不能通过 127.0.0.1 与自己通信",
    )

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """SIOCSIFFLAGS, netdevice(7)."""
        kernel.raise_interface("lo")


RESOLVER = "/etc/resolv.conf"
"""The file of the resolver (container path), which a container with a network has of its own."""


@dataclass(frozen=True)
class BindResolver(Step):
    """The host's /etc/resolv.conf, read-only, for a container in the host's network."""

    phrase: ClassVar[str] = "bind the host's resolv.conf"
    why: ClassVar[str] = "names resolve as they do on the host"
    risk: ClassVar[str] = "nothing; names would not resolve. Read-only protects the host's file"
    chinese: ClassVar[Chinese] = Chinese(
        "以只读方式绑定主机的 resolv.conf",
        "名字的解析和主机上一样",
        "没有危险，但名字不能解析；只读保护主机的文件",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"bind the host's {RESOLVER}, read-only"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Bind what the host's link, if it is one, points to; a host without one is left alone."""
        try:
            tree = kernel.open_tree(AT_FDCWD, RESOLVER, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
        except FileNotFoundError:
            return
        _attach_file(kernel, tree, RESOLVER)


@dataclass(frozen=True)
class MakeResolver(Step):
    """An /etc/resolv.conf of the container's own, read-only, for a container in a private network."""

    text: str

    phrase: ClassVar[str] = "make the container's resolv.conf"
    why: ClassVar[str] = "names are resolved by the name server of the container's network"
    risk: ClassVar[str] = "nothing; names would not resolve"
    chinese: ClassVar[Chinese] = Chinese(
        "写入容器自己的 resolv.conf",
        "由容器网络中的域名服务器解析名字",
        "没有危险，但名字不能解析",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"write the container's own {RESOLVER}, read-only"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write it on the stage, and mount it over the image's."""
        name = f"{STAGE}/resolv.conf"
        file = kernel.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        kernel.write(file, self.text.encode())
        kernel.close(file)
        _attach_file(kernel, kernel.open_tree(AT_FDCWD, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), RESOLVER)


_HOSTS = "/etc/hosts"
_HOSTS_LIMIT = 1 << 20  # bytes of the host's file


NAMES = f"{STAGE}/names"
"""A lower of the container's own, above all layers, with its /etc/hosts."""

_STAGED_HOSTS = f"{NAMES}/etc/hosts"


@dataclass(frozen=True)
class StageHosts(Step):
    """A lower, above all others, with an empty /etc/hosts, which `MakeHosts` writes later.

    A file that is mounted there instead could not be removed, and neither could /etc. `etcs` are the directories that
    it covers, by their paths from the store's `layers`, the topmost first: the first that exists gives it the owner and
    the mode. If that is a file, a link or a deletion, the container has no hosts file.
    """

    etcs: tuple[str, ...]

    phrase: ClassVar[str] = "stage the container's hosts file"
    why: ClassVar[str] = "the hosts file is in no layer, and the cell can still remove or replace /etc"
    risk: ClassVar[str] = "nothing; the hosts file would be in a layer, or could not be removed"
    chinese: ClassVar[Chinese] = Chinese(
        "准备容器的 hosts 文件",
        "hosts 文件不在任何层里，单元格仍然可以删除或替换 /etc",
        "没有危险，但 hosts 文件会进入层，或者不能删除",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"make a lower with {_HOSTS} in memory, above the image's layers"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make the directories and the file."""
        kernel.mkdir(NAMES, 0o755)
        fill_names(kernel, NAMES, self.etcs)


def fill_names(kernel: Kernel, place: str, etcs: tuple[str, ...]) -> None:
    """Make an empty etc/hosts in the directory `place`, as `StageHosts` has it."""
    found = _first_etc(kernel, etcs)
    if found is None:
        return
    kernel.mkdir(f"{place}/etc", 0o755)
    if (found.st_uid, found.st_gid) != (0, 0):
        kernel.chown(f"{place}/etc", found.st_uid, found.st_gid)
    if (mode := stat.S_IMODE(found.st_mode)) != 0o755:
        kernel.chmod(f"{place}/etc", mode)
    kernel.close(kernel.open(f"{place}/etc/hosts", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _first_etc(kernel: Kernel, etcs: tuple[str, ...]) -> os.stat_result | None:
    """Return what the container's /etc is in the layers; None if it is not a directory."""
    for etc in etcs:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found = kernel.stat(f"{LAYERS}/{etc}", follow_symlinks=False)
            return found if stat.S_ISDIR(found.st_mode) else None
    return None


@dataclass(frozen=True)
class MakeHosts(Step):
    """An /etc/hosts of the container's own, read-only: `localhost`, its own name, and `hosts` (name, address).

    An image in which no file can be mounted there, since its /etc is a file for example, has none.
    """

    hosts: tuple[tuple[str, str], ...] = ()

    phrase: ClassVar[str] = "make the container's hosts file"
    why: ClassVar[str] = "the container's own name and the names of --add-host resolve"
    risk: ClassVar[str] = "nothing; the container's own name would not resolve"
    chinese: ClassVar[Chinese] = Chinese(
        "写入容器的 hosts 文件",
        "容器自己的名字和 --add-host 指定的名字都能解析",
        "没有危险，但容器自己的名字不能解析",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        names = listed(name for name, _ in arguments["hosts"])
        more = f", and these names: {names}" if arguments["hosts"] else ""
        return f"{cls.phrase}, with the container's own name{more}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write the file that `StageHosts` put into the topmost lower. ENOENT if there is none and names are given."""
        try:
            # The container before it may have left the text of a root that both had (`AttachRoot`).
            file = kernel.open(_STAGED_HOSTS, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if self.hosts:
                error.filename = _HOSTS
                raise
            return
        self._begin(kernel, file)
        # The kernel's name and not the asked one: an outer container may refuse to set that. By its name, this line
        # is found; by its address, the one above.
        lines = [f"127.0.0.1\t{kernel.nodename()}", *(f"{address}\t{name}" for name, address in self.hosts)]
        kernel.write(file, "".join(f"{line}\n" for line in lines).encode())
        kernel.close(file)

    def _begin(self, kernel: Kernel, file: int) -> None:
        kernel.write(file, b"127.0.0.1\tlocalhost\n::1\tlocalhost\n")


@dataclass(frozen=True)
class ExtendHosts(MakeHosts):
    """The same, beginning with the host's own file, for a container in the host's network."""

    phrase: ClassVar[str] = "extend the host's hosts file"
    why: ClassVar[str] = "the container's own name, the names of the host's file and those of --add-host resolve"
    risk: ClassVar[str] = "nothing; names of the host's own file would not resolve"
    chinese: ClassVar[Chinese] = Chinese(
        "在主机的 hosts 文件后面加上容器的名字",
        "容器自己的名字、主机 hosts 文件中的名字和 --add-host 指定的名字都能解析",
        "没有危险，但主机 hosts 文件中的名字不能解析",
    )
    ahead: ClassVar[bool] = False

    def _begin(self, kernel: Kernel, file: int) -> None:
        """Copy the host's file (sendfile(2)); a host without one has no lines."""
        with contextlib.suppress(FileNotFoundError):
            source = kernel.open(_HOSTS, os.O_RDONLY | os.O_CLOEXEC)
            kernel.sendfile(file, source, 0, _HOSTS_LIMIT)
            kernel.close(source)
            kernel.write(file, b"\n")  # its last line may have no end


def _attach_file(kernel: Kernel, tree: int, path: str) -> None:
    """Put a detached mount of a file, which is closed then, in the place of the root's own at `path`."""
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    kernel.mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=attributes)
    target = _file(kernel, path)
    try:
        kernel.move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    finally:
        kernel.close(target)
    kernel.close(tree)


def _file(kernel: Kernel, path: str) -> int:
    """Return a descriptor of the file at `path` in the root, or of a link there that leads nowhere.

    systemd-resolved's is such a link without its /run. The caller closes it.
    """
    try:
        return make_target(kernel, path, directory=False)
    except FileExistsError:
        return open_in_root(kernel, path, os.O_PATH | os.O_NOFOLLOW)


@dataclass(frozen=True)
class AllowPing(Step):
    """Lets every group of the container open ICMP sockets in the container's network (icmp(7)).

    `last` is the highest group id of the container: both ends of the range must be mapped (net/ipv4/ping.c).
    """

    last: int

    phrase: ClassVar[str] = "allow ping"
    why: ClassVar[str] = "programs send echo requests without a raw socket, which the container does not have"
    risk: ClassVar[str] = "nothing; ping would need a raw socket, which the container does not have"
    chinese: ClassVar[Chinese] = Chinese(
        "允许容器的用户组使用 ping",
        "程序不用原始套接字就能发送回显请求",
        "没有危险，但 ping 就需要容器没有的原始套接字",
    )

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        return f"{cls.phrase} to the groups 0 to {arguments['last']}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Write the range of the container's network namespace; where that is refused, ping does not work."""
        with contextlib.suppress(OSError):
            setting = kernel.open(f"{STAGE}/proc/sys/net/ipv4/ping_group_range", os.O_WRONLY | os.O_CLOEXEC)
            try:
                kernel.write(setting, f"0 {self.last}".encode())
            finally:
                kernel.close(setting)
