"""Tap devices (Documentation/networking/tuntap.rst) by their descriptors, also of another process."""

from __future__ import annotations

import fcntl
import struct

from nbcontainer.linux.bpf import Program
from nbcontainer.linux.libc import int_, syscall, unsigned

# <linux/if_tun.h>
TUNGETIFF = 0x800454D2
TUNATTACHFILTER = 0x401054D5

_IFREQ = struct.Struct("16sh22x")  # struct ifreq


def pidfd_getfd(pidfd: int, number: int) -> int:
    """A descriptor of the file that a process has as `number`, for the caller to close: pidfd_getfd(2), Linux 5.6.

    Raises `OSError`: EBADF where it has none, EPERM for who may not trace that process.
    """
    return syscall("pidfd_getfd", int_(pidfd), int_(number), unsigned(0))


def interface_name(fd: int) -> str | None:
    """The name of the interface that a descriptor is the other end of; None for a descriptor of anything else."""
    try:
        answer = fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size))
    except OSError:
        return None
    return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())


def attach_filter(fd: int, program: bytes) -> None:
    """Has the kernel drop what leaves by a tap's interface and for which `program` (`bpf.pack`) returns 0.

    It holds for the open file, whoever has it, until that is closed. Raises `OSError`.
    """
    fcntl.ioctl(fd, TUNATTACHFILTER, bytes(Program(program)))
