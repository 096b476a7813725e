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

from nbcontainer.linux.process import capability_mask, find_program
from nbcontainer.linux.procfs import read_mounts, read_text

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
            return read_text(self.proc / name).strip("\n\0 ")
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

    @property
    def nested(self) -> bool:
        """Whether this process is in a container of this project: its /dev has the file for a cell's body."""
        return (self.dev / "cell").is_file() and not (self.dev / "kmsg").exists()

    @property
    def filtered(self) -> bool:
        """Whether a system call filter applies to this process (seccomp(2))."""
        return self.status("Seccomp") == "2"

    @property
    def confined_by(self) -> str:
        """The AppArmor profile that restricts this process; empty if there is none."""
        profile = self.read("self/attr/current")
        if not profile.endswith("(enforce)") or profile.startswith("unconfined"):
            return ""
        return profile.removesuffix("(enforce)").strip()

    @property
    def restricted(self) -> bool:
        """Whether AppArmor refuses user namespaces to this user, because the user is not root.

        A process that a profile allows them has its name. A container of Docker's has a profile, too, and a filter:
        these refuse them first.
        """
        allowed = self.read("self/attr/current").endswith(" (unconfined)")
        if self.root or allowed or self.filtered or self.confined_by not in ("", "unprivileged_userns"):
            return False
        return self.setting("kernel/apparmor_restrict_unprivileged_userns") == "1"

    def capable(self, *names: str) -> bool:
        """Return whether this process has all of these capabilities in effect (names without CAP_)."""
        mask = capability_mask(names)
        return int(self.status("CapEff") or "0", 16) & mask == mask

    def bounded(self, name: str) -> bool:
        """Return whether a program can gain this capability (name without CAP_), for example by setuid."""
        mask = capability_mask((name,))
        return int(self.status("CapBnd") or "-1", 16) & mask == mask

    def which(self, program: str) -> str | None:
        """Return the path of a program in the absolute directories of the environment's PATH; None if it is in none."""
        return find_program(program, self.environ.get("PATH", os.defpath))

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


NESTED = "containers do not nest: run this in the notebook or the terminal outside the container"
"""The advice for a notebook in a container of this project."""

_RESTRICTED = (
    "AppArmor denies user namespaces to plain users: `nbcontainer doctor --apparmor-profile` prints a profile that "
    "allows them to this interpreter; for all programs: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (as root)"
)

_POD = {"seccomp": "seccompProfile: {type: Unconfined}", "apparmor": "appArmorProfile: {type: Unconfined}"}


def _outer_options(machine: Machine, *refusing: str) -> str:
    """Return the options for an outer container that lift what refuses namespaces, and the covers of /proc."""
    covered = ("systempaths",) if machine.covered("/proc") else ()
    options = [f"{name}=unconfined" for name in (*refusing, *covered)]
    docker = " ".join(f"--security-opt {option}" for option in options)
    dev = ", ".join(f'"--security-opt={option}"' for option in options)
    pod = ", ".join(_POD[name] for name in refusing)
    return (
        f'start the outer container with {docker} (devcontainer.json: "runArgs": [{dev}]; '
        f"pod: securityContext: {{{pod}}})"
    )


def namespace_advice(machine: Machine, code: int = errno.EPERM) -> str:
    """Return how to allow user namespaces, or operations in them, after an error `code` of the kernel."""
    if machine.nested:
        return NESTED
    if not (machine.proc / "self/ns/user").exists():
        return "boot a kernel that is built with user namespaces (CONFIG_USER_NS=y)"
    if not machine.root and machine.setting("kernel/unprivileged_userns_clone") == "0":
        return "allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 (as root)"
    if machine.setting("user/max_user_namespaces") == "0":
        return "allow user namespaces: sysctl -w user.max_user_namespaces=10000 (as root)"
    if code in (errno.ENOSPC, errno.EUSERS):
        return "too many user namespaces are in use, or nested too deep: raise user.max_user_namespaces"
    if machine.restricted:
        return _RESTRICTED
    if machine.confined_by and (code == errno.EACCES or not machine.filtered):
        return f"the AppArmor profile {machine.confined_by} denies it: {_outer_options(machine, 'apparmor')}"
    if machine.filtered:
        confined = ("apparmor",) if machine.confined_by else ()
        return f"a system call filter denies it, as Docker's does: {_outer_options(machine, 'seccomp', *confined)}"
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
    if machine.nested or not machine.covered("/proc"):
        return namespace_advice(machine, code)
    return (
        "mounts cover parts of the host's /proc, as Docker does it: start the outer container with --security-opt "
        'systempaths=unconfined (devcontainer.json: "runArgs": ["--security-opt=systempaths=unconfined"]; '
        "pod: hostUsers: false and securityContext: {procMount: Unmasked})"
    )


def call_advice(machine: Machine, _: int = errno.ENOSYS) -> str:
    """Return what to do if a system call is missing (ENOSYS)."""
    if machine.nested:
        return NESTED
    if machine.version < NEWEST_CALL:
        return "use a kernel of {}.{} or later".format(*NEWEST_CALL)
    return "a system call filter hides it, as an old Docker's does: update the outer container's runtime"


def map_advice(machine: Machine, _: int = errno.EPERM) -> str:
    """Return what to do if the kernel refuses the map of user ids without a visible cause."""
    if machine.nested:
        return NESTED
    if machine.restricted:
        return _RESTRICTED
    if machine.root:
        return "give the notebook the capabilities SETUID and SETGID"
    return "check the user's ranges in /etc/subuid and /etc/subgid: no other user may share them"
