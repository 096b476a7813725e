"""Counters of a network namespace and processes, as /proc shows them."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux import procfs

if TYPE_CHECKING:
    from pathlib import Path

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


def test_mounts_have_whatever_names(tmp_path: Path) -> None:
    """A name in the list of mounts can have any bytes but a space and the end of a line, which the kernel escapes."""
    line = b"30 1 0:5 / /mnt/%s rw - tmpfs none rw\n"
    names = [b"caf\351", b"a\x0cb", b"a\rb", b"\xc2\x85", b"\xe2\x80\xa8", b"with\\040space"]
    (tmp_path / "mountinfo").write_bytes(b"".join(line % name for name in names))
    mounts = procfs.read_mounts(procfs.read_text(tmp_path / "mountinfo"))
    assert [os.fsencode(mount.target) for mount in mounts] == [b"/mnt/" + name for name in names[:-1]] + [
        b"/mnt/with space"
    ]


@pytest.mark.parametrize(
    "name", [b"\xff", b"x\rTracerPid:7", b"\x0cTracerPid:x", b"\x0bTracerPid:", b"\xc2\x85SigIgn:zz"]
)
def test_a_process_may_have_whatever_name(name: bytes) -> None:
    """A process chooses its name (PR_SET_NAME), which is in the file that says what traces it and what it ignores.

    The name stands for no other field, whatever characters end lines elsewhere.
    """
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(15, name, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        assert procfs.tracer(child, child) == 0
        found = procfs.status(child)
        assert os.fsencode(found["Name"]) == name[:15]
        assert int(found["SigIgn"], 16) == int(procfs.status(os.getpid())["SigIgn"], 16)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert procfs.status(child) == {}
