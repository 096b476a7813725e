"""What this machine allows, and the one thing to do where it does not: the words of doctor and of a failing cell.

What depends on nothing but the step that failed is that step's own `advice`; here is what looks at the machine first.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.process import capability_mask
from nbcontainer.linux.procfs import read_mounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbcontainer.linux.procfs import Mount

NEWEST_CALL = (5, 12)
"""The kernel that has every system call a container needs: mount_setattr(2) is the youngest of them."""

_NAMESPACES = {"mnt": "mount", "pid": "pid", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup", "net": "network"}

_MOUNT_POINTS = (
    *("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom"),
    *("/sys/fs/", "/sys/kernel/", "/sys/firmware/efi/efivars", "/sys/hypervisor"),
)
"""Directories that the kernel keeps empty for mounts: what covers them hides nothing (fs/namespace.c)."""


@dataclass(frozen=True)
class Machine:
    """Where a machine is looked at. This one by default; other paths and another user make another, for a test."""

    proc: Path = Path("/proc")
    etc: Path = Path("/etc")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    dev: Path = Path("/dev")

    def read(self, name: str) -> str:
        """The text of a file below /proc, without white space around it; empty where it cannot be read."""
        try:
            return (self.proc / name).read_text().strip("\n\0 ")
        except OSError:
            return ""

    def setting(self, name: str) -> str:
        """The value of a sysctl by its path, as in `user/max_user_namespaces`; empty where there is none."""
        return self.read(f"sys/{name}")

    def status(self, name: str) -> str:
        """One field of this process's proc_pid_status(5)."""
        found = re.search(rf"^{name}:\s*(.*)$", self.read("self/status"), re.MULTILINE)
        return found[1] if found else ""

    @property
    def root(self) -> bool:
        """Whether this is root, on the host or in a user namespace that the notebook runs in."""
        return self.uid == 0

    @property
    def no_new_privs(self) -> bool:
        """Whether no program can gain anything by being setuid (PR_SET_NO_NEW_PRIVS)."""
        return self.status("NoNewPrivs") == "1"

    @property
    def release(self) -> str:
        """The kernel's release, as uname(2) has it."""
        return self.setting("kernel/osrelease")

    @property
    def version(self) -> tuple[int, int]:
        """The kernel's version as two numbers; (0, 0) for none."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def capable(self, *names: str) -> bool:
        """Whether this process has all of these capabilities in effect (names without CAP_)."""
        mask = capability_mask(names)
        return int(self.status("CapEff") or "0", 16) & mask == mask

    def bounded(self, name: str) -> bool:
        """Whether a program may gain this capability (name without CAP_), by being setuid for one."""
        mask = capability_mask((name,))
        return int(self.status("CapBnd") or "-1", 16) & mask == mask

    def which(self, program: str) -> str | None:
        """The path of a program, by the environment's PATH; None for none."""
        import shutil  # the launcher imports this module, and has no use for it

        return shutil.which(program, path=self.environ.get("PATH", os.defpath))

    def mounts(self) -> list[Mount]:
        """What is mounted, in the order of proc_pid_mountinfo(5); a later one covers an earlier one."""
        return read_mounts(self.read("self/mountinfo"))

    def mount_of(self, path: Path) -> Mount | None:
        """The mount that an absolute path, which need not be there, is on."""
        best = None
        for mount in self.mounts():
            if path.is_relative_to(mount.target) and (best is None or len(mount.target) >= len(best.target)):
                best = mount
        return best

    def covered(self, top: str) -> list[str]:
        """The parts of the machine's /proc or /sys with something mounted over them, as Docker hides and locks them."""
        inside = {mount.target for mount in self.mounts() if mount.target.startswith(f"{top}/")}
        return sorted(path for path in inside if not path.startswith(_MOUNT_POINTS))


Diagnosis = Callable[[Machine, int], str]
"""What finds the one thing to do where a step failed with an errno, by a look at the machine."""


def namespace_advice(machine: Machine, code: int = errno.EPERM) -> str:
    """What opens user namespaces, or what may be done in them, where the kernel answered `code`."""
    if not (machine.proc / "self/ns/user").exists():
        return "boot a kernel that is built with user namespaces (CONFIG_USER_NS=y)"
    if not machine.root and machine.setting("kernel/unprivileged_userns_clone") == "0":
        return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    if machine.setting("user/max_user_namespaces") == "0":
        return "allow user namespaces: sysctl -w user.max_user_namespaces=10000 (as root)"
    if code in (errno.ENOSPC, errno.EUSERS):
        return "too many user namespaces are in use, or one in another too deep: raise user.max_user_namespaces"
    if not machine.root and machine.setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor keeps plain users from user namespaces: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)"
        )
    profile = machine.read("self/attr/current")
    confined = profile.endswith("(enforce)") and not profile.startswith("unconfined")
    filtered = machine.status("Seccomp") == "2"
    if confined and (code == errno.EACCES or not filtered):
        name = profile.removesuffix("(enforce)").strip()
        return (
            f"the AppArmor profile {name} refuses it: start the outer container with --security-opt apparmor=unconfined"
        )
    if filtered:
        return (
            "a system call filter refuses it, as Docker's does: start the outer container with "
            "--security-opt seccomp=unconfined"
        )
    if code not in (errno.EPERM, errno.EACCES, errno.EINVAL):
        return ""
    return "ask who runs this machine to allow user namespaces; in a chroot there are none (user_namespaces(7))"


def limits_advice(machine: Machine, _: int = errno.ENOSPC) -> str:
    """What to raise where a namespace is one too many (ENOSPC, namespaces(7))."""
    for short, name in _NAMESPACES.items():
        if machine.setting(f"user/max_{short}_namespaces") == "0":
            return f"allow {name} namespaces: sysctl -w user.max_{short}_namespaces=10000 (as root)"
    return "too many namespaces are in use: raise the limits in /proc/sys/user (as root)"


def proc_advice(machine: Machine, code: int = errno.EPERM) -> str:
    """What to do where a fresh /proc may not be mounted: the kernel wants to see a whole one first (fs/namespace.c)."""
    if not machine.covered("/proc"):
        return namespace_advice(machine, code)
    return (
        "parts of this machine's own /proc are covered, as Docker does it: start the outer container with "
        "--security-opt systempaths=unconfined (Kubernetes: procMount: Unmasked)"
    )


def call_advice(machine: Machine, _: int = errno.ENOSYS) -> str:
    """What to do where a system call is not there (ENOSYS)."""
    if machine.version < NEWEST_CALL:
        return "use a kernel of {}.{} or later".format(*NEWEST_CALL)
    return "a system call filter hides it, as an old Docker's does: update what the notebook runs in"


def map_advice(machine: Machine, _: int = errno.EPERM) -> str:
    """What to do where the map of user ids is refused though nothing that can be seen speaks against it."""
    if machine.root:
        return "give the notebook the capabilities SETUID and SETGID"
    return "check the user's ranges in /etc/subuid and /etc/subgid: each must be the user's alone"
