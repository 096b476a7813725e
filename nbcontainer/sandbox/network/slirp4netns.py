"""slirp4netns(1) as the carrier of a private network."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.sandbox.network.carrier import ADDRESS, ADDRESS6, GATEWAY6, INTERFACE, NEWER, START_LIMIT, started
from nbcontainer.sandbox.network.routes import has_ipv6_route
from nbcontainer.sandbox.steps.network import AddAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.network.carrier import Connection, Tool
    from nbcontainer.sandbox.networking import Port

_SOCKET = "api"  # in a directory of its own


def start(connection: Connection, tool: Tool, namespace: int) -> int:
    """Start slirp4netns; see `Carrier`.

    It writes to --ready-fd when it is ready, and takes ports over a socket, which is removed afterwards.
    """
    ports = connection.ports
    lost = next((port for port in ports if port.protocol == "udp" and port.address.startswith("127.")), None)
    if lost is not None:  # answers would go to the host's loopback, which the filter closes
        problem = f"cannot publish {lost}: slirp4netns loses the answers to datagrams from the host"
        raise NetworkUnavailable(problem, hint=f"install {NEWER}")
    arguments = ["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
    arguments += ["--netns-type=path", "--ready-fd=3"]
    ipv6 = has_ipv6_route(connection.machine)
    if ipv6:
        arguments += ["--enable-ipv6"]
    with contextlib.ExitStack() as undo:
        directory = undo.enter_context(_private_directory(connection)) if ports else None
        if ports:
            arguments += [f"--api-socket={connection.scratch}/{_SOCKET}"]
        arguments += ["/proc/self/fd/0", INTERFACE]
        streams = lambda ready, errors: [namespace, errors, errors, ready]  # noqa: E731 - short, and used once
        with started(connection, tool, arguments, streams) as pidfd:
            for port in ports:
                assert directory is not None
                _add_forward(directory, port)
            if ipv6:
                connection.launcher.configure(namespace, [AddAddress(INTERFACE, ADDRESS6, GATEWAY6)])
            return pidfd


@contextlib.contextmanager
def _private_directory(connection: Connection) -> Iterator[int]:
    """Make a directory at `scratch` in which the program can make a socket; yield a descriptor of it."""
    idmap = connection.launcher.idmap
    path = connection.launcher.store / connection.scratch
    path.mkdir(mode=0o700)
    try:
        if idmap.root_uid != os.geteuid():
            os.chown(path, idmap.root_uid, idmap.root_gid)
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)
    finally:
        (path / _SOCKET).unlink(missing_ok=True)
        path.rmdir()


def _add_forward(directory: int, port: Port) -> None:
    """Publish a port: `add_hostfwd` of slirp4netns(1)'s API, which takes and returns one JSON object.

    `directory` is a descriptor of the socket's directory: the store's own path may be too long (unix(7)).
    Raises `NetworkUnavailable`.
    """
    request = {"proto": port.protocol, "host_addr": port.address, "host_port": port.host}
    request |= {"guest_addr": ADDRESS, "guest_port": port.container}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as api:
            api.settimeout(START_LIMIT)
            api.connect(f"/proc/self/fd/{directory}/{_SOCKET}")
            api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": request}).encode())
            api.shutdown(socket.SHUT_WR)
            answer = json.loads(b"".join(iter(lambda: api.recv(4096), b"")))
    except (OSError, ValueError) as error:
        answer = {"error": {"desc": str(error)}}
    if "error" in answer:
        problem = f"cannot publish {port}: slirp4netns: {answer['error'].get('desc', answer)}"
        raise NetworkUnavailable(problem, hint="choose another port")
