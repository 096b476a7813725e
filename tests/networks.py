"""Servers of this machine's that a cell may reach, and by which addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.requirements import require, require_ipv6

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_SLIRP = ipaddress.IPv6Network("fd00::/64")


def own_address() -> str:
    """This machine's address by which it sends to others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@contextlib.contextmanager
def own_ipv6_address(tool: str) -> Iterator[str]:
    """An IPv6 address of this machine's that a cell may reach: one more for root, else one that is there.

    Skips the test where there is none. slirp4netns has fd00::/64 for itself, wherever else that may be.
    """
    require_ipv6()
    if os.geteuid() == 0:
        require("ip", why="iproute2 is not installed")
        address = str(ipaddress.IPv6Address("fd12:3456:789a::") + os.getpid())
        subprocess.run(["ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad"], check=True)
        try:
            yield address
        finally:
            subprocess.run(["ip", "addr", "del", f"{address}/128", "dev", "lo"], check=True)
        return
    found = [address for address in _ipv6_addresses("00") if tool != "slirp4netns" or address not in _SLIRP]
    if not found:
        pytest.skip("this machine has no other address than in slirp4netns's own network: one more needs root")
    yield str(found[0])


def own_link_addresses() -> list[str]:
    """This machine's addresses that hold on a link alone (RFC 4291)."""
    return [str(address) for address in _ipv6_addresses("20")]


def _ipv6_addresses(scope: str) -> list[ipaddress.IPv6Address]:
    """By /proc/net/if_inet6, whose rows have an address, and its scope as their fourth word (<net/ipv6.h>)."""
    rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    return [ipaddress.IPv6Address(int(row[0], 16)) for row in rows if row[3] == scope]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port that is free on each address of this machine."""
    with socket.socket(socket.AF_INET6 if Path("/proc/net/if_inet6").exists() else socket.AF_INET, kind) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def greeting(address: str) -> contextlib.AbstractContextManager[int]:
    """A server on an address of this machine's that says hello by HTTP to each who comes: its port."""

    def greet(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")

    return _serving(address, 0, greet)


def telling(address: str, port: int = 0) -> contextlib.AbstractContextManager[int]:
    """A server on an address of this machine's that tells a secret to each who comes: its port."""
    return _serving(address, port, lambda client: client.sendall(b"the notebook's own"))


@contextlib.contextmanager
def _serving(address: str, port: int, serve_one: Callable[[socket.socket], None]) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the end of the block
                while True:
                    with server.accept()[0] as one, contextlib.suppress(OSError):  # one who leaves early
                        serve_one(one)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def asking(address: str, port: int) -> str:
    """A script that says what such a server says."""
    host = f"[{address}]" if ":" in address else address
    return f"timeout 10 wget -q -O - http://{host}:{port}/"
