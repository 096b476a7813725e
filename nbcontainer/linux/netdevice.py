"""netdevice(7), rtnetlink(7) and tap devices: configuration of a container's network."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from nbcontainer.linux.bpf import BpfProgram
from nbcontainer.linux.libc import int_, syscall, unsigned

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

# <linux/rtnetlink.h>, <linux/netlink.h>, <linux/if_addr.h>
_NEW_ADDRESS, _NEW_ROUTE = 20, 24
_LOCAL, _GATEWAY, _OUTPUT = 2, 5, 4  # IFA_LOCAL, RTA_GATEWAY, RTA_OIF
_REQUEST = 1 | 4 | 0x400  # NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE
_NO_DETECTION = 2  # IFA_F_NODAD
_MAIN, _STATIC, _UNICAST = 254, 4, 1  # RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST

_PREFIX = 64
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr


def raise_interface(name: str) -> None:
    """Set the interface up (SIOCSIFFLAGS) in this network namespace. Raises `OSError`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        request = struct.pack("16sh22x", name.encode(), 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sh22x", name.encode(), flags | IFF_UP))


def add_ipv6(name: str, address: str, gateway: str) -> None:
    """Give an interface an IPv6 address in a /64, usable at once, and a default route by a gateway in that /64.

    An address or a route that exists already is left alone. Raises `OSError`: EACCES if the interface has no IPv6.
    """
    index = socket.if_nametoindex(name)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        # Duplicate address detection would take a second, and no other host is on the link.
        body = struct.pack("=BBBBI", socket.AF_INET6, _PREFIX, _NO_DETECTION, 0, index)  # struct ifaddrmsg
        _ask(kernel, _NEW_ADDRESS, body + _attribute(_LOCAL, socket.inet_pton(socket.AF_INET6, address)))
        body = struct.pack("=8BI", socket.AF_INET6, 0, 0, 0, _MAIN, _STATIC, 0, _UNICAST, 0)  # struct rtmsg
        body += _attribute(_GATEWAY, socket.inet_pton(socket.AF_INET6, gateway))
        _ask(kernel, _NEW_ROUTE, body + _attribute(_OUTPUT, struct.pack("=I", index)))


def _attribute(kind: int, value: bytes) -> bytes:
    """Return one struct rtattr with its value, whose length must be a multiple of four."""
    return struct.pack("=HH", 4 + len(value), kind) + value


def _ask(kernel: socket.socket, kind: int, body: bytes) -> None:
    """Send one rtnetlink request and receive its answer. Raises its `OSError`, except EEXIST."""
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST, 1, 0) + body)
    code = -struct.unpack_from("=i", kernel.recv(4096), _HEADER.size)[0]  # struct nlmsgerr
    if code not in (0, errno.EEXIST):
        raise OSError(code, os.strerror(code))


# <linux/if_tun.h>
TUNGETIFF = 0x800454D2
TUNATTACHFILTER = 0x401054D5
_IFREQ = struct.Struct("16sh22x")  # struct ifreq


def pidfd_getfd(pidfd: int, number: int) -> int:
    """pidfd_getfd(2), Linux 5.6: return a copy of descriptor `number` of another process. The caller closes it.

    Raises `OSError`: EBADF if there is no such descriptor, EPERM if this process may not trace the other.
    """
    return syscall("pidfd_getfd", int_(pidfd), int_(number), unsigned(0))


def interface_name(fd: int) -> str | None:
    """Return the name of the interface that a tap's descriptor belongs to; None for any other descriptor."""
    try:
        answer = fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size))
    except OSError:
        return None
    return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())


def attach_filter(fd: int, program: bytes) -> None:
    """Drop the packets that leave by a tap's interface and for which `program` (`bpf.pack`) returns 0.

    The filter stays on the open file until it is closed, in all processes that have it. Raises `OSError`.
    """
    fcntl.ioctl(fd, TUNATTACHFILTER, bytes(BpfProgram(program)))
