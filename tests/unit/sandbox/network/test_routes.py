"""Where this machine's packets go, on machines that this one cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.network.routes import has_ipv4_route, has_ipv6_route

if TYPE_CHECKING:
    from pathlib import Path

IPV4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""

NONE, GATEWAY = "0" * 32, "fd000000000000000000000000000001"


def route(destination: str = NONE, prefix: str = "00", flags: str = "00000003", interface: str = "eth0") -> str:
    """A row of /proc/net/ipv6_route."""
    return f"{destination} {prefix} {NONE} 00 {GATEWAY} 00000400 00000002 00000000 {flags} {interface:>8}\n"


def machine(path: Path, name: str, text: str) -> Machine:
    """A machine with these routes."""
    (path / "self/net").mkdir(parents=True, exist_ok=True)
    (path / "self/net" / name).write_text(text)
    return Machine(path)


def test_ipv4_leads_everywhere_without_destination_and_mask(tmp_path: Path) -> None:
    """By proc_net(5); a machine without IPv4 has no such file."""
    assert not has_ipv4_route(Machine(tmp_path))
    assert has_ipv4_route(machine(tmp_path, "route", IPV4))
    lines = IPV4.splitlines()
    assert not has_ipv4_route(machine(tmp_path, "route", "\n".join([lines[0], lines[2]])))


@pytest.mark.parametrize(
    ("rows", "leads"),
    [
        ("", False),
        (route(), True),
        (route(prefix="03"), False),
        (route(GATEWAY, "80"), False),
        (route(flags="00200200"), False),
        (route(interface="lo"), False),
        (route(flags="00200200", interface="lo") + route(GATEWAY, "40"), False),
        (route(GATEWAY, "40") + route(flags="00200200", interface="lo") + route(), True),
        ("no such table\n", False),
    ],
    ids=["none", "default", "a part", "an address", "a reject", "lo", "an island", "a machine's", "nonsense"],
)
def test_ipv6_leads_everywhere_without_destination(tmp_path: Path, rows: str, leads: bool) -> None:
    """Every machine has a route by `lo` that rejects what no other takes: that one leads nowhere."""
    assert has_ipv6_route(machine(tmp_path, "ipv6_route", rows)) == leads


def test_a_machine_without_ipv6_has_no_such_file(tmp_path: Path) -> None:
    """It is booted with ipv6.disable=1, say."""
    assert not has_ipv6_route(Machine(tmp_path))
