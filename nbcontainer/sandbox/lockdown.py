"""Steps that take power away, from init and from the cell's process."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.linux.namespaces import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
)
from nbcontainer.linux.process import PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, capability_mask
from nbcontainer.sandbox.devices import SCRIPT
from nbcontainer.sandbox.machine import limits_advice, namespace_advice
from nbcontainer.sandbox.steps import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.machine import Diagnosis

DEFAULT_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""Podman's default set: Docker's without MKNOD, NET_RAW and AUDIT_WRITE."""

_NAMESPACES = {
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "cgroup": CLONE_NEWCGROUP,
    "net": CLONE_NEWNET,
}


_NO_ID = (1 << 32) - 1  # (uid_t)-1

_TEXT_LIMIT = 1 << 20
_CHUNK = 1 << 14  # bytes; a buffer of a megabyte is mapped and taken down for every file


@dataclass(frozen=True)
class CloneInit(Step):
    """Init itself: the launcher clones into new namespaces, and the child is pid 1 of them.

    The user namespace is the launcher's, which it made when it started. Applied by the launcher, not by init.
    """

    namespaces: tuple[str, ...] = tuple(_NAMESPACES)

    why: ClassVar[str] = "mounts, processes, host name, shared memory and network of its own"
    diagnose: ClassVar[Mapping[int, Diagnosis]] = {errno.EPERM: namespace_advice, errno.ENOSPC: limits_advice}

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Clones and throws the pid away: for explaining. The launcher calls `flags`."""
        kernel.clone(self.flags())

    def flags(self) -> int:
        """The CLONE_NEW* flags of clone(2)."""
        flags = 0
        for name in self.namespaces:
            flags |= _NAMESPACES[name]
        return flags


@dataclass(frozen=True)
class NewSessionKeyring(Step):
    """A session keyring of the container's own, empty (session-keyring(7))."""

    why: ClassVar[str] = "the keys of the notebook's session (Kerberos, fscrypt) are not the container's"
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

    why: ClassVar[str] = "the container knows itself by its own name"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """sethostname(2), in the uts namespace."""
        with contextlib.suppress(PermissionError):
            kernel.sethostname(self.name)


@dataclass(frozen=True)
class DropBounding(Step):
    """Cuts the set that any later exec can gain from."""

    keep: tuple[str, ...] = DEFAULT_CAPABILITIES

    why: ClassVar[str] = "no program of the container's, setuid or not, can gain more than these capabilities"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """PR_CAPBSET_DROP for each that is not kept, capabilities(7)."""
        kernel.drop_bounding(capability_mask(self.keep), kernel.last_capability())


@dataclass(frozen=True)
class HardenInit(Step):
    """Closes init to the cell, which may be the same user."""

    why: ClassVar[str] = "pid 1 is the container's only way to the host's interpreter: it cannot be looked into"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Not dumpable (so no ptrace and no /proc/1/exe, fd, root), no new privileges."""
        kernel.prctl(PR_SET_DUMPABLE, 0)
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class NewSession(Step):
    """A session of the cell's own, without a controlling terminal."""

    why: ClassVar[str] = "it cannot push characters into the notebook's terminal, and is signalled as one group"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setsid(2), and the usual file mode mask."""
        kernel.setsid()
        kernel.umask(0o022)


@dataclass(frozen=True)
class SetUser(Step):
    """The user the cell runs as, without the notebook's groups.

    `user` is what `identity` takes. `drop_groups` is false where the kernel denies setgroups(2): in a user namespace
    with a single id. What is the cell's becomes the user's: the file of its body, and with `terminal` its terminal,
    the first travelling descriptor.
    """

    user: str = ""
    drop_groups: bool = True
    terminal: bool = False

    why: ClassVar[str] = "the image's or the cell's choice of user, without the notebook's groups"
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "that id is not mapped: without a range in /etc/subuid for this user, root is the only user "
        "in a container",
        errno.ENOENT: "the image has no such user or group: give a number instead",
    }

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setgroups(2), setresgid(2), setresuid(2), by the image's /etc/passwd and /etc/group."""
        try:
            uid, gid, groups, _ = identity(self.user, read_text("/etc/passwd"), read_text("/etc/group"))
        except KeyError as error:
            raise OSError(errno.ENOENT, f"no {error.args[0]} in the image", "/etc/passwd") from None
        # The highest number means "leave it as it is" to setresuid(2): the cell would go on as root.
        if max(uid, gid, *groups) >= _NO_ID:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{uid}:{gid}")
        kernel.prctl(PR_SET_KEEPCAPS, 0)
        if self.drop_groups:
            kernel.setgroups(list(groups))
        if uid != 0:
            kernel.chown(SCRIPT, uid, gid)
        if self.terminal:
            kernel.fchown(files[0], uid, -1)
        kernel.setresgid(gid, gid, gid)
        kernel.setresuid(uid, uid, uid)


