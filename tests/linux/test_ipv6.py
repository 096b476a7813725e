"""IPv6 of `--network private` on the real kernel, by pasta and by slirp4netns: what a cell has of it, and reaches."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import SetupFailed
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.network import carrier, pasta, private, slirp4netns
from nbcontainer.sandbox.steps.network import AddAddress
from tests.attacks.attacker import Attacker
from tests.linux.made import IPV4, IPV6
from tests.networks import asking, greeting, own_address, own_ipv6_address
from tests.requirements import require, require_ipv6
from tests.running import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.containers.engine import Engine
    from tests.running import Ran

    Cell = Callable[..., Ran]
    Made = Callable[..., dict[str, str]]

PRIVATE = {"network": "private"}

BOTH = pytest.mark.parametrize("name", ["pasta", "slirp4netns"])

SHOW = "ip -6 addr show eth0 | grep -o 'inet6 [^f].*\\|inet6 f[^e].*'; ip -6 route | grep -o 'default via [^ ]*'"
"""A script that shows what a cell has but the link's own addresses (fe80::/10)."""


@pytest.fixture
def address(tool: str) -> Iterator[str]:
    """An IPv6 address of this machine's that a cell may reach by that program."""
    with own_ipv6_address(tool) as found:
        yield found


def test_a_cell_has_an_address_that_it_can_use_at_once(cell: Cell, tool: str) -> None:
    """Before its first word, the same by either program, and not one that is still to be asked for."""
    require_ipv6()
    ran = cell(SHOW, **PRIVATE)
    assert ran.lines[0].startswith(f"inet6 {carrier.ADDRESS6}/64 scope global")
    assert "tentative" not in ran.lines[0]
    assert ran.lines[1:] == [f"default via {carrier.GATEWAY6}"]


def test_a_cell_has_no_other_address_later(cell: Cell, tool: str) -> None:
    """No router is asked for one when the link's own address is known to be nobody else's; pasta is none."""
    require_ipv6()
    if tool == "pasta":
        pytest.skip("pasta is told to send no advertisements")
    require("/proc/sys", available="/proc/sys" not in Machine().covered("/proc"), why="nobody may write settings here")
    assert cell("cat /proc/sys/net/ipv6/conf/eth0/accept_ra", **PRIVATE).text == "0"


def test_a_cell_reaches_servers_by_ipv6(cell: Cell, tool: str, address: str) -> None:
    """A server on this machine's own address answers; without a network it cannot be asked."""
    with greeting(address) as port:
        assert cell(asking(address, port), **PRIVATE).text == "hello"
        assert cell(asking(address, port)).text == ""


ASK = """
import socket, sys
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.settimeout(1)
for _ in range(int(sys.argv[3])):
    client.sendto(b"abc", (sys.argv[1], int(sys.argv[2])))
    try:
        answer, sender = client.recvfrom(100)
    except TimeoutError:
        continue
    print(answer.decode(), sender[0])
    break
"""
"""Asks once a second: a datagram can be lost."""


def test_a_datagram_is_answered_by_ipv6(engine: Engine, cell: Cell, tmp_path: Path, tool: str, address: str) -> None:
    """It goes out, and the answer comes back from where it went to."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        server.settimeout(DEADLINE)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                data, sender = server.recvfrom(100)
                server.sendto(data[::-1], sender)

        thread = threading.Thread(target=serve)
        thread.start()
        image = Attacker(engine, tmp_path).image
        ran = cell(f"python3 -c '{ASK}' {address} {server.getsockname()[1]} {DEADLINE:.0f}", image=image, **PRIVATE)
        ended.set()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as last:  # ends the wait of the thread
            last.sendto(b"", server.getsockname()[:2])
            thread.join()
    assert ran.text == f"cba {address}", ran.stderr


def test_without_a_route_there_is_no_ipv6(cell: Cell, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine's IPv6 leads nowhere a cell has no address of it, and IPv4 as ever."""
    for module in (private, pasta, slirp4netns):
        monkeypatch.setattr(module, "has_ipv6_route", lambda _: False)
    with greeting(own_address()) as port:
        ran = cell(f"{SHOW}; {asking(own_address(), port)}", **PRIVATE)
    assert ran.lines == ["hello"]


def test_an_address_that_is_refused_is_no_cell(cell: Cell, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says is said, nothing of the cell has run, and the next one runs."""
    require_ipv6()
    if tool == "pasta":
        pytest.skip("pasta sets the address itself")
    with monkeypatch.context() as patch:
        patch.setattr(slirp4netns, "AddAddress", lambda _, *rest: AddAddress("eth7", *rest))
        with pytest.raises(
            SetupFailed, match=r"^cannot give the container an IPv6 address: .*[Nn]o .*(device|interface)"
        ):
            cell("echo run", **PRIVATE)
    assert cell("echo run", **PRIVATE).text == "run"


# On a machine that is made for it


@BOTH
def test_names_are_asked_by_ipv6_too(made: Made, name: str) -> None:
    """A server outside is asked over UDP by IPv6; the usual resolver has addresses of both kinds."""
    said = made("nslookup some.made.example 2001:db8::1; nslookup some.made.example", name, route=f"{IPV4}; {IPV6}")
    assert said["stdout"].count("Address: 2001:db8::1\n") == 2, said
    assert said["stdout"].count("Address: 203.0.113.1\n") == 2, said


@BOTH
def test_a_machine_with_ipv6_alone_will_do(made: Made, name: str) -> None:
    """A cell has its address there, and names resolve by a resolver on the machine's loopback that has IPv6 alone."""
    script = f"{SHOW}; cat /etc/resolv.conf; nslookup some.made.example {carrier.RESOLVER6}"
    said = made(script, name, route=IPV6, resolver="::1")
    assert f"inet6 {carrier.ADDRESS6}/64" in said["stdout"], said
    assert f"nameserver {carrier.RESOLVER}\nnameserver {carrier.RESOLVER6}\nsearch made.example\n" in said["stdout"]
    assert "Address: 2001:db8::1\n" in said["stdout"], said


@BOTH
def test_a_machine_with_ipv4_alone_has_no_ipv6(made: Made, name: str) -> None:
    """An address without a route to elsewhere is not enough."""
    said = made(f"{SHOW}; ip route", name, route=f"{IPV4}; {IPV6.partition(';')[0]}")
    assert "inet6" not in said["stdout"]
    assert said["stdout"].startswith(f"default via {carrier.GATEWAY}")
