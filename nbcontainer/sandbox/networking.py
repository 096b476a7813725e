"""The network of a container, as a value of a run's options: its kind, its ports, and what it finds in it.

The values check themselves as they are made, as those of `nbcontainer.sandbox.spec` do. They raise `UsageError`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from nbcontainer.errors import UsageError


class Network(enum.StrEnum):
    """The network of a container: only `lo`, the host's, or a network of its own with access to other machines."""

    NONE = "none"
    HOST = "host"
    PRIVATE = "private"


@dataclass(frozen=True)
class Port:
    """A port of the host, at `address` (IPv4), that leads to one of the container. `protocol` is tcp or udp."""

    address: str
    host: int
    container: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.address}:{self.host}:{self.container}/{self.protocol}"


@dataclass(frozen=True)
class Networking:
    """The container's network, and what it finds in it.

    `ports` are host ports that lead into the container, `dns` name servers (addresses) in place of the network's own,
    `hosts` names with their addresses for /etc/hosts. `network` is one of `Network`, or `container:NAME` for that of
    a running container of the same notebook, whose name is `joined` then, else empty.
    """

    network: str = Network.NONE
    ports: tuple[Port, ...] = ()
    dns: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.network not in _NETWORKS and not self.joined:
            hint = f"choose one of {', '.join(Network)}, or write container:NAME"
            raise UsageError(f"unknown network '{self.network}' for --network", hint=hint)
        if self.ports:
            _check_ports(self.ports, self.network)

    @property
    def joined(self) -> str:
        """The name of the container whose network it is, empty for none."""
        return self.network.removeprefix(_JOINED) if self.network.startswith(_JOINED) else ""


_NETWORKS = frozenset(Network)
_JOINED = "container:"


def _check_ports(ports: tuple[Port, ...], network: str) -> None:
    """Raise `UsageError` if the network publishes no ports, or if a host port is named twice."""
    if network == Network.HOST:
        why = "the container's ports are the host's already"
        raise UsageError(f"--publish cannot be used with --network host: {why}", hint="remove --publish")
    if network != Network.PRIVATE:
        why = "the container cannot be reached from outside"
        hint = "add --network private, or remove --publish"
        raise UsageError(f"--publish cannot be used with --network {network}: {why}", hint=hint)
    seen = set()
    for port in ports:
        if (port.host, port.protocol) in seen:
            raise UsageError(f"--publish names port {port.host}/{port.protocol} twice", hint="remove one of them")
        seen.add((port.host, port.protocol))
