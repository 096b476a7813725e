"""Counters of a network namespace and processes, as /proc shows them."""

from __future__ import annotations

import os

import pytest

from nbcontainer.linux import procfs

_SNMP = """Ip: Forwarding OutNoRoutes
Ip: 1 {}
Tcp: AttemptFails OutRsts
Tcp: {} {}
Udp: InDatagrams NoPorts
Udp: 0 {}
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (_SNMP.format(0, 0, 0, 0), {}),
        (_SNMP.format(2, 0, 0, 3), {"no_route": 2, "no_port": 3}),
        (_SNMP.format(0, 1, 1, 0), {"refused": 1}),
        (_SNMP.format(0, 1, 0, 0), {}),
        (_SNMP.format("-1", "x", "9" * 50, "²"), {}),
        ("Ip: OutNoRoutes", {}),
        ("", {}),
    ],
)
def test_counters_of_a_network_are_read(text: str, found: dict[str, int]) -> None:
    """Those that are not 0; text that is not the kernel's gives none."""
    assert procfs.unreached_in(text.encode()) == found


def test_counters_of_a_dead_process_are_none() -> None:
    """A process that is gone has no namespace to read."""
    assert procfs.unreached(2**22 + 1) == {}


def test_a_zombie_has_ended() -> None:
    """A process that has ended and is not reaped has no birth, so that nothing takes it for a running one."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        assert procfs.birth(pid) == ""
    finally:
        os.waitpid(pid, 0)
