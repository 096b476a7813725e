"""What a test needs of the machine: missing, it is skipped with the reason, or fails where NBCONTAINER_REQUIRE says so.

NBCONTAINER_REQUIRE is a list of names with commas, or `all`.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.helper import building
from nbcontainer.sandbox.helper.program import Unavailable
from nbcontainer.sandbox.network.private import find_tools
from nbcontainer.sandbox.network.routes import has_ipv4_route, has_ipv6_route


def require(name: str, *, available: bool | None = None, why: str = "") -> None:
    """Skips the test unless program `name` is on PATH, or `available` says that the thing of that name is there."""
    found = shutil.which(name) is not None if available is None else available
    if found:
        return
    reason = why or f"{name} is not installed"
    wanted = os.environ.get("NBCONTAINER_REQUIRE", "").split(",")
    if name in wanted or "all" in wanted:
        pytest.fail(f"this run must have {name}: {reason}")
    pytest.skip(reason)


def require_private_network(program: str = "") -> None:
    """Skips the test where this machine has no private networks, or none by a program of that name."""
    tun = Path("/dev/net/tun")
    open_to_all = tun.exists() and stat.S_IMODE(tun.stat().st_mode) & 0o006 == 0o006
    require("tun", available=open_to_all, why="/dev/net/tun is not for everybody here")
    if program:
        require(program)
    else:
        there = bool(find_tools(Machine()))
        require("pasta or slirp4netns", available=there, why="neither pasta nor slirp4netns is installed")
    if program == "pasta":
        there = has_ipv4_route(Machine()) or has_ipv6_route(Machine())
        require("route", available=there, why="this machine has no default route")


def require_ipv6() -> None:
    """Skips the test where this machine's IPv6 leads nowhere: others are on a machine that is made with it."""
    if not has_ipv6_route(Machine()):
        pytest.skip("this machine has no IPv6 to elsewhere")


def require_linux(major: int, minor: int, what: str) -> None:
    """Skips the test on a kernel before this version, which first has what it is about."""
    release = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
    require("linux", available=release >= (major, minor), why=f"Linux {major}.{minor} is the first that has {what}")


def require_root() -> None:
    """Skips the test for plain users: it needs what only root has."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def require_plain_user() -> None:
    """Skips the test for root: it is about plain users."""
    if os.geteuid() == 0:
        pytest.skip("is about plain users")


def program_or_skip() -> bytes:
    """Return the program of the compiled init, built if it is not there."""
    try:
        return building.built().content
    except Unavailable as error:
        require("a C compiler", available=False, why=str(error))
        raise
