"""What the program of a private network is not handed: what a container sends to the loopback of the host.

pasta and slirp4netns connect to whatever a packet says, from the host's network. Their options close their own ways to
its loopback; but a cell can bind a socket to the interface (SO_BINDTODEVICE, socket(7)), or with NET_RAW forge a
packet, and send to 127.0.0.1 by it. So the kernel drops that at the tap, which the container has no hand on.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.linux import netdevice
from nbcontainer.linux.bpf import JUMP_EQUAL, LOAD, LOAD_BYTE, LOAD_HALF, RETURN, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD  # <linux/if_ether.h>
_TYPE, _IPV4_TARGET, _IPV6_TARGET = 12, 14 + 16, 14 + 24  # offsets in an Ethernet frame: RFC 894, 791, 8200

FILTER = pack(
    [
        (LOAD_HALF, 0, 0, _TYPE),
        (JUMP_EQUAL, 8, 0, _ARP),
        (JUMP_EQUAL, 4, 0, _IPV6),
        (JUMP_EQUAL, 0, 5, _IPV4),
        (LOAD_BYTE, 0, 0, _IPV4_TARGET),
        (JUMP_EQUAL, 3, 0, 127),
        (JUMP_EQUAL, 2, 3, 0),
        (LOAD, 0, 0, _IPV6_TARGET),
        (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, 0xFFFFFFFF),
    ]
)
"""Lets through, of the frames that leave a container, ARP and what goes to other addresses than those that a socket of
the host's takes for this machine: 127.0.0.0/8, 0.0.0.0/8 (Linux has 0.0.0.0 be the loopback), and of IPv6 ::/32, where
::1, :: and every IPv4 address (::ffff:127.0.0.1, RFC 4291) are."""

_DESCRIPTORS = 256  # programs of the kind have a dozen

_HINT = "kernel.yama.ptrace_scope must be below 3, and an outer container must let pidfd_getfd be called"


def guard(pidfd: int, interface: str) -> None:
    """Put the filter on the tap of a program that carries a network, before a cell is there to send anything.

    `interface` is its name in the container. Raises `NetworkUnavailable` where that cannot be done.
    """
    try:
        for fd in _descriptors(pidfd):
            if netdevice.interface_name(fd) == interface:
                netdevice.attach_filter(fd, FILTER)
                return
        raise OSError(errno.ENODEV, "its program has no such interface")
    except OSError as error:
        why = f"cannot close the way from a private network to the host's loopback: {error.strerror}"
        raise NetworkUnavailable(why, hint=_HINT if error.errno == errno.EPERM else "") from None


def _descriptors(pidfd: int) -> Iterator[int]:
    """A process's descriptors one after another, each closed when the next is asked for. Raises `OSError`."""
    for number in range(_DESCRIPTORS):
        try:
            fd = netdevice.pidfd_getfd(pidfd, number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            continue
        try:
            yield fd
        finally:
            os.close(fd)
