"""/proc, /sys and control groups: a cell changes nothing of the kernel's by them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.devices import MaskPaths, ReadOnlyPaths
from nbcontainer.sandbox.steps.rights.capabilities import DropBounding, DropCapabilities
from tests.attacks.inside import attempt, call
from tests.attacks.ways import WAYS, Way

if TYPE_CHECKING:
    from tests.attacks.attacker import Attacker

SETTINGS = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/keys/maxkeys",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv4/ip_default_ttl",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/profiling",
    "/sys/power/state",
    "/sys/devices/system/cpu/cpu0/uevent",
    "/sys/class/net/lo/mtu",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/release_agent",
]


def open_to_write(paths: list[str]) -> object:
    """What opening each for writing gives; nothing is written."""
    found = {}
    for path in paths:
        opened = attempt(os.open, path, os.O_WRONLY)
        found[path] = opened if isinstance(opened, str) else "opened"
        if found[path] == "opened":
            os.close(opened)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_setting_can_be_opened_for_writing(way: Way, attack: Attacker) -> None:
    """Settings, SysRq, interrupts, devices and control groups refuse a writer (CVE-2025-52881 is about how)."""
    found = attack(open_to_write, SETTINGS, **way.options())
    assert set(found.values()) <= {"EROFS", "EACCES", "EPERM", "ENOENT"}, found


def files_about_the_machine() -> object:
    """Which files of /proc open for writing, three levels deep, but for processes and settings; and how many there are.

    Masked files are the null device, and are left out; so are files whose mode does not let anyone write.
    """
    opened, count = [], 0
    for folder, folders, names in os.walk("/proc"):
        if folder == "/proc":
            folders[:] = [name for name in folders if not name.isdigit() and name not in ("sys", "self", "thread-self")]
        elif folder.count("/") == 4:
            folders.clear()
        for name in names:
            count += 1
            fd = attempt(os.open, f"{folder}/{name}", os.O_WRONLY | os.O_NONBLOCK)
            if isinstance(fd, int):
                mode = os.fstat(fd).st_mode
                os.close(fd)
                if stat.S_ISREG(mode) and mode & 0o222:
                    opened.append(f"{folder}/{name}")
    return [sorted(opened), count]


@pytest.mark.parametrize("way", WAYS)
def test_no_file_about_the_machine_can_be_opened_for_writing(way: Way, attack: Attacker) -> None:
    """Where root in the cell is the host's, only mounts are in the way of some.

    A write to a file of pressure asks for reports (Documentation/accounting/psi.rst), one to mtrr requires SYS_ADMIN.
    """
    opened, count = attack(files_about_the_machine, **way.options())
    assert count > 20 or attack.engine.launcher.proc == ProcLevel.PROCESSES
    assert [path for path in opened if not path.startswith(("/proc/pressure/", "/proc/mtrr"))] == []
    if way.name == "userns=host":
        opened, _ = attack(files_about_the_machine, without=(ReadOnlyPaths, MaskPaths), **way.options())
        assert "/proc/irq/default_smp_affinity" in opened


def every_setting() -> object:
    """The files below /proc/sys that open for writing, and how many there are."""
    opened, count = [], 0
    for folder, _, names in os.walk("/proc/sys"):
        for name in names:
            count += 1
            fd = attempt(os.open, f"{folder}/{name}", os.O_WRONLY)
            if isinstance(fd, int):
                os.close(fd)
                opened.append(f"{folder}/{name}")
    return [opened, count]


@pytest.mark.parametrize("way", WAYS)
def test_not_one_of_all_settings_can_be_written(way: Way, attack: Attacker) -> None:
    """Of the hundreds of files below /proc/sys none opens for writing, not even those of the cell's own network."""
    opened, count = attack(every_setting, **way.options())
    assert opened == []
    assert count > 200


def test_the_mount_refuses_even_who_has_the_capability(attack: Attacker) -> None:
    """With every capability over its own network, root may write its settings by their mode, and not by their mount."""
    if attack.engine.launcher.proc == ProcLevel.OUTER:
        pytest.skip("the whole of an outer /proc is read-only")
    setting = "/proc/sys/net/ipv4/ip_default_ttl"
    power = (DropCapabilities, DropBounding)
    assert attack(open_to_write, [setting], without=power) == {setting: "EROFS"}
    assert attack(open_to_write, [setting], without=(*power, ReadOnlyPaths)) == {setting: "opened"}


