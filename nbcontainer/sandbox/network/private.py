"""`--network private`: a program of the host carries the container's connections, and those to its published ports.

pasta (passt) or slirp4netns makes an interface in the container's network namespace, and opens sockets in the host's
for it. The launcher runs the program in the user namespace of containers. So it has only a user's rights on the host,
even if the notebook runs as root, and it ends with the container. It cannot reach the host's loopback.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.network import pasta, slirp4netns
from nbcontainer.sandbox.network.carrier import RESOLVER, RESOLVER6, Connection, Tool
from nbcontainer.sandbox.network.routes import has_ipv4_route, has_ipv6_route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.network.carrier import Carrier
    from nbcontainer.sandbox.networking import Port

INSTALL = "install pasta (package passt) or slirp4netns"

_CARRIERS: dict[str, Carrier] = {"pasta": pasta.start, "slirp4netns": slirp4netns.start}


def find_tools(machine: Machine) -> list[Tool]:
    """Return the installed programs, the best first: a recent pasta, slirp4netns, an older pasta."""
    found = [(name, machine.which(name)) for name in _CARRIERS]
    tools = [Tool(name, path, name != "pasta" or pasta.is_recent(path)) for name, path in found if path is not None]
    return sorted(tools, key=lambda tool: not tool.recent)


def resolver_text(machine: Machine | None = None) -> str:
    """Return the text of the container's /etc/resolv.conf.

    It names the program's resolver, which asks the host's resolver, even one on the host's loopback. The search and
    option lines of the host's file are kept. If this machine has only IPv6, pasta gives the container no IPv4 and may
    have no resolver at the IPv4 address; then the IPv6 resolver is named too.
    """
    machine = machine or Machine()
    resolvers = [RESOLVER]
    if has_ipv6_route(machine) and not has_ipv4_route(machine):
        resolvers.append(RESOLVER6)
    try:
        lines = (machine.etc / "resolv.conf").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    kept = [line.strip() for line in lines if line.strip().startswith(("search ", "domain ", "options "))]
    return "\n".join((*(f"nameserver {address}" for address in resolvers), *kept, ""))


def connect(
    launcher: Launcher,
    running: ContainerHandle,
    ports: Sequence[Port] = (),
    *,
    scratch: str,
    machine: Machine | None = None,
) -> str:
    """Give a spare its network, and publish `ports`. Returns the name of the program that carries the network.

    `scratch` is a free path, relative to the store, for a short-lived directory. The program's pidfd becomes the
    container's `helper`. Raises `NetworkUnavailable`, `LauncherError`, and `ConnectionError` if init is dead.
    """
    machine = machine or Machine()
    tools = find_tools(machine)
    if not tools:
        raise NetworkUnavailable("`--network private` requires pasta or slirp4netns", hint=INSTALL)
    for port in ports:
        check_free(port, machine)
    connection = Connection(launcher, running, ports, scratch, machine)
    refused: dict[str, NetworkUnavailable] = {}
    namespace = running.network()
    try:
        for tool in tools:
            try:
                running.helper = _CARRIERS[tool.name](connection, tool, namespace)
            except NetworkUnavailable as error:
                refused[tool.name] = error
            else:
                return tool.name
    finally:
        os.close(namespace)
    raise refused.get("pasta") or refused["slirp4netns"]


def check_free(port: Port, machine: Machine) -> None:
    """Raise `NetworkUnavailable` if a port of the host is in use or privileged."""
    first = int(machine.setting("net/ipv4/ip_unprivileged_port_start") or 1024)
    if port.host < first:
        hint = f"publish a port from {first} on, or sysctl -w net.ipv4.ip_unprivileged_port_start={port.host} (as root)"
        problem = f"cannot publish port {port.host}: ports below {first} are privileged, also for root"
        raise NetworkUnavailable(problem, hint=hint)
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC) as probe:
        if port.protocol == "tcp":  # closed connections that still wait do not matter
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.address, port.host))
        except OSError as error:
            raise NetworkUnavailable(
                f"cannot publish port {port.host}/{port.protocol} on {port.address}: {error.strerror}",
                hint="choose another port, or end the program that uses it: `ss -lp` shows it",
            ) from None
