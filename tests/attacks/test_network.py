"""What a cell with a private network does not reach: the host's loopback, through whichever address and program."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox.launcher.client import Launcher
from nbcontainer.sandbox.network import carrier
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from tests.attacks.inside import attempt
from tests.attacks.packets import FIRST, ask, forge, syn, syns
from tests.networks import free_port, own_address, telling
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.attacks.attacker import Attacker


@pytest.fixture
def secret() -> Iterator[int]:
    """A server on this machine's loopback, as a notebook's is, that tells a secret to each who comes: its port."""
    with telling("127.0.0.1", free_port()) as port:
        yield port


def weaken(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Has the program started without these options."""
    whole = Launcher.help

    def help_weakly(self: Launcher, running: Any, path: str, argv: Sequence[str], files: Sequence[int]) -> int:
        return whole(self, running, path, [word for word in argv if word not in options], files)

    monkeypatch.setattr(Launcher, "help", help_weakly)


def test_the_hosts_loopback_is_out_of_reach(
    attack: Attacker, tool: str, secret: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no address of the network's, of the host's or of nobody's; with the program's mapping, by the gateway's."""
    ways = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", own_address()]
    ways += [carrier.GATEWAY, carrier.RESOLVER, carrier.ADDRESS, "10.0.2.1", "10.0.2.255"]
    for by_the_interface in (False, True):
        assert attack(ask, ways, secret, by_the_interface, network="private") == []
    assert attack(ask, ["127.0.0.1"], secret, False, DEADLINE, network="host") == ["127.0.0.1"]
    weaken(monkeypatch, "--no-map-gw", "--disable-host-loopback")
    assert attack(ask, [carrier.GATEWAY], secret, False, DEADLINE, network="private") == [carrier.GATEWAY]


def open_raw() -> object:
    """What the ways to make packets of one's own are answered with: an errno, or None."""
    said = []
    for family, protocol in ((socket.AF_PACKET, 0), (socket.AF_INET, socket.IPPROTO_RAW), (socket.AF_INET, 1)):
        made = attempt(socket.socket, family, socket.SOCK_RAW, protocol)
        said.append(made if isinstance(made, str) else None)
    return said


def test_packets_cannot_be_forged_in_a_private_network(attack: Attacker, tool: str) -> None:
    """No raw socket, for root in it neither; with the capability for it, which a person may add, there are."""
    assert None not in attack(open_raw, network="private")
    assert None in attack(open_raw, network="private", capabilities=("NET_RAW",))


@pytest.fixture
def open_to_all(secret: int) -> Iterator[str]:
    """The address of this machine's that everybody may reach, where a server has the same port: what comes back from
    there in a second round says that nothing more comes of the first."""
    address = own_address()
    with socket.create_server((address, secret)):
        yield address


def test_forged_packets_do_not_reach_the_hosts_loopback(
    attack: Attacker, tool: str, secret: int, open_to_all: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the capabilities to make packets, none gets through to the loopback; without the filter, they do."""
    ways = ["127.0.0.1", "0.0.0.0", "255.255.255.255", carrier.GATEWAY, carrier.RESOLVER, carrier.ADDRESS, open_to_all]
    sent = (ways, syns(carrier.ADDRESS, ways, secret), FIRST)
    powers = ("NET_RAW", "NET_ADMIN")
    assert attack(forge, *sent, network="private", capabilities=powers) == [open_to_all]
    monkeypatch.setattr(carrier, "guard", lambda *_: None)
    assert {"127.0.0.1", "0.0.0.0"} <= set(attack(forge, *sent, network="private", capabilities=powers))


def change_behind_the_filter(packets: list[str], first: str, then: str) -> object:
    """The addresses that answer such packets while their targets change from one to the other, in memory that is
    shared with the kernel (packet_mmap.rst); or what that is refused with."""
    sender, wire = (socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(0x0800)) for _ in range(2))
    for one in (sender, wire):
        one.bind(("eth0", 0x0800))
    size, start, before_target = 2048, 32, 30  # bytes of a frame's place, and from there to it, and in it
    ring = struct.pack("IIII", 4096, len(packets) * size // 4096, size, len(packets))
    asked = attempt(sender.setsockopt, 263, 13, ring)  # SOL_PACKET, PACKET_TX_RING
    if asked is not None:
        return asked
    memory = mmap.mmap(sender.fileno(), len(packets) * size)
    places = range(0, len(packets) * size, size)
    for place, packet in zip(places, packets, strict=True):
        memory.seek(place + start)
        memory.write(b"\xff" * 6 + wire.getsockname()[4] + b"\x08\x00" + bytes.fromhex(packet))
    child = os.fork()
    while child == 0:
        for address in (first, then):
            for place in places:
                memory.seek(place + start + before_target)
                memory.write(socket.inet_aton(address))
    answered = set()
    until = time.monotonic() + 30
    wire.settimeout(0.02)
    while then not in answered and time.monotonic() < until:
        for place in places:
            struct.pack_into("I", memory, place + 8, 14 + len(packets[0]) // 2)
            struct.pack_into("Q", memory, place, 1)  # TP_STATUS_SEND_REQUEST
        attempt(sender.send, b"")
        with contextlib.suppress(TimeoutError):
            while frame := wire.recv(2048):
                answered.add(socket.inet_ntoa(frame[26:30]))
    os.kill(child, signal.SIGKILL)
    return sorted(answered)


def test_no_frame_is_changed_behind_the_filter(attack: Attacker, tool: str, secret: int) -> None:
    """What the filter has seen stays as it is: nothing is sent from memory that a cell can write to meanwhile. Where it
    can be, a cell with NET_RAW gets to the loopback."""
    packets = [syn(carrier.ADDRESS, "127.0.0.1", 20000 + number, secret).hex() for number in range(32)]
    ways = (packets, "198.51.100.1", "127.0.0.1")
    powers = ("NET_RAW", "NET_ADMIN")
    assert attack(change_behind_the_filter, *ways, network="private", capabilities=powers) == "EPERM"
    without = (InstallSeccomp,)
    found = attack(change_behind_the_filter, *ways, network="private", capabilities=powers, without=without)
    assert "127.0.0.1" in found


def send_by_the_interface(addresses: list[str], port: int) -> object:
    """What comes back of datagrams to each, the last of which is answered.

    They are from a socket that is bound to the interface and so past the routes.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, 25, b"eth0\0")  # SO_BINDTODEVICE
        one.settimeout(20)
        for address in addresses:
            attempt(one.sendto, address.encode(), (address, port))
        return one.recv(100).decode()


def test_no_datagram_gets_to_the_hosts_loopback(attack: Attacker, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what any cell may send by the interface; without the filter, it does."""
    inner, outer = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with inner, outer:
        inner.bind(("127.0.0.1", 0))
        port = inner.getsockname()[1]
        outer.bind((own_address(), port))
        outer.settimeout(DEADLINE)
        inner.setblocking(False)
        ways = ["127.0.0.1", own_address()]

        def answer() -> None:
            outer.sendto(*outer.recvfrom(100))

        def arrived() -> bool:
            thread = threading.Thread(target=answer)
            thread.start()
            assert attack(send_by_the_interface, ways, port, network="private") == own_address()
            thread.join()
            return bool(attempt(inner.recv, 100) == b"127.0.0.1")

        assert not arrived()
        monkeypatch.setattr(carrier, "guard", lambda *_: None)
        assert arrived()
