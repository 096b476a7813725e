"""Where this machine's packets go: whether it has IPv4, and IPv6, that leads anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbcontainer.sandbox.diagnosis import Machine

_REJECT = 0x200  # RTF_REJECT, <linux/ipv6_route.h>


def has_ipv4_route(machine: Machine) -> bool:
    """Whether a route in /proc/net/route (proc_net(5)) leads everywhere: its destination and its mask are none."""
    rows = (line.split() for line in machine.read("self/net/route").splitlines()[1:])
    return any(len(row) > 7 and row[1] == row[7] == "00000000" for row in rows)


def has_ipv6_route(machine: Machine) -> bool:
    """Whether a route in /proc/net/ipv6_route (proc_net(5)) leads everywhere, and not into the void, as `lo`'s does."""
    rows = (line.split() for line in machine.read("self/net/ipv6_route").splitlines())
    return any(
        row[0] == "0" * 32 and row[1] == "00" and not int(row[8], 16) & _REJECT and row[9] != "lo"
        for row in rows
        if len(row) > 9
    )
