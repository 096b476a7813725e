"""What a private network is made by, on machines that this one cannot be."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.network import carrier
from nbcontainer.sandbox.network.carrier import Tool, advice
from nbcontainer.sandbox.network.private import find_tools, resolver_text

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""

ROUTES6 = f"{0:032x} 00 {0:032x} 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0\n"


def machine(path: Path) -> Machine:
    """A machine whose files are below a directory."""
    for name in ("proc/self/net", "etc", "bin", "dev"):
        (path / name).mkdir(parents=True, exist_ok=True)
    return Machine(path / "proc", path / "etc", {"PATH": str(path / "bin")}, dev=path / "dev")


def install(path: Path, name: str, says: str = "") -> None:
    """A program that prints a text."""
    program = path / "bin" / name
    program.write_text(f"#!/bin/sh\necho ' {says}'\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("installed", "order"),
    [
        ({}, []),
        ({"slirp4netns": ""}, ["slirp4netns"]),
        ({"slirp4netns": "", "pasta": "--map-host-loopback ADDR"}, ["pasta", "slirp4netns"]),
        ({"slirp4netns": "", "pasta": "--no-map-gw"}, ["slirp4netns", "pasta"]),
        ({"pasta": "--no-map-gw"}, ["pasta"]),
    ],
)
def test_a_recent_pasta_comes_first(tmp_path: Path, installed: dict[str, str], order: list[str]) -> None:
    """Then slirp4netns, and at last a pasta that has faults which the others have not."""
    here = machine(tmp_path)
    for name, says in installed.items():
        install(tmp_path, name, says)
    assert [tool.name for tool in find_tools(here)] == order


def test_a_pasta_that_cannot_be_run_is_not_taken_for_a_recent_one(tmp_path: Path) -> None:
    """It comes last, and says itself what is wrong with it."""
    here = machine(tmp_path)
    broken = tmp_path / "bin/pasta"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    assert find_tools(here) == [Tool("pasta", str(broken), recent=False)]


def test_the_resolver_is_the_networks_and_the_search_is_the_hosts(tmp_path: Path) -> None:
    """The host's own resolvers, which may be on its loopback, are asked by the program and not by the container."""
    here = machine(tmp_path)
    assert resolver_text(here) == "nameserver 10.0.2.3\n"
    said = "# comment\nnameserver 127.0.0.53\nsearch a.example b.example\noptions edns0 ndots:2\n"
    (tmp_path / "etc/resolv.conf").write_text(said)
    assert resolver_text(here) == "nameserver 10.0.2.3\nsearch a.example b.example\noptions edns0 ndots:2\n"
    (tmp_path / "etc/resolv.conf").write_bytes(b"search \xff\n")
    assert resolver_text(here) == "nameserver 10.0.2.3\n"


@pytest.mark.parametrize(
    ("device", "routes", "said"),
    [
        (None, ROUTES, "modprobe tun (as root)"),
        (stat.S_IFCHR | 0o600, ROUTES, "chmod 666"),
        (stat.S_IFREG | 0o666, ROUTES, "chmod 666"),
        (stat.S_IFCHR | 0o666, "\n".join([*ROUTES.splitlines()[:1], *ROUTES.splitlines()[2:]]), "no default route"),
        (stat.S_IFCHR | 0o666, "", "no default route"),
        (stat.S_IFCHR | 0o666, ROUTES, ""),
    ],
    ids=["no tun", "tun is root's", "tun is a file", "a route of its own", "no routes", "nobody knows"],
)
def test_what_a_program_lacks_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: int | None, routes: str, said: str
) -> None:
    """The device that everybody must be able to open, and the route that pasta wants."""
    here = machine(tmp_path)
    (tmp_path / "proc/self/net/route").write_text(routes)
    if device is not None:
        facts = os.stat_result((device, *[0] * 9))
        (tmp_path / "dev/net").mkdir()
        (tmp_path / "dev/net/tun").touch()
        whole = type(tmp_path).stat
        monkeypatch.setattr(
            type(tmp_path), "stat", lambda path, **kw: facts if path.name == "tun" else whole(path, **kw)
        )
    found = advice(here)
    assert said in found
    assert bool(found) == bool(said)


def test_a_machine_with_ipv6_alone_has_another_resolver(tmp_path: Path) -> None:
    """After the usual one, which slirp4netns has there too; pasta says nothing by IPv4 then."""
    here = machine(tmp_path)
    (tmp_path / "proc/self/net/ipv6_route").write_text(ROUTES6)
    assert resolver_text(here) == "nameserver 10.0.2.3\nnameserver fd00::3\n"
    (tmp_path / "proc/self/net/route").write_text(ROUTES)
    assert resolver_text(here) == "nameserver 10.0.2.3\n"


def test_ipv6_is_a_way_out(tmp_path: Path) -> None:
    """pasta lacks no route on a machine that has that alone."""
    here = machine(tmp_path)
    (tmp_path / "dev/net").mkdir()
    (tmp_path / "dev/net/tun").symlink_to("/dev/null")
    assert "no default route" in advice(here)
    (tmp_path / "proc/self/net/ipv6_route").write_text(ROUTES6)
    assert advice(here) == ""


def test_addresses_are_the_same_by_either_program() -> None:
    """slirp4netns(1)'s own, which it takes no words for."""
    assert (carrier.ADDRESS, carrier.GATEWAY, carrier.RESOLVER) == ("10.0.2.100", "10.0.2.2", "10.0.2.3")
    assert (carrier.ADDRESS6, carrier.GATEWAY6, carrier.RESOLVER6) == ("fd00::100", "fd00::2", "fd00::3")
