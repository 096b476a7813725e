"""prctl(2), close_range(2), capset(2), keyctl(2), and the numbers of capabilities."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import struct
from ctypes import c_int, c_ulong
from pathlib import Path
from typing import TYPE_CHECKING

from nbcontainer.linux.libc import check, libc, syscall, unsigned

if TYPE_CHECKING:
    import signal

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_CAPBSET_DROP = 24
PR_SET_NAME = 15
PR_SET_KEEPCAPS = 8
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

# <linux/keyctl.h>
KEYCTL_JOIN_SESSION_KEYRING = 1

# <linux/capability.h>, in the order of their numbers
CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()
_CAPABILITY_VERSION_3 = 0x20080522

libc.prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)
libc.prctl.restype = c_int


def prctl(option: int, argument: int = 0, second: int = 0) -> int:
    """prctl(2)."""
    return check(libc.prctl(option, argument, second, 0, 0), "prctl")


def set_pdeathsig(sig: signal.Signals) -> None:
    """Have the kernel send `sig` when the thread that made this process ends. A change of uid clears this."""
    prctl(PR_SET_PDEATHSIG, sig)


def capability_mask(names: tuple[str, ...]) -> int:
    """Return capability names (without CAP_) as a bit mask. Raises `ValueError` for an unknown name."""
    return sum(1 << CAPABILITIES.index(name) for name in set(names))


@functools.cache
def last_capability() -> int:
    """Return the highest capability number of this kernel (/proc/sys/kernel/cap_last_cap)."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def drop_bounding(keep: int, last: int) -> None:
    """Drop every capability up to number `last` from the bounding set, except those in the mask `keep`."""
    for capability in range(last + 1):
        if not keep >> capability & 1:
            prctl(PR_CAPBSET_DROP, capability)


def clear_ambient() -> None:
    """Empty the ambient set (Linux 4.3)."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def capset(permitted: int, effective: int, inheritable: int) -> None:
    """capset(2) for this thread; the three sets are bit masks."""
    syscall("capset", *capability_sets(permitted, effective, inheritable))


def capability_sets(permitted: int, effective: int, inheritable: int) -> tuple[bytes, bytes]:
    """Return three bit masks as capset(2) takes them: struct __user_cap_header_struct, and two with the data."""
    low, high = (1 << 32) - 1, 32
    sets = (
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    return struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *sets)


def join_session_keyring() -> None:
    """Join a new, anonymous session keyring, for this process and its children (keyctl(2))."""
    syscall("keyctl", unsigned(KEYCTL_JOIN_SESSION_KEYRING), None)


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """close_range(2), Linux 5.9: close the descriptors from `first` to `last`, both included."""
    syscall("close_range", unsigned(first), unsigned(last), unsigned(0))


def close_all_but(keep: tuple[int, ...]) -> None:
    """Close every descriptor from 3 up, except those in `keep`."""
    start = 3
    for fd in sorted(fd for fd in set(keep) if fd >= 3):
        if fd > start:
            close_range(start, fd - 1)
        start = fd + 1
    close_range(start)


def set_name(name: str) -> None:
    """Set the name that ps shows for this process, at most 15 bytes (PR_SET_NAME)."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    check(libc.prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def set_command_line(text: str) -> None:
    """Set the arguments that ps shows for this process and its children, cut to the length of the old ones.

    Nothing of the old ones stays. They are in the process's memory, from arg_start to arg_end (proc_pid_stat(5)).
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    ctypes.memmove(start, os.fsencode(text)[: end - start - 1].ljust(end - start, b"\0"), end - start)


@functools.cache
def counts_by_namespace() -> bool:
    """Return whether the kernel counts a user's processes per user namespace (Linux 5.14, kernel/ucount.c)."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (5, 14)


def nodename() -> str:
    """Return the host name (uname(2))."""
    return os.uname().nodename


def cloexec_from(first: int) -> None:
    """Mark every descriptor from `first` up close-on-exec (CLOSE_RANGE_CLOEXEC, Linux 5.11)."""
    syscall("close_range", unsigned(first), unsigned(0xFFFFFFFF), unsigned(4))


def find_program(name: str, path: str | None = None) -> str | None:
    """Return the path (host) of a program in the directories of `path`, by default PATH; None if it is in none.

    Relative parts of PATH are left out: a container may write to the notebook's directory, and the host would run what
    it left there.
    """
    import shutil  # the launcher imports this module and does not need shutil

    folders = (os.environ.get("PATH", os.defpath) if path is None else path).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(folder for folder in folders if folder.startswith("/")))


def library_path() -> dict[str, str]:
    """Return the variable by which a new process of this Python finds its libraries (ld.so(8)); empty without it.

    A Python of a module system, or of another prefix, does not start without LD_LIBRARY_PATH. Relative parts of it are
    left out, as those of PATH.
    """
    folders = re.split("[:;]", os.environ.get("LD_LIBRARY_PATH", ""))
    found = ":".join(folder for folder in folders if folder.startswith("/"))
    return {"LD_LIBRARY_PATH": found} if found else {}
