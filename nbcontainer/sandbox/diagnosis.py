"""What this machine allows, and the one thing to do if it does not allow a step: for doctor and for failing cells.

Advice that depends only on the failed step is in the step (`advice`); here is advice that depends on the machine.
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
"""The first kernel with every system call that a container needs; mount_setattr(2) is the newest."""

_NAMESPACES = {"mnt": "mount", "pid": "pid", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup", "net": "network"}

_MOUNT_POINTS = (
    *("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom"),
    *("/sys/fs/", "/sys/kernel/", "/sys/firmware/efi/efivars", "/sys/hypervisor"),
)
"""Directories that the kernel keeps empty for mounts: a mount there hides nothing (fs/namespace.c)."""


@dataclass(frozen=True)
class Machine:
    """A machine, by the paths and the user through which it is examined: this one by default, others in tests."""

    proc: Path = Path("/proc")
    etc: Path = Path("/etc")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    dev: Path = Path("/dev")

    def read(self, name: str) -> str:
        """Return the text of a file below /proc, stripped; empty if it cannot be read."""
        try:
            return (self.proc / name).read_text().strip("\n\0 ")
        except OSError:
            return ""

    def setting(self, name: str) -> str:
        """Return the value of a sysctl by its path, as in `user/max_user_namespaces`; empty if there is none."""
        return self.read(f"sys/{name}")

    def status(self, name: str) -> str:
        """Return one field of this process's proc_pid_status(5); empty if there is none."""
        found = re.search(rf"^{name}:\s*(.*)$", self.read("self/status"), re.MULTILINE)
        return found[1] if found else ""

    @property
    def root(self) -> bool:
        """Whether this user is root, on the host or in the notebook's user namespace."""
        return self.uid == 0

    @property
    def no_new_privs(self) -> bool:
        """Whether setuid programs gain no privileges (PR_SET_NO_NEW_PRIVS)."""
        return self.status("NoNewPrivs") == "1"

    @property
    def release(self) -> str:
        """The kernel's release, as in uname(2)."""
        return self.setting("kernel/osrelease")

    @property
    def version(self) -> tuple[int, int]:
        """The kernel's version as two numbers; (0, 0) if it is unknown."""
        found = re.match(r"(\d+)\.(\d+)", self.release)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def capable(self, *names: str) -> bool:
        """Return whether this process has all of these capabilities in effect (names without CAP_)."""
        mask = capability_mask(names)
        return int(self.status("CapEff") or "0", 16) & mask == mask

    def bounded(self, name: str) -> bool:
        """Return whether a program can gain this capability (name without CAP_), for example by setuid."""
        mask = capability_mask((name,))
        return int(self.status("CapBnd") or "-1", 16) & mask == mask

    def which(self, program: str) -> str | None:
        """Return the path of a program in the environment's PATH; None if it is not installed."""
        import shutil  # the launcher imports this module and does not need shutil

        return shutil.which(program, path=self.environ.get("PATH", os.defpath))

    def mounts(self) -> list[Mount]:
        """Return the mounts, in the order of proc_pid_mountinfo(5); a later one covers an earlier one."""
        return read_mounts(self.read("self/mountinfo"))

    def mount_of(self, path: Path) -> Mount | None:
        """Return the mount that an absolute path is on; the path need not exist."""
        best = None
        for mount in self.mounts():
            if path.is_relative_to(mount.target) and (best is None or len(mount.target) >= len(best.target)):
                best = mount
        return best

    def covered(self, top: str) -> list[str]:
        """Return the parts of /proc or /sys that mounts cover, as Docker does to hide them."""
        inside = {mount.target for mount in self.mounts() if mount.target.startswith(f"{top}/")}
        return sorted(path for path in inside if not path.startswith(_MOUNT_POINTS))


Diagnosis = Callable[[Machine, int], str]
"""Returns the one thing to do for a step that failed with an errno, depending on the machine."""


def namespace_advice(machine: Machine, code: int = errno.EPERM) -> str:
    """Return how to allow user namespaces, or operations in them, after an error `code` of the kernel."""
    if not (machine.proc / "self/ns/user").exists():
        return "boot a kernel that is built with user namespaces (CONFIG_USER_NS=y)"
    if not machine.root and machine.setting("kernel/unprivileged_userns_clone") == "0":
        return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    if machine.setting("user/max_user_namespaces") == "0":
        return "allow user namespaces: sysctl -w user.max_user_namespaces=10000 (as root)"
    if code in (errno.ENOSPC, errno.EUSERS):
        return "too many user namespaces are in use, or nested too deep: raise user.max_user_namespaces"
    if not machine.root and machine.setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor denies user namespaces to plain users: "
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)"
        )
    profile = machine.read("self/attr/current")
    confined = profile.endswith("(enforce)") and not profile.startswith("unconfined")
    filtered = machine.status("Seccomp") == "2"
    if confined and (code == errno.EACCES or not filtered):
        name = profile.removesuffix("(enforce)").strip()
        return (
            f"the AppArmor profile {name} denies it: start the outer container with --security-opt apparmor=unconfined"
        )
    if filtered:
        return (
            "a system call filter denies it, as Docker's does: start the outer container with "
            "--security-opt seccomp=unconfined"
        )
    if code not in (errno.EPERM, errno.EACCES, errno.EINVAL):
        return ""
    return "ask the administrator to allow user namespaces; a chroot has none (user_namespaces(7))"


def limits_advice(machine: Machine, _: int = errno.ENOSPC) -> str:
    """Return which limit to raise if there are too many namespaces (ENOSPC, namespaces(7))."""
    for short, name in _NAMESPACES.items():
        if machine.setting(f"user/max_{short}_namespaces") == "0":
            return f"allow {name} namespaces: sysctl -w user.max_{short}_namespaces=10000 (as root)"
    return "too many namespaces are in use: raise the limits in /proc/sys/user (as root)"


def proc_advice(machine: Machine, code: int = errno.EPERM) -> str:
    """Return what to do if /proc cannot be mounted: the kernel requires an uncovered one first (fs/namespace.c)."""
    if not machine.covered("/proc"):
        return namespace_advice(machine, code)
    return (
        "mounts cover parts of this machine's /proc, as Docker does it: start the outer container with "
        "--security-opt systempaths=unconfined (Kubernetes: procMount: Unmasked)"
    )


def call_advice(machine: Machine, _: int = errno.ENOSYS) -> str:
    """Return what to do if a system call is missing (ENOSYS)."""
    if machine.version < NEWEST_CALL:
        return "use a kernel of {}.{} or later".format(*NEWEST_CALL)
    return "a system call filter hides it, as an old Docker's does: update the outer container's runtime"


def map_advice(machine: Machine, _: int = errno.EPERM) -> str:
    """Return what to do if the kernel refuses the map of user ids without a visible cause."""
    if machine.root:
        return "give the notebook the capabilities SETUID and SETGID"
    return "check the user's ranges in /etc/subuid and /etc/subgid: no other user may share them"
