"""What a cell with a private network does not reach by IPv6: the host's loopback, by whichever address and program."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.network import carrier
from tests.attacks.inside import attempt
from tests.attacks.packets import FIRST, ask, forge, syns
from tests.attacks.test_network import weaken
from tests.networks import free_port, own_ipv6_address, own_link_addresses, telling
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.attacker import Attacker

LOOPBACK = ["::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0.0.0.0"]
"""What a socket of the host's takes for this machine's loopback (RFC 4291), or may."""

LINK = ["fe80::1", "fe80::2"]
"""The gateway's addresses on the link, as libslirp and pasta have them, beside this machine's own."""

INSIDE = [carrier.GATEWAY6, carrier.RESOLVER6, carrier.ADDRESS6, "fd00::1", "fd00::ffff", "ff02::1"]
"""What is in the container's own network. Of pasta's, this machine may have an address too, as fd00::2."""


@pytest.fixture
def address(tool: str) -> Iterator[str]:
    """An address of this machine's that everybody may reach."""
    with own_ipv6_address(tool) as found:
        yield found


@pytest.fixture
def secret() -> Iterator[int]:
    """A server on this machine's loopback, by both kinds of address, that tells a secret to each who comes: its port.

    One socket is at ::1, and one at 127.0.0.1 for what is mapped.
    """
    port = free_port()
    with telling("::1", port), telling("127.0.0.1", port):
        yield port


def test_the_hosts_loopback_is_out_of_reach_by_ipv6(
    attack: Attacker, tool: str, secret: int, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By no address of the network's, of the host's or of nobody's, the interface's own way neither; with the program's
    mapping, by the gateway's."""
    ways = [*LOOPBACK, address, *LINK, *own_link_addresses(), *INSIDE]
    for by_the_interface in (False, True):
        assert attack(ask, ways, secret, by_the_interface, network="private") == []
    assert attack(ask, ["::1"], secret, False, DEADLINE, network="host") == ["::1"]
    weaken(monkeypatch, "--no-map-gw", "--disable-host-loopback")
    assert attack(ask, [carrier.GATEWAY6], secret, False, DEADLINE, network="private") == [carrier.GATEWAY6]


def send_by_the_interface6(addresses: list[str], port: int) -> object:
    """What comes back of datagrams to each, the last of which is answered.

    They are from a socket that is bound to the interface and so past the routes.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, 25, b"eth0\0")  # SO_BINDTODEVICE
        one.settimeout(20)
        for address in addresses:
            attempt(one.sendto, address.encode(), (address, port))
        return one.recv(100).decode()


def test_no_datagram_gets_to_the_hosts_loopback_by_ipv6(
    attack: Attacker, tool: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does what any cell may send by the interface; without the filter, it does."""
    with contextlib.ExitStack() as stack:
        inner, mapped, outer = (
            stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            for family in (socket.AF_INET6, socket.AF_INET, socket.AF_INET6)
        )
        port = free_port(socket.SOCK_DGRAM)
        inner.bind(("::1", port))
        mapped.bind(("127.0.0.1", port))
        outer.bind((address, port))
        outer.settimeout(DEADLINE)
        inner.setblocking(False)
        mapped.setblocking(False)

        def answer() -> None:
            outer.sendto(*outer.recvfrom(100))

        def arrived() -> set[str]:
            thread = threading.Thread(target=answer)
            thread.start()
            ways = [*(way for way in (*LOOPBACK, *INSIDE) if way != address), address]
            assert attack(send_by_the_interface6, ways, port, network="private") == address
            thread.join()
            found = set()
            for one in (inner, mapped):
                while isinstance(said := attempt(one.recv, 100), bytes):
                    found.add(said.decode())
            return found

        assert arrived() == set()
        monkeypatch.setattr(carrier, "guard", lambda *_: None)
        assert {"::1", "::ffff:127.0.0.1"} <= arrived()


def test_forged_ipv6_packets_do_not_reach_the_hosts_loopback(
    attack: Attacker, tool: str, secret: int, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the capabilities to make packets, none gets through to the loopback; without the filter, they do."""
    powers = ("NET_RAW", "NET_ADMIN")
    with socket.create_server((address, secret), family=socket.AF_INET6):
        ways = [*LOOPBACK, *LINK, *own_link_addresses(), *INSIDE, address]
        sent = (ways, syns(carrier.ADDRESS6, ways, secret), FIRST)
        assert attack(forge, *sent, network="private", capabilities=powers) == [address]
        monkeypatch.setattr(carrier, "guard", lambda *_: None)
        assert "::1" in attack(forge, *sent, network="private", capabilities=powers)
