"""pasta (passt, pasta(1)) as the carrier of a private network."""

from __future__ import annotations

import functools
import subprocess
from typing import TYPE_CHECKING

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.sandbox.network.carrier import (
    ADDRESS,
    ADDRESS6,
    GATEWAY,
    GATEWAY6,
    INTERFACE,
    NEWER,
    RESOLVER,
    RESOLVER6,
    START_LIMIT,
    started,
)
from nbcontainer.sandbox.network.routes import has_ipv6_route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.network.carrier import Connection, Tool

_RECENT = b"--map-host-loopback"
"""An option of pasta since August 2024. In older ones, as in Debian 12, a half-closed connection may never end, and a
datagram is lost if the host's port and the container's differ."""


@functools.cache
def is_recent(path: str) -> bool:
    """Return whether a pasta, by its path, has the option that recent ones have; its version does not show it."""
    try:
        done = subprocess.run([path, "--help"], capture_output=True, check=False, timeout=START_LIMIT, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return False
    return _RECENT in done.stdout + done.stderr


def start(connection: Connection, tool: Tool, namespace: int) -> int:
    """Start pasta; see `Carrier`.

    pasta keeps only its first three descriptors. It writes its pid when it is ready.
    """
    moved = next((port for port in connection.ports if port.protocol == "udp" and port.host != port.container), None)
    if moved is not None and not tool.recent:
        problem = f"cannot publish {moved}: this pasta loses datagrams if the two port numbers differ"
        raise NetworkUnavailable(problem, hint=f"publish it by the same number, or install {NEWER}")
    arguments = list(_arguments(connection))
    with started(connection, tool, arguments, lambda ready, errors: [namespace, ready, errors]) as pidfd:
        return pidfd


def _arguments(connection: Connection) -> Iterator[str]:
    """Override every default: by default, pasta forwards all listening ports in both directions."""
    yield from ("--foreground", "--quiet", "--pid", "/dev/stdout", "--netns", "/proc/self/fd/0")
    yield from ("--no-netns-quit", "--config-net", "--ns-ifname", INTERFACE)
    yield from ("--address", ADDRESS, "--netmask", "24", "--gateway", GATEWAY, "--dns-forward", RESOLVER)
    if has_ipv6_route(connection.machine):
        yield from ("--address", ADDRESS6, "--gateway", GATEWAY6, "--dns-forward", RESOLVER6)
        yield from ("--no-ra", "--no-dhcpv6")
    else:
        yield "--ipv4-only"
    yield from ("--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none")
    for option, kind in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        ports = [f"{p.address}/{p.host}:{p.container}" for p in connection.ports if p.protocol == kind]
        for text in ports or ["none"]:
            yield from (option, text)
