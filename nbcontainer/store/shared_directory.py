"""Whether containers may see a directory of this machine without a volume that names it: the notebook's own.

`--here` and kernels ask. A volume that the user writes (`-v DIR:DIR`) is not judged here.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.errors import DirectoryRefused

if TYPE_CHECKING:
    from nbcontainer.linux.paths import Node, Place

_SYSTEM = frozenset("/bin /boot /etc /lib /lib32 /lib64 /libx32 /opt /run /sbin /srv /usr /var".split())
"""Directories of the system: a container has its own, and a cell would change the machine's."""

_KERNELS = ("/dev", "/proc", "/sys", "/boot", "/etc")
"""Directories of the kernel and of the system's settings: none below them is shown either."""

_ACL = "system.posix_acl_access"


def check(place: Place, store: Path) -> None:
    """Raise `DirectoryRefused` if the directory at `place` (host) is not to be shown; `store` is the store's path.

    The error's message gives the reason, and its hint what to do.
    """
    path = place.node.path
    reason, advice = _place_reason(place.node, store) or _writer_reason(place.nodes) or ("", "")
    if reason:
        volume = path if path != "/" else "DIR"
        raise DirectoryRefused(reason, hint=f"{advice}, or write -v {volume}:{volume}")


def _place_reason(node: Node, store: Path) -> tuple[str, str] | None:
    """Return why a directory is refused for the place where it is, and what to do; None if it is not."""
    path, move = node.path, "move it to a subdirectory"
    if path == "/":
        return "the notebook is in /", move
    if _same(node, os.path.realpath(Path("~").expanduser())):
        return "the notebook is in your home directory", move
    for home in _homes():
        if home == path:
            return f"the notebook is in a home directory ({path})", move
        if home.startswith(f"{path}/"):
            return f"the notebook's directory {path} contains the home directory {home}", move
    for above in _with_parents(os.path.realpath(store)):
        if _same(node, above):
            return f"the notebook's directory {path} contains the store of nbcontainer", move
    if f"{path}/".startswith(f"{os.path.realpath(store)}/"):
        return f"the notebook's directory {path} is in the store of nbcontainer", "move it to another directory"
    if path in _SYSTEM or f"{path}/".startswith(tuple(f"{top}/" for top in _KERNELS)):
        return f"the notebook's directory {path} is a directory of the system", "move it to another directory"
    return None


def _same(node: Node, path: str) -> bool:
    """Return whether a path is this directory, by whatever name: a bind mount gives it a second one."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (node.device, node.inode)


def _with_parents(path: str) -> list[str]:
    return [path, *map(str, Path(path).parents)][:-1]


@functools.cache
def _homes() -> tuple[str, ...]:
    """Return the home directories of the people of this machine, without links; asked once, for user directories."""
    people = (user.pw_dir for user in pwd.getpwall() if user.pw_uid == 0 or 1000 <= user.pw_uid < 65534)
    named = ("/home", "/root", *people)
    found = (os.path.realpath(home) for home in named if home.startswith("/"))
    return tuple(dict.fromkeys(home for home in found if home != "/"))


def _writer_reason(nodes: tuple[Node, ...]) -> tuple[str, str] | None:
    """Return why a directory is refused for the users that may change or replace it; None if it is not."""
    *above, last = (node.path for node in nodes)
    move = "move it to a directory of your own"
    if others := _writers(last):
        return f"the notebook's directory {last} may be written by {others}", move
    for path in above:
        if (others := _writers(path)) and not os.lstat(path).st_mode & stat.S_ISVTX:  # unlink(2): sticky directories
            return f"the notebook's directory {last} may be replaced by {others} through {path}", move
    return None


def _writers(path: str) -> str:
    """Return which other users may write to a directory, empty if none may. Root may write everywhere."""
    found = os.lstat(path)
    if found.st_uid not in (0, os.geteuid()):
        return f"its owner, {_user(found.st_uid)}"
    if found.st_mode & stat.S_IWOTH:
        return "other users"
    if found.st_mode & stat.S_IWGRP and (_has_acl(path) or _has_others(found.st_gid)):
        return "other users of a group"
    return ""


def _has_acl(path: str) -> bool:
    """Return whether an access control list names further users (acl(5))."""
    try:
        return bool(os.getxattr(path, _ACL, follow_symlinks=False))
    except OSError:
        return False


def _has_others(gid: int) -> bool:
    """Return whether a group has members other than root and this user; true if the group is unknown."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return True
    own = {_user(0), _user(os.geteuid())}
    if any(name not in own for name in group.gr_mem):
        return True
    return any(user.pw_gid == gid and user.pw_name not in own for user in pwd.getpwall())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
