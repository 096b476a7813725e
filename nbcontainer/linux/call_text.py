"""The text of a call of `Kernel`: the system calls that it makes, as strace(1) writes them.

What a call returns by a pointer is left out. So are the values of environment variables.
"""

from __future__ import annotations

import fcntl
import os
import resource
import struct
from typing import TYPE_CHECKING, Any

from nbcontainer.linux import files, mounts, namespaces, netdevice, process, seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Raw(str):
    """A word of a call that has no quotes."""

    __slots__ = ()


def system_calls(name: str, args: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> list[str]:
    """Return the system calls that `kernel.NAME(*args, **keywords)` makes, as `name(arguments)` each.

    `args` and `keywords` are JSON values, as `nbcontainer.linux.watched` notes them.
    """
    return _TEXTS[name](*args, **(keywords or {}))


def manual_page(call: str) -> str:
    """Return the address of the man page of a system call, by its text or its name."""
    name = call.partition("(")[0]
    return f"https://man7.org/linux/man-pages/man2/{_PAGES.get(name, name)}.2.html"


_COMMANDS = {fcntl.F_NOTIFY: "F_NOTIFY", fcntl.F_SETOWN: "F_SETOWN"}

_PAGES = {
    "clone3": "clone",
    "mkdirat": "mkdir",
    "mknodat": "mknod",
    "newfstatat": "stat",
    "openat": "open",
    "prlimit64": "getrlimit",
    "umount2": "umount",
    "keyctl": "keyctl",
    "getdents64": "getdents",
}


def _text(name: str, *arguments: Any) -> list[str]:
    return [f"{name}({', '.join(map(_shown, arguments))})"]


def _shown(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{"".join(letter if letter.isprintable() else _escape(letter) for letter in escaped)}"'


def _escape(letter: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(letter, "\\" + format(ord(letter), "o"))


class _Flags:
    """The names of flags: the constants of a module that begin with a prefix, or those named, in this order."""

    def __init__(self, module: Any, *prefixes: str, names: str = "") -> None:
        if names:
            self._names = [(getattr(module, name), name) for name in names.split()]
            return
        found = {name: value for name, value in vars(module).items() if name.startswith(prefixes)}
        self._names = sorted(((value, name) for name, value in found.items()), key=lambda pair: pair[0])

    def __call__(self, value: int) -> Raw:
        """Return the names of the flags that are set; a rest without a name as a number."""
        words = []
        for bit, name in self._names:
            if bit and value & bit == bit:
                words.append(name)
                value &= ~bit
        if value or not words:
            words.append(str(value) if not value else hex(value))
        return Raw("|".join(words))

    def one(self, value: int) -> Raw:
        """Return the name of one value."""
        return Raw(next((name for number, name in self._names if number == value), str(value)))


_MOUNT = _Flags(mounts, "MS_")
_UNMOUNT = _Flags(mounts, "MNT_")
_TREE = _Flags(mounts, "OPEN_TREE_", "AT_RECURSIVE", "AT_EMPTY")
_MOVE = _Flags(mounts, "MOVE_MOUNT_")
_AT = _Flags(mounts, "AT_RECURSIVE", "AT_EMPTY_PATH")
_ATTRIBUTES = _Flags(mounts, "MOUNT_ATTR_")
_RESOLVE = _Flags(files, "RESOLVE_")
_CLONE = _Flags(namespaces, "CLONE_")
_PRCTL = _Flags(process, "PR_GET", "PR_SET", "PR_CAPBSET_DROP", "PR_CAP_AMBIENT")
_LIMITS = _Flags(resource, "RLIMIT_")
_INTERFACE = _Flags(netdevice, "IFF_")


_OPEN = _Flags(
    os,
    names="O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_NOFOLLOW O_CLOEXEC O_PATH O_DIRECTORY",
)
_ACCESS = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}


def _open_flags(flags: int) -> Raw:
    rest = flags & ~os.O_ACCMODE
    access = _ACCESS[flags & os.O_ACCMODE]
    return Raw(f"{access}|{_OPEN(rest)}" if rest else access)


def _directory(fd: int | None) -> Any:
    return Raw("AT_FDCWD") if fd is None or fd == mounts.AT_FDCWD else fd


def _mode(mode: int) -> Raw:
    return Raw(f"0{mode:03o}")


def _capabilities(mask: int) -> str:
    names = [name for number, name in enumerate(process.CAPABILITIES) if mask >> number & 1]
    return "|".join(f"1<<CAP_{name}" for name in names) or "0"


def _opened(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> list[str]:
    arguments = [_directory(dir_fd), path, _open_flags(flags), *([_mode(mode)] if flags & os.O_CREAT else [])]
    return _text("openat", *arguments)


def _openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> list[str]:
    how = f"{{flags={_open_flags(flags)}, resolve={_RESOLVE(resolve)}}}"
    return _text("openat2", _directory(dirfd), path, Raw(how), 24)


def _mkdir(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> list[str]:
    if dir_fd is None:
        return _text("mkdir", path, _mode(mode))
    return _text("mkdirat", dir_fd, path, _mode(mode))


def _mount_setattr(
    dirfd: int, path: str, flags: int, *, attr_set: int = 0, propagation: int = 0, userns_fd: int = 0
) -> list[str]:
    attributes = (
        f"attr_set={_ATTRIBUTES(attr_set)}, attr_clr=0, propagation={_MOUNT(propagation)}, userns_fd={userns_fd}"
    )
    return _text("mount_setattr", _directory(dirfd), path, _AT(flags), Raw(f"{{{attributes}}}"), 32)


def _fsconfig(context: int, key: str, value: str | None) -> list[str]:
    command = "FSCONFIG_SET_FLAG" if value is None else "FSCONFIG_SET_STRING"
    return _text("fsconfig", context, Raw(command), key, value, 0)


def _user_namespace(ranges: Sequence[Sequence[int]]) -> list[str]:
    maps = _write_id_maps(0, ranges, ranges)
    return [*_clone(namespaces.CLONE_NEWUSER), *maps, *_opened("/proc/PID/ns/user", os.O_RDONLY | os.O_CLOEXEC)]


def _write_id_maps(_: int, uids: Sequence[Sequence[int]], gids: Sequence[Sequence[int]]) -> list[str]:
    lines = []
    for name, ranges in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        lines += [*_opened(f"/proc/PID/{name}", flags, 0o666), *_text("write", Raw("FD"), text, len(text))]
    return lines


def _clone(flags: int) -> list[str]:
    return _text("clone", Raw("child_stack=NULL"), Raw(f"flags={_CLONE(flags)}|SIGCHLD"))


def _raise_interface(name: str) -> list[str]:
    request = f"{{ifr_name={_quoted(name)}}}"
    return [
        *_text("socket", Raw("AF_INET"), Raw("SOCK_DGRAM|SOCK_CLOEXEC"), Raw("IPPROTO_IP")),
        *_text("ioctl", Raw("FD"), Raw("SIOCGIFFLAGS"), Raw(request)),
        *_text("ioctl", Raw("FD"), Raw("SIOCSIFFLAGS"), Raw(f"{request[:-1]}, ifr_flags=IFF_UP}}")),
        *_text("close", Raw("FD")),
    ]


def _add_ipv6(name: str, address: str, gateway: str) -> list[str]:
    place = Raw("NETLINK_ROUTE")
    return [
        *_text("socket", Raw("AF_NETLINK"), Raw("SOCK_RAW|SOCK_CLOEXEC"), place),
        *_text("sendto", Raw("FD"), Raw(f"{{RTM_NEWADDR, {_quoted(address)} on {_quoted(name)}}}")),
        *_text("sendto", Raw("FD"), Raw(f"{{RTM_NEWROUTE, by {_quoted(gateway)}}}")),
        *_text("close", Raw("FD")),
    ]


def _prctl(option: int, argument: int = 0, second: int = 0) -> list[str]:
    if option == process.PR_SET_DUMPABLE:
        return _text("prctl", _PRCTL.one(option), Raw("SUID_DUMP_USER" if argument else "SUID_DUMP_DISABLE"))
    if option == process.PR_SET_NO_NEW_PRIVS:
        return _text("prctl", _PRCTL.one(option), argument, 0, 0, 0)
    return _text("prctl", _PRCTL.one(option), *(() if option == process.PR_GET_SECCOMP else (argument,)))


def _drop_bounding(keep: int, last: int) -> list[str]:
    dropped = [number for number in range(last + 1) if not keep >> number & 1]
    names = [f"CAP_{process.CAPABILITIES[n]}" if n < len(process.CAPABILITIES) else hex(n) for n in dropped]
    return [f"prctl(PR_CAPBSET_DROP, {name})" for name in names]


def _capset(permitted: int, effective: int, inheritable: int) -> list[str]:
    sets = {"effective": effective, "permitted": permitted, "inheritable": inheritable}
    data = ", ".join(f"{name}={_capabilities(mask)}" for name, mask in sets.items())
    return _text("capset", Raw("{version=_LINUX_CAPABILITY_VERSION_3, pid=0}"), Raw(f"{{{data}}}"))


def _close_all_but(keep: Sequence[int]) -> list[str]:
    lines, start = [], 3
    for fd in sorted(fd for fd in set(keep) if fd >= 3):
        if fd > start:
            lines += _text("close_range", start, fd - 1, 0)
        start = fd + 1
    return [*lines, *_text("close_range", start, 0xFFFFFFFF, 0)]


def _limit(value: int) -> str:
    if value == resource.RLIM_INFINITY:
        return "RLIM64_INFINITY"
    return f"{value // 1024}*1024" if value > 1024 and value % 1024 == 0 else str(value)


def _setrlimit(number: int, limits: Sequence[int]) -> list[str]:
    soft, hard = map(_limit, limits)
    return _text("prlimit64", 0, _LIMITS.one(number), Raw(f"{{rlim_cur={soft}, rlim_max={hard}}}"), None)


def _written(fd: int, data: Mapping[str, Any]) -> list[str]:
    more = "..." if data["bytes"] > len(data["text"]) else ""
    return _text("write", fd, Raw(_quoted(data["text"]) + more), data["bytes"])


def _stat(path: str, *, follow_symlinks: bool = True) -> list[str]:
    return _text("newfstatat", Raw("AT_FDCWD"), path, Raw("0" if follow_symlinks else "AT_SYMLINK_NOFOLLOW"))


def _listdir(path: str) -> list[str]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_DIRECTORY
    return [*_opened(path, flags), *_text("getdents64", Raw("FD")), *_text("close", Raw("FD"))]


def _read_text(path: str) -> list[str]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return [*_opened(path, flags), *_text("read", Raw("FD")), *_text("close", Raw("FD"))]


def _posix_spawn(path: str, argv: Sequence[str], env: Mapping[str, str], **_: Any) -> list[str]:
    return [
        # The filter of system calls answers clone3(2) with ENOSYS, and the C library continues with clone(2).
        *_text("clone3", Raw("{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}"), 88),
        *_text("clone", Raw("flags=CLONE_VM|CLONE_VFORK|SIGCHLD")),
        *_text("setsid"),
        *_text("execve", path, list(argv), Raw(f"/* {len(env)} vars */")),
    ]


def _ioctl(fd: int, request: int, argument: Any = 0) -> list[str]:
    if request == files.TIOCGPTPEER:
        return _text("ioctl", fd, Raw("TIOCGPTPEER"), _open_flags(argument))
    if request == files.TIOCSWINSZ:
        rows, columns = struct.unpack("HH", argument["text"].encode("latin-1")[:4])
        size = f"{{ws_row={rows}, ws_col={columns}, ws_xpixel=0, ws_ypixel=0}}"
        return _text("ioctl", fd, Raw("TIOCSWINSZ"), Raw(size))
    return _text("ioctl", fd, Raw({files.TIOCSPTLCK: "TIOCSPTLCK", files.TIOCGPTN: "TIOCGPTN"}[request]), Raw("[0]"))


_TEXTS: Mapping[str, Callable[..., list[str]]] = {
    "mount": lambda source, target, fstype, flags, data: _text("mount", source, target, fstype, _MOUNT(flags), data),
    "umount2": lambda target, flags: _text("umount2", target, _UNMOUNT(flags)),
    "pivot_root": lambda new, old: _text("pivot_root", new, old),
    "open_tree": lambda dirfd, path, flags: _text("open_tree", _directory(dirfd), path, _TREE(flags)),
    "move_mount": lambda source, path, target, place, flags: _text(
        "move_mount", _directory(source), path, _directory(target), place, _MOVE(flags)
    ),
    "mount_setattr": _mount_setattr,
    "fsopen": lambda fstype: _text("fsopen", fstype, Raw("FSOPEN_CLOEXEC")),
    "fsconfig": _fsconfig,
    "fsconfig_fd": lambda context, key, value: _text("fsconfig", context, Raw("FSCONFIG_SET_FD"), key, None, value),
    "fsconfig_create": lambda context: _text("fsconfig", context, Raw("FSCONFIG_CMD_CREATE"), None, None, 0),
    "fsmount": lambda context, attributes: _text("fsmount", context, Raw("FSMOUNT_CLOEXEC"), _ATTRIBUTES(attributes)),
    "openat2": _openat2,
    "ioctl": _ioctl,
    "fcntl": lambda fd, command, argument=0: _text("fcntl", fd, Raw(_COMMANDS.get(command, str(command))), argument),
    "clone": _clone,
    "unshare": lambda flags: _text("unshare", _CLONE(flags)),
    "setns": lambda fd, kind: _text("setns", fd, _CLONE(kind)),
    "user_namespace": _user_namespace,
    "write_id_maps": _write_id_maps,
    "raise_interface": _raise_interface,
    "add_ipv6": _add_ipv6,
    "prctl": _prctl,
    "capset": _capset,
    "drop_bounding": _drop_bounding,
    "last_capability": list,  # read once, when the launcher starts
    "clear_ambient": lambda: _text("prctl", Raw("PR_CAP_AMBIENT"), Raw("PR_CAP_AMBIENT_CLEAR_ALL"), 0, 0, 0),
    "close_all_but": _close_all_but,
    "cloexec_from": lambda first: _text("close_range", first, 0xFFFFFFFF, Raw("CLOSE_RANGE_CLOEXEC")),
    "counts_by_namespace": list,  # from uname(2), once
    "join_session_keyring": lambda: _text("keyctl", Raw("KEYCTL_JOIN_SESSION_KEYRING"), None),
    "seccomp_set_mode_filter": lambda code, flags=0: _text(
        "seccomp",
        Raw("SECCOMP_SET_MODE_FILTER"),
        Raw("SECCOMP_FILTER_FLAG_SPEC_ALLOW" if flags == seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW else str(flags)),
        Raw(f"{{len={code['bytes'] // 8}}}"),
    ),
    "getrlimit": lambda number: _text("prlimit64", 0, _LIMITS.one(number), None),
    "setrlimit": _setrlimit,
    "sethostname": lambda name: _text("sethostname", name, len(name.encode())),
    "chdir": lambda path: _text("chdir", path),
    "fchdir": lambda fd: _text("fchdir", fd),
    "mkdir": _mkdir,
    "mkfifo": lambda path, mode: _text("mknodat", Raw("AT_FDCWD"), path, Raw(f"S_IFIFO|{_mode(mode)}")),
    "write": _written,
    "fchmod": lambda fd, mode: _text("fchmod", fd, _mode(mode)),
    "chmod": lambda path, mode: _text("chmod", path, _mode(mode)),
    "chown": lambda path, uid, gid: _text("chown", path, uid, gid),
    "fchown": lambda fd, uid, gid: _text("fchown", fd, uid, gid),
    "symlink": lambda target, path: _text("symlink", target, path),
    "open": _opened,
    "close": lambda fd: _text("close", fd),
    "fstat": lambda fd: _text("newfstatat", fd, "", Raw("AT_EMPTY_PATH")),
    "stat": _stat,
    "readlink": lambda path: _text("readlink", path),
    "read_text": _read_text,
    "listdir": _listdir,
    "sendfile": lambda out, source, offset, count: _text(
        "sendfile", out, source, Raw("NULL" if offset is None else f"[{offset}]"), count
    ),
    "setsid": lambda: _text("setsid"),
    "setgroups": lambda groups: _text("setgroups", len(groups), groups),
    "setresgid": lambda *ids: _text("setresgid", *ids),
    "setresuid": lambda *ids: _text("setresuid", *ids),
    "getuid": lambda: _text("getuid"),
    "getpid": lambda: _text("getpid"),
    "nodename": lambda: _text("uname"),
    "dup2": lambda source, target: _text("dup2", source, target),
    "umask": lambda mask: _text("umask", _mode(mask)),
    "posix_spawn": _posix_spawn,
}
"""By the name of a call of `Kernel`."""

NAMES = tuple(_TEXTS)
"""The calls of `Kernel` that have a text: all of them."""