def mounts() -> object:
    """Target, options, type of each mount (proc_pid_mountinfo(5))."""
    found = []
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, after = line.split(" - ")
            found.append((before.split()[4], before.split()[5].split(","), after.split()[0]))
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_mount_has_more_than_it_needs(way: Way, attack: Attacker) -> None:
    """All of /sys and of the control groups is read-only; no mount but the root has setuid programs, none devices but
    /dev; what is read-only in /proc is mounted so; there is no other kind of mount."""
    seen = attack(mounts, **way.options())
    kinds = {kind for _, _, kind in seen}
    assert kinds <= {
        "overlay",
        "proc",
        "sysfs",
        "tmpfs",
        "devtmpfs",
        "devpts",
        "mqueue",
        "cgroup",
        "cgroup2",
        "ext4",
    } | (
        kinds if way.options().get("network") == "host" else set()  # whatever the host has in /sys
    )
    for target, options, kind in seen:
        if target == "/sys" or target.startswith("/sys/"):
            assert "ro" in options, target
        if target.startswith("/proc/"):
            assert "ro" in options or kind in ("tmpfs", "devtmpfs"), (target, kind)
        if target != "/" and not target.startswith("/etc/"):
            assert "nosuid" in options or target.startswith(("/dev/", "/proc/")), target
        if not target.startswith(("/dev", "/proc")):
            assert "nodev" in options, target


def control_groups() -> object:
    """This process's groups, and whether one can be made."""
    with open("/proc/self/cgroup") as lines:
        groups = [line.rstrip("\n").split(":", 2)[2] for line in lines]
    made = [attempt(os.mkdir, f"{place}/attack") for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory")]
    return [groups, made]


@pytest.mark.parametrize("way", WAYS)
def test_control_groups_are_seen_from_below(way: Way, attack: Attacker) -> None:
    """A cell is at the root of what it sees of them, and can make none (CVE-2022-0492)."""
    groups, made = attack(control_groups, **way.options())
    assert set(groups) <= {"/"}
    assert set(made) <= {"EROFS", "EACCES", "EPERM", "ENOENT"}


def mount_control_groups() -> object:
    """The way of the release agent: namespaces of one's own, and a hierarchy mounted there."""
    made = call("unshare", 0x10000000 | 0x00020000 | 0x02000000)
    os.makedirs("/tmp/groups", exist_ok=True)
    mounted = [call("mount", b"none", b"/tmp/groups", kind, 0, None) for kind in (b"cgroup", b"cgroup2")]
    agent = attempt(os.open, "/tmp/groups/release_agent", os.O_WRONLY)
    return [made, *mounted, agent if isinstance(agent, str) else "opened"]


@pytest.mark.parametrize("way", WAYS)
def test_no_release_agent_can_be_set(way: Way, attack: Attacker) -> None:
    """Neither namespaces nor a hierarchy of control groups can be had, and so no agent that the host would run; who is
    let have them has no agent in them (CVE-2022-0492)."""
    *had, agent = attack(mount_control_groups, **way.options())
    assert agent in ("ENOENT", "EACCES", "EPERM")
    assert way.powerful or had == ["EPERM", "EPERM", "EPERM"]


def hidden_places() -> object:
    """What tells about the host, if it is to be read."""
    found = {}
    for path in (
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/interrupts",
        "/proc/kmsg",
    ):
        opened = attempt(os.open, path, os.O_RDONLY | os.O_NONBLOCK)
        read = opened if isinstance(opened, str) else attempt(os.read, opened, 64)
        found[path] = read if isinstance(read, str) else len(read)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_masked_files_are_empty(way: Way, attack: Attacker) -> None:
    """Memory, keys, timers and interrupts of the host read as nothing."""
    found = attack(hidden_places, **way.options())
    assert {answer for answer in found.values() if answer != 0} <= {"ENOENT", "EPERM", "EACCES"}, found
