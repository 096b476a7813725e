"""What /proc shows of processes and mounts (proc(5))."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path


def read_text(path: str | Path) -> str:
    """Return the text of a file of the kernel, or in /etc: names in it can have any bytes. Raises `OSError`.

    Bytes that are not UTF-8 are as in paths (`os.fsdecode`), whatever the locale is. A carriage return stays one: a
    name may have it, and a line ends at a line feed alone, which the kernel escapes in names.
    """
    return Path(path).read_bytes().decode("utf-8", "surrogateescape")


def status(pid: int, tid: int = 0) -> dict[str, str]:
    """Return the fields of proc_pid_status(5) of a process, or of one thread of it; none if it is gone.

    A process chooses its name, which cannot stand for another field here: no name has a line feed.
    """
    try:
        text = read_text(f"/proc/{pid}/task/{tid}/status" if tid else f"/proc/{pid}/status")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip("\t ") for name, _, value in pairs}


def children(pid: int) -> list[int]:
    """Return the pids of a process's children (proc_pid_task_tid_children(5)); none if it is dead."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Return the pids of all descendants of `pid`, parents first."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def started(pid: int) -> float:
    """Return when a process began, in seconds since boot. Raises `ProcessLookupError` if it is dead."""
    if not (ticks := birth(pid)):
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), f"/proc/{pid}/stat")
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def threads(pid: int) -> list[int]:
    """The ids of a process's threads; none of a dead one."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - there may be thousands
    except OSError:
        return []


STANDING = frozenset("TtZX")
"""The states of processes that do not run on by themselves: stopped, traced, dead."""


def state(pid: int, tid: int = 0) -> str:
    """What a process, or one thread of it, does (field 3 of proc_pid_stat(5)); `X` for one that has gone."""
    try:
        return Path(f"/proc/{pid}/task/{tid or pid}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "X"


def birth(pid: int) -> str:
    """Return when a process began, in clock ticks since boot (field 22 of proc_pid_stat(5)); empty if it has ended.

    A zombie has ended: its parent may have no time to reap it, or never do.
    """
    fields = _stat_fields(pid)
    return "" if fields[:1] == ["Z"] or len(fields) < 20 else fields[19]


def _stat_field(pid: int, number: int) -> str:
    """Return a field of proc_pid_stat(5) from 3 on; empty if the process is gone. The second is a name in brackets."""
    fields = _stat_fields(pid)
    return fields[number - 3] if len(fields) > number - 3 else ""


def _stat_fields(pid: int) -> list[str]:
    """Return the fields from 3 on; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
        return []


def tracer(pid: int, tid: int) -> int:
    """The id of the thread that traces this one, 0 for none (TracerPid in proc_pid_status(5))."""
    return int(status(pid, tid).get("TracerPid", 0))


def born_below(pid: int) -> dict[int, str]:
    """The processes below `pid`, and when each began: together they name a process, for `send_signal`."""
    births = {one: birth(one) for one in descendants(pid)}
    inside = set(descendants(pid))  # by now a number may be that of a process elsewhere
    return {one: born for one, born in births.items() if one in inside}


def send_signal(pid: int, born: str, number: signal.Signals) -> None:
    """Send a signal to the process of that number and `birth`, if it lives and may be sent one by this user."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(pid)
        try:
            if birth(pid) == born:
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def pid_namespace(pid: int) -> int:
    """Return the inode of a process's pid namespace, which identifies it (namespaces(7)). Raises `OSError`."""
    return Path(f"/proc/{pid}/ns/pid").stat().st_ino


@dataclass(frozen=True)
class Mount:
    """One line of proc_pid_mountinfo(5): `root` is the part of the file system that is visible at `target`.

    `number` and `parent` are the ids of the mount and of the one that it is on, `source` is what the file system calls
    its source, `tags` are the optional fields, as in `master:2`, and `device` is the number of the file system.
    """

    root: str
    target: str
    options: tuple[str, ...]
    fstype: str
    super_options: tuple[str, ...] = ()
    number: int = field(default=0, compare=False)
    parent: int = field(default=0, compare=False)
    source: str = field(default="", compare=False)
    tags: tuple[str, ...] = field(default=(), compare=False)
    device: str = field(default="", compare=False)


def read_mounts(text: str) -> list[Mount]:
    """Return the mounts in the text of a mountinfo file, in its order; a later one covers an earlier one."""
    found = []
    for line in text.split("\n"):  # names in it can have the characters that end lines for others
        before, _, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if len(words) < 6 or len(rest) < 3:
            continue
        if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in words[:2]):
            continue
        root, target = _plain(words[3]), _plain(words[4])
        options, super_options = tuple(words[5].split(",")), tuple(rest[2].split(","))
        numbers = int(words[0]), int(words[1])
        source, tags = _plain(rest[1]), tuple(words[6:])
        found.append(Mount(root, target, options, rest[0], super_options, *numbers, source, tags, words[2]))
    return found


def _plain(word: str) -> str:
    """Return a path from mountinfo without its octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), word)


_COUNTERS = {("Ip", "OutNoRoutes"): "no_route", ("Udp", "NoPorts"): "no_port", ("Tcp", "AttemptFails"): "refused"}
_SNMP_SIZE = 1 << 14


def unreached(process: int | str = "self") -> dict[str, int]:
    """Return how often programs in the network namespace of a process could not reach something, if at all.

    `no_route` counts packets without a route, `no_port` datagrams to a port of its own that is closed, and `refused`
    connections that its own loopback refused (RFC 4293, 4113 and 4022: proc_pid_net(5), snmp). Empty if it cannot be
    read. A program in the container cannot make this wait.
    """
    try:
        file = os.open(f"/proc/{process}/net/snmp", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        text = os.read(file, _SNMP_SIZE)
    except OSError:
        return {}
    finally:
        os.close(file)
    return unreached_in(text)


def unreached_in(text: bytes) -> dict[str, int]:
    """Return the counters of `unreached` that are not 0, from pairs of lines: names, then values."""
    found: dict[str, int] = {}
    values = dict[tuple[str, str], int]()
    lines = text.decode("ascii", "replace").splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        kind, _, _ = names.partition(":")
        for name, number in zip(names.split()[1:], numbers.split()[1:], strict=False):
            if number.isascii() and number.isdigit() and len(number) < 20:
                values[kind, name] = int(number)
    for key, short in _COUNTERS.items():
        if values.get(key, 0):
            found[short] = values[key]
    if not values.get(("Tcp", "OutRsts"), 0):  # another machine refused it
        found.pop("refused", None)
    return found


_LISTEN = "0A"
"""The state of a socket that listens, in hexadecimal (include/net/tcp_states.h)."""


def listening_sockets(pid: int) -> dict[int, dict[int, int]]:
    """Return the sockets that listen in the network of a process, by TCP port: inode and user id (proc_pid_net(5))."""
    found: dict[int, dict[int, int]] = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in read_text(f"/proc/{pid}/net/{name}").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    port = int(fields[1].rpartition(":")[2], 16)
                    found.setdefault(port, {})[int(fields[9])] = int(fields[7])
    return found


def sockets_of(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process has open (proc_pid_fd(5)). Raises `OSError`."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names are enough
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    return found
