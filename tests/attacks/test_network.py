"""What a cell with a private network does not reach: the host's loopback, through whichever address and program."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox import network
from nbcontainer.sandbox.launcher import Launcher
from nbcontainer.sandbox.network import Tool
from tests.attacks.inside import attempt
from tests.requirements import require_private_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.attacks.attacker import Attacker

SECRET = b"the notebook's own"


@pytest.fixture(params=["pasta", "slirp4netns"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The program that makes the network, as if no other were installed."""
    name: str = request.param
    require_private_network(name)
    monkeypatch.setattr(network, "find_tools", lambda _: [Tool(name, str(shutil.which(name)))])
    return name


@pytest.fixture
def secret() -> Iterator[int]:
    """A server on this machine's loopback, as a notebook's is, that tells a secret to each who comes: its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with server.accept()[0] as one:
                        one.sendall(SECRET)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def ask(addresses: list[str], port: int) -> object:
    """The addresses by which the secret is told."""
    found = []
    for address in addresses:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
            one.settimeout(3)
            try:
                one.connect((address, port))
                if one.recv(100):
                    found.append(address)
            except OSError:
                pass
    return found


def own_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


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
    ways += [network.GATEWAY, network.RESOLVER, network.ADDRESS, "10.0.2.1", "10.0.2.255"]
    assert attack(ask, ways, secret, network="private") == []
    assert "127.0.0.1" in attack(ask, ways, secret, network="host")
    weaken(monkeypatch, "--no-map-gw", "--disable-host-loopback")
    assert network.GATEWAY in attack(ask, ways, secret, network="private")


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
