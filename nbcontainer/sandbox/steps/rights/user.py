"""The step that sets the cell's user, and the lookup of users in an image."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.process import PR_SET_KEEPCAPS
from nbcontainer.sandbox.steps.base import Chinese, Step, listed, quoted
from nbcontainer.sandbox.steps.devices import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_NO_ID = (1 << 32) - 1  # (uid_t)-1
_DIGITS = 100  # of a number that is compared with the highest id; int() refuses thousands of them


@dataclass(frozen=True)
class SetUser(Step):
    """The user the cell runs as, without the notebook's groups.

    `user` is what `identity` takes, and `groups` are more groups, by name or number. `drop_groups` is false where the
    kernel denies setgroups(2): in a user namespace with a single id. What is the cell's becomes the user's: the file of
    its body, and with `terminal` its terminal, the first travelling descriptor.
    """

    user: str = ""
    drop_groups: bool = True
    terminal: bool = False
    groups: tuple[str, ...] = ()

    phrase: ClassVar[str] = "become the user"
    why: ClassVar[str] = "the image's or the cell's choice of user, without the notebook's groups"
    risk: ClassVar[str] = "the cell would keep the notebook's groups, and be root where it should not be"
    chinese: ClassVar[Chinese] = Chinese(
        "成为用户 {user}",
        "使用镜像或单元格选择的用户，不带笔记本的用户组",
        "单元格会保留笔记本的用户组，并且在不该是 root 时仍是 root",
    )
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "that id is not mapped: without a range in /etc/subuid for this user, root is the only user "
        "in a container",
        errno.ERANGE: f"the highest id of a user or a group is {_NO_ID - 1}",
        errno.ENOENT: "use a name of the image's /etc/passwd or /etc/group, or a number",
        errno.EPERM: "only root of a container, with the capabilities SETUID and SETGID, can become another user: "
        "start the container with --user root",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        groups = ", without supplementary groups of the notebook" if arguments["drop_groups"] else ""
        more = f", in the groups {listed(arguments['groups'])}" if arguments.get("groups") else ""
        return f"become the user {quoted(arguments['user'] or 'root')}{groups}{more}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setgroups(2), setresgid(2), setresuid(2), by the image's /etc/passwd and /etc/group."""
        self.become(kernel, SCRIPT, files[0] if self.terminal else None)

    def become(self, kernel: Kernel, script: str, terminal: int | None) -> None:
        """Make this process one of the user. The file at `script` (container path; "" for none) becomes the user's.

        So does the terminal of the descriptor `terminal`. Raises `OSError`.
        """
        try:
            group = kernel.read_text("/etc/group")
            uid, gid, groups, _ = identity(self.user, kernel.read_text("/etc/passwd"), group)
            groups = tuple(dict.fromkeys((*groups, *(group_id(name, group) for name in self.groups))))
        except KeyError as error:
            raise OSError(errno.ENOENT, f"no {error.args[0]} in the image", "/etc/passwd") from None
        # The highest number means "leave it as it is" to setresuid(2): the cell would stay root.
        if (highest := max(uid, gid, *groups)) >= _NO_ID:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), str(highest))
        if self.groups and not self.drop_groups:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"{uid}:{gid}")
        kernel.prctl(PR_SET_KEEPCAPS, 0)
        if self.drop_groups:
            kernel.setgroups(list(groups))
        if uid != 0 and script:
            kernel.chown(script, uid, gid)
        if terminal is not None:
            with contextlib.suppress(PermissionError):  # a container without CHOWN: the user has it open nevertheless
                kernel.fchown(terminal, uid, -1)
        kernel.setresgid(gid, gid, gid)
        kernel.setresuid(uid, uid, uid)


@functools.lru_cache(16)
def identity(user: str, passwd: str, group: str) -> tuple[int, int, tuple[int, ...], str]:
    """Uid, gid, supplementary groups and home of `user`, by the text of the image's passwd and group files.

    `user` is `NAME`, `UID`, `NAME:GROUP` or `UID:GID` in any mix; empty means root. A uid that has no line has
    group 0 and home `/`, as in Docker. A line whose id is not a number is ignored. Raises `KeyError` with the
    name that is not there.
    """
    name, _, group_name = user.partition(":")
    name = name or "0"
    users = [u for u in (line.split(":") for line in passwd.split("\n")) if len(u) > 6 and is_id(u[2]) and is_id(u[3])]
    groups = [g for g in (line.split(":") for line in group.split("\n")) if len(g) > 3 and is_id(g[2])]
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


def group_id(name: str, group: str) -> int:
    """Return the id of a group by its name or number, by the text of the image's group file. Raises `KeyError`."""
    if is_id(name):
        return int(name)
    for line in group.split("\n"):
        fields = line.split(":")
        if fields[0] == name and len(fields) > 3 and is_id(fields[2]):
            return int(fields[2])
    raise KeyError(f"group {name}")


def is_id(text: str) -> bool:
    """Whether a word is a number, in the digits that passwd(5) has."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
