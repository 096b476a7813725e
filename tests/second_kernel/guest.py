"""The first process of the machine inside: sets it up as systemd would, runs the tests as each user, hands in, ends.

Its root is the host's, read-only, with a layer in memory above it; `init.sh` has mounted that. Whatever goes wrong here
goes to the console, and ends this process: the kernel panics, and the machine outside finds no results.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import traceback
from pathlib import Path

import pytest

import nbcontainer.containers.engine  # noqa: F401  # for the processes forked from this one
from nbcontainer.sandbox.launcher import connection
from tests.second_kernel.order import FACTS, RESULTS, STORAGE, USERS, Order, User

CGROUPS = Path("/sys/fs/cgroup")
WORK = Path("/second-kernel")
CONTROLLERS = ("cpu", "memory", "pids")

LAUNCHER_SECONDS = 200.0
"""The limit for the start of a launcher, which takes seconds in software, and longer beside other tests."""

_RB_AUTOBOOT = 0x1234567  # <linux/reboot.h>; qemu ends there, by -no-reboot
_FIRST_SUBORDINATE, _SUBORDINATES = 100_000, 65_536


def mount(kind: str, target: str, options: str = "nosuid,nodev", source: str = "none") -> None:
    Path(target).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, source, target], check=True)


def mount_all() -> None:
    """What systemd mounts, and the disk for the tests' files."""
    mount("proc", "/proc", "nosuid,nodev,noexec")
    mount("sysfs", "/sys", "nosuid,nodev,noexec")
    mount("cgroup2", str(CGROUPS), "nosuid,nodev,noexec,nsdelegate,memory_recursiveprot")
    mount("devpts", "/dev/pts", "nosuid,noexec,gid=5,mode=620,ptmxmode=000")
    mount("tmpfs", "/dev/shm")
    mount("tmpfs", "/run", "nosuid,nodev,mode=755")
    mount("ext4", str(WORK), source=STORAGE)


def add_user(user: User) -> None:
    """A plain user in the layer above the host's /etc, with a home on the disk."""
    add_line("/etc/passwd", f"{user.name}:x:{user.uid}:{user.uid}::{home(user)}:/bin/sh")
    add_line("/etc/group", f"{user.name}:x:{user.uid}:")
    if user.has_range:
        for file in ("/etc/subuid", "/etc/subgid"):
            Path(file).write_text(f"{user.name}:{_FIRST_SUBORDINATE}:{_SUBORDINATES}\n")


def add_line(file: str, line: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(f"{line}\n")


def home(user: User) -> Path:
    return WORK / user.name


def open_way(path: str) -> None:
    """Lets plain users come to a path (in the layer): root's own Python may be in a home that only root enters."""
    for folder in Path(path).resolve().parents:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)


def make_group(user: User) -> Path:
    """The control group that a login has: root's below what is root's, a plain user's in a tree delegated to them.

    As systemd does it, a plain user has the directory and the files to move processes and give controllers on, and
    the notebook a group of its own (`systemd-run --user --scope -p Delegate=yes`; cgroup-v2.rst, "Delegation").
    """
    below = ["user.slice", f"user-{user.uid}.slice"]
    below += [f"user@{user.uid}.service", "app.slice", "notebook.scope"] if user.uid else ["session-1.scope"]
    group, is_delegated = CGROUPS, False
    for name in below:
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in CONTROLLERS))
        group /= name
        group.mkdir(exist_ok=True)
        is_delegated = is_delegated or name.startswith("user@")
        if is_delegated:
            for path in (group, *(group / f"cgroup.{file}" for file in ("procs", "threads", "subtree_control"))):
                os.chown(path, user.uid, user.uid)
    return group


def start(order: Order, user: User) -> int:
    """Starts this user's tests in a process of their own, inside their group; its pid.

    It is forked from this one, which has loaded what takes seconds in software, and not started anew.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        (make_group(user) / "cgroup.procs").write_text("0")
        become(user)
        mine = {"HOME": str(home(user)), "USER": user.name, "TMPDIR": str(home(user) / "tmp")}
        os.environ.clear()
        os.environ.update(order.environment, **mine)
        connection._START_LIMIT = LAUNCHER_SECONDS
        report, base = home(user) / "report.xml", home(user) / "tests"
        code = pytest.main([f"--junitxml={report}", f"--basetemp={base}", *order.tests[user.name]])
        sys.stdout.flush()
    except BaseException:  # what is above belongs to the first process alone
        traceback.print_exc()
    finally:
        os._exit(code)


def become(user: User) -> None:
    """A session of this user's own, with nothing to read from."""
    os.setsid()
    os.setgroups([])
    os.setresgid(user.uid, user.uid, user.uid)
    os.setresuid(user.uid, user.uid, user.uid)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def wait(pids: dict[int, str]) -> dict[str, int]:
    """Waits for these processes; their exit codes by their names. Orphans that come to the first process are let go."""
    codes: dict[str, int] = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        if pid in pids:
            codes[pids[pid]] = os.waitstatus_to_exitcode(status)
    return codes


def facts(codes: dict[str, int]) -> dict[str, object]:
    """What this machine is, in its own words, and pytest's exit codes."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return {
        "release": platform.release(),
        "cgroups": next(kind for _, target, kind, *_ in mounts if target == str(CGROUPS)),
        "legacy cgroups": [target for _, target, kind, *_ in mounts if kind == "cgroup"],
        "controllers": (CGROUPS / "cgroup.controllers").read_text().split(),
        "exit codes": codes,
        "seconds": float(Path("/proc/uptime").read_text().split()[0]),
    }


def hand_in(found: dict[str, object], users: list[User]) -> None:
    """Writes the results to their disk."""
    with Path(RESULTS).open("wb") as disk, tarfile.open(fileobj=disk, mode="w|") as tar:
        for user in users:
            if (home(user) / "report.xml").exists():
                tar.add(home(user) / "report.xml", user.report)
        data = json.dumps(found).encode()
        member = tarfile.TarInfo(FACTS)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def run(order: Order) -> None:
    """All of it."""
    mount_all()
    users = [user for user in USERS if user.name in order.tests]
    for path in (order.python, sys.base_prefix, order.project):
        open_way(f"{path}/.")
    for user in users:
        home(user).mkdir(mode=0o700)
        (home(user) / "tmp").mkdir()
        if user.uid:
            add_user(user)
        os.chown(home(user), user.uid, user.uid)
        os.chown(home(user) / "tmp", user.uid, user.uid)
    subprocess.run(["busybox", "ifconfig", "lo", "up"], check=True)
    codes = wait({start(order, user): user.name for user in users})
    hand_in(facts(codes), users)


if __name__ == "__main__":
    run(Order.read(Path(sys.argv[1])))
    os.sync()
    ctypes.CDLL(None).reboot(_RB_AUTOBOOT)
