"""Test doubles of places where notebooks run: `python -m tests.places KIND MASKS PROGRAM…` runs a program in one.

Each masks /proc as podman, Docker and containerd do, in a mount namespace of its own.
"""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from pathlib import Path

from nbcontainer.linux import mounts
from nbcontainer.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, clone, unshare, write_id_maps
from nbcontainer.linux.process import PR_SET_DUMPABLE, capability_mask, drop_bounding, last_capability, prctl
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.userns.idmap import COUNT

MASKS = {
    "podman": "acpi kcore keys latency_stats timer_list timer_stats sched_debug scsi",
    "docker": "asound acpi interrupts kcore keys latency_stats timer_list timer_stats sched_debug scsi",
    "containerd": "acpi asound kcore keys latency_stats timer_list timer_stats sched_debug scsi",
}
"""The parts of /proc that each covers (default specs of containers/common, moby and containerd)."""

_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


class Kind(enum.StrEnum):
    """The rights of root in a place."""

    ADMIN = "admin"
    """All capabilities, no user namespace (`--cap-add SYS_ADMIN`)."""
    ROOTFUL = "rootful"
    """Docker's capabilities, no user namespace."""
    ROOTLESS = "rootless"
    """Docker's capabilities, in a user namespace; a plain user has a single id there."""


LEVELS = {
    Kind.ADMIN: ProcLevel.NOTEBOOK,
    Kind.ROOTFUL: ProcLevel.OUTER,
    Kind.ROOTLESS: ProcLevel.OUTER,
}
"""The level of a notebook in a place."""

_KEPT = (*DEFAULT_CAPABILITIES, "MKNOD", "NET_RAW", "AUDIT_WRITE")


def kinds() -> list[Kind]:
    """Return the kinds of places that this user can make."""
    return list(Kind) if os.geteuid() == 0 else [Kind.ROOTLESS]


def program(kind: Kind, masks: str, *argv: str) -> list[str]:
    """Return the words that run a program in a place of this kind, with the masks of that name."""
    return [sys.executable, "-m", "tests.places", kind, masks, *argv]


def run(kind: Kind, masks: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python script in a place, with this interpreter, from the project's directory."""
    words = program(kind, masks, sys.executable, "-c", script, *arguments)
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])


def _mask(names: str) -> None:
    for name in names.split():
        path = Path("/proc", name)
        if path.is_dir():
            mounts.mount("tmpfs", str(path), "tmpfs", mounts.MS_RDONLY, "size=0k")
        elif path.exists():
            mounts.mount("/dev/null", str(path), None, mounts.MS_BIND, None)
    for name in _READ_ONLY:
        path = Path("/proc", name)
        if path.exists():
            mounts.mount(str(path), str(path), None, mounts.MS_BIND | mounts.MS_REC, None)
            mounts.mount_setattr(mounts.AT_FDCWD, str(path), 0, attr_set=mounts.MOUNT_ATTR_RDONLY)


def _enter_userns() -> None:
    """Go on in a child with a user namespace of its own, in which root has the ids of this process, or its own id."""
    ours, theirs = os.pipe()
    ready, begun = os.pipe()
    pid = clone(CLONE_NEWUSER | CLONE_NEWNS)
    if pid == 0:
        prctl(PR_SET_DUMPABLE, 1)
        os.write(begun, b"r")
        os.read(ours, 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        return
    os.read(ready, 1)
    if os.geteuid() == 0:
        write_id_maps(pid, ((0, 0, COUNT),), ((0, 0, COUNT),))
    else:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        write_id_maps(pid, ((0, os.getuid(), 1),), ((0, os.getgid(), 1),))
    os.write(theirs, b"w")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)


def main(kind: str, masks: str, *argv: str) -> None:
    """Become the program in the place."""
    if kind == Kind.ROOTLESS:
        _enter_userns()
    else:
        unshare(CLONE_NEWNS)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_SLAVE, None)
    _mask(MASKS[masks])
    if kind != Kind.ADMIN:
        drop_bounding(capability_mask(_KEPT), last_capability())
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
