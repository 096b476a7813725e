"""Which frames of a private network are dropped, as the kernel itself takes the filter; and where there can be none."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.linux import netdevice
from nbcontainer.linux.bpf import BpfProgram
from nbcontainer.sandbox.network.loopback_filter import FILTER, guard
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>

IPV4, ARP, IPV6, VLAN = b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, with the filter before the second."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(BpfProgram(FILTER)))
        receiver.setblocking(False)
        yield sender, receiver


def passes(ends: tuple[socket.socket, socket.socket], frame: bytes) -> bool:
    ends[0].send(frame)
    try:
        return ends[1].recv(4096) == frame
    except BlockingIOError:
        return False


def to(address: str) -> bytes:
    """A frame with a packet to that address."""
    if ":" in address:
        return bytes(12) + IPV6 + bytes(24) + socket.inet_pton(socket.AF_INET6, address) + bytes(20)
    return bytes(12) + IPV4 + bytes(16) + socket.inet_aton(address) + bytes(20)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::2"],
)
def test_what_goes_to_the_loopback_is_dropped(ends: tuple[socket.socket, socket.socket], address: str) -> None:
    """A packet to any address that a socket of the host's takes for the host itself does not arrive."""
    assert not passes(ends, to(address))


@pytest.mark.parametrize(
    "address",
    [
        *("10.0.2.3", "126.255.255.255", "128.0.0.1", "1.1.1.1", "255.255.255.255", "224.0.0.1"),
        *("64:ff9b::808:808", "2001:db8::1", "fe80::2", "fd00::3", "ff02::2", "1::"),
    ],
)
def test_all_else_passes_whole(ends: tuple[socket.socket, socket.socket], address: str) -> None:
    """A packet to any other address arrives with each of its bytes, and so does a question for one (RFC 826)."""
    assert passes(ends, to(address))
    assert passes(ends, bytes(12) + ARP + bytes(28))


@pytest.mark.parametrize("kind", [VLAN, b"\x88\x64", b"\x00\x20"], ids=["VLAN", "PPPoE", "length"])
def test_other_kinds_are_dropped(ends: tuple[socket.socket, socket.socket], kind: bytes) -> None:
    """A frame with something else, in which a packet may be where nobody looks, does not arrive."""
    assert not passes(ends, bytes(12) + kind + to("10.0.2.3"))


@pytest.mark.parametrize("length", [1, 13, 30, 38])
def test_a_frame_without_an_address_is_dropped(ends: tuple[socket.socket, socket.socket], length: int) -> None:
    """A frame that ends before the address does not arrive."""
    assert not passes(ends, to("10.0.2.3")[: min(length, 30)])
    assert not passes(ends, to("fd00::3")[: min(length, 38)])


def test_who_may_not_trace_the_program_has_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tap cannot be had (Yama, a filter around), the network is refused, with the one thing to do."""

    def refuse(pidfd: int, number: int) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(netdevice, "pidfd_getfd", refuse)
    with pytest.raises(NetworkUnavailable, match="loopback: Operation not permitted") as caught:
        guard(-1, "eth0")
    assert "ptrace_scope" in caught.value.hint


def test_a_program_without_a_tap_has_no_network() -> None:
    """A process with descriptors and none of a tap, as this one, is refused, and leaves none behind here."""
    pidfd = os.pidfd_open(os.getpid())
    before = open_descriptors()
    with pytest.raises(NetworkUnavailable, match="no such interface"):
        guard(pidfd, "eth0")
    assert open_descriptors() == before
    os.close(pidfd)
