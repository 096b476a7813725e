"""clone(2), unshare(2), setns(2), and the flags of namespaces."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence
from ctypes import c_int, c_long
from pathlib import Path

from nbcontainer.linux.libc import check, libc, number

# <linux/sched.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

libc.unshare.argtypes = (c_int,)
libc.unshare.restype = c_int
libc.setns.argtypes = (c_int, c_int)
libc.setns.restype = c_int

# The same function, called with the GIL held: no other thread may run between the hooks before and after a fork.
_syscall_with_gil = ctypes.PyDLL(None, use_errno=True).syscall
_syscall_with_gil.restype = c_long


def unshare(flags: int) -> None:
    """unshare(2). CLONE_NEWUSER fails with EINVAL in a process with threads."""
    check(libc.unshare(flags), "unshare")


def setns(fd: int, nstype: int) -> None:
    """setns(2)."""
    check(libc.setns(fd, nstype), "setns")


def clone(flags: int) -> int:
    """Fork this process into new namespaces (clone(2), `flags` are CLONE_NEW*). Returns 0 in the child, else its pid.

    It is os.fork() with namespaces: the interpreter's hooks run before and after the call. With CLONE_NEWPID the child
    is pid 1 at once; with unshare(2), that would need a second fork. Only for processes with one thread.
    """
    api = ctypes.pythonapi
    api.PyOS_BeforeFork()
    pid = int(_syscall_with_gil(c_long(number("clone")), c_long(flags | signal.SIGCHLD), None, None, None, None))
    if pid == 0:
        api.PyOS_AfterFork_Child()
    else:
        api.PyOS_AfterFork_Parent()
    return check(pid, "clone")


Ranges = Sequence[Sequence[int]]
"""Ranges of ids: (first id inside, first id outside, count)."""


def user_namespace(ranges: Ranges) -> int:
    """Return a descriptor of a new user namespace, with the same (inside, outside, count) ranges for uids and gids.

    It serves as the map of an idmapped mount (mount_setattr(2)); no process runs in it. Needs privileges. The caller
    closes the descriptor. Only for processes with one thread.
    """
    hold, release = os.pipe2(os.O_CLOEXEC)
    pid = clone(CLONE_NEWUSER)
    if pid == 0:
        os.close(release)
        os.read(hold, 1)
        os._exit(0)
    os.close(hold)
    try:
        write_id_maps(pid, ranges, ranges)
        return os.open(f"/proc/{_pid_in_proc(pid)}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(release)
        os.waitpid(pid, 0)


def write_id_maps(pid: int, uids: Ranges, gids: Ranges) -> None:
    """Write the id maps of the user namespace of `pid`, a child of this process (user_namespaces(7)).

    The child must be dumpable (PR_SET_DUMPABLE), otherwise its files in /proc belong to the host's root.
    """
    for name, ranges in (("uid", uids), ("gid", gids)):
        text = "".join(f"{inside} {outside} {count}\n" for inside, outside, count in ranges)
        Path(f"/proc/{_pid_in_proc(pid)}/{name}_map").write_text(text)


def _pid_in_proc(pid: int) -> int:
    """Return the number of process `pid` in /proc, which may belong to another pid namespace (pidfd_open(2))."""
    pidfd = os.pidfd_open(pid)
    try:
        facts = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    finally:
        os.close(pidfd)
    return next(int(line.split()[1]) for line in facts.splitlines() if line.startswith("Pid:"))