@dataclass(frozen=True)
class DropCapabilities(Step):
    """What the cell's process has: the kept set for root, nothing for another user; nothing to inherit."""

    keep: tuple[str, ...] = DEFAULT_CAPABILITIES

    why: ClassVar[str] = "root in the container can do what programs expect, not what reaches the kernel"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """capset(2) with an empty inheritable set (CVE-2022-29162), the ambient set cleared."""
        mask = capability_mask(self.keep) if kernel.getuid() == 0 else 0
        kernel.clear_ambient()
        kernel.capset(mask, mask, 0)


@dataclass(frozen=True)
class NoNewPrivileges(Step):
    """Makes setuid files and file capabilities inert."""

    why: ClassVar[str] = "no exec gives more than the process has"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """PR_SET_NO_NEW_PRIVS, prctl(2). It is for good, and inherited."""
        kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class CloseDescriptors(Step):
    """Nothing but 0, 1 and 2 is open when the cell's program starts (CVE-2024-21626)."""

    why: ClassVar[str] = "a descriptor left open would be a way out"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Marks every other descriptor close-on-exec (close_range(2), Linux 5.11): a failed exec can still report."""
        kernel.cloexec_from(3)


def identity(user: str, passwd: str, group: str) -> tuple[int, int, tuple[int, ...], str]:
    """Uid, gid, supplementary groups and home of `user`, by the text of the image's passwd and group files.

    `user` is `NAME`, `UID`, `NAME:GROUP` or `UID:GID` in any mix; empty means root. A uid that has no line has
    group 0 and home `/`, as in Docker. A line with an id that is no number is no line. Raises `KeyError` with the
    name that is not there.
    """
    name, _, group_name = user.partition(":")
    name = name or "0"
    users = [u for u in (line.split(":") for line in passwd.splitlines()) if len(u) > 6 and is_id(u[2]) and is_id(u[3])]
    groups = [g for g in (line.split(":") for line in group.splitlines()) if len(g) > 3 and is_id(g[2])]
    found = next((u for u in users if u[0] == name or (is_id(name) and u[2] == name)), None)
    if found is not None:
        uid, gid, home = int(found[2]), int(found[3]), found[5] or "/"
    elif is_id(name):
        uid, gid, home = int(name), 0, "/root" if name == "0" else "/"
    else:
        raise KeyError(f"user {name}")
    if not group_name:
        extra = tuple(int(g[2]) for g in groups if found and found[0] in g[3].split(",") and int(g[2]) != gid)
        return uid, gid, extra, home
    if is_id(group_name):
        return uid, int(group_name), (), home
    chosen = next((g for g in groups if g[0] == group_name), None)
    if chosen is None:
        raise KeyError(f"group {group_name}")
    return uid, int(chosen[2]), (), home


def is_id(text: str) -> bool:
    """Whether a word is a number, in the digits that passwd(5) has."""
    return text.isascii() and text.isdecimal()


def read_text(path: str) -> str:
    """A small text file of the container's, empty where there is none; never more than 1 MiB of it."""
    try:
        # A pipe that the image has there would hold the open up until somebody writes (fifo(7)).
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = b""
        while len(text) < _TEXT_LIMIT and (more := os.read(fd, _CHUNK)):
            text += more
        return text.decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
