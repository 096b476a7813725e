"""A carrier: a program of the host that connects a container's network namespace to the host's network.

Here is what pasta and slirp4netns share: the addresses, how the launcher starts the program, and how its errors are
read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.handle import readable, wait_readable
from nbcontainer.sandbox.network.loopback_filter import guard
from nbcontainer.sandbox.network.routes import has_ipv4_route, has_ipv6_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.sandbox.diagnosis import Machine
    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.networking import Port

ADDRESS, GATEWAY, RESOLVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
ADDRESS6, GATEWAY6, RESOLVER6 = "fd00::100", "fd00::2", "fd00::3"
"""The container's addresses, its gateways and its resolvers: slirp4netns(1)'s own, and pasta gets the same.

Those of IPv6 exist if this machine has IPv6.
"""

INTERFACE = "eth0"

NEWER = "a pasta (package passt) of August 2024 or later"

START_LIMIT = 10.0
"""Seconds until a program must be ready; it takes some hundredths of a second."""

_ERRORS_LIMIT = 1 << 16  # bytes that a program can write to its standard error
_NOISE = re.compile(r"Failed to send \d+ bytes to syslog|WARNING: |\* |Starting slirp|sent tapfd|received tapfd|\s*$")
_STAMP = re.compile(r"^\d+\.\d+: ")


@dataclass(frozen=True)
class Tool:
    """An installed program: its name and its path (host). `recent` is as `pasta.is_recent` returns it."""

    name: str
    path: str
    recent: bool = True


@dataclass(frozen=True)
class Connection:
    """What a program is started for: a container, its published ports, and `scratch`, a free path in the store."""

    launcher: Launcher
    running: ContainerHandle
    ports: Sequence[Port]
    scratch: str
    machine: Machine


class Carrier(Protocol):
    """One of the two programs."""

    def __call__(self, connection: Connection, tool: Tool, namespace: int) -> int:
        """Start the program and return its pidfd once the network works; the caller closes it.

        `namespace` is a descriptor of the container's network namespace; the caller closes it too.
        Raises `NetworkUnavailable`.
        """


@contextlib.contextmanager
def started(
    connection: Connection, tool: Tool, arguments: Sequence[str], streams: Callable[[int, int], list[int]]
) -> Iterator[int]:
    """Start a program, and yield its pidfd once it is ready. If the body raises, end the program and close the pidfd.

    `streams` returns the program's descriptors from 0 on; it gets one on which the program reports that it is ready,
    and one for its errors. Raises `NetworkUnavailable`, `LauncherError`.
    """
    with contextlib.ExitStack() as undo:
        reader, ready = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, reader)
        os.fchmod(ready, 0o666)  # the program opens it again (proc_pid_fd(5)), and is another user if this is root
        errors = _limited_file()
        undo.callback(os.close, errors)
        try:
            argv = (tool.name, *arguments)
            pidfd = connection.launcher.help(connection.running, tool.path, argv, streams(ready, errors))
        finally:
            os.close(ready)
        try:
            _wait_ready(reader, errors, tool, connection.machine)
            guard(pidfd, INTERFACE)
            yield pidfd
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_readable(pidfd)
            os.close(pidfd)
            raise


def _wait_ready(reader: int, errors: int, tool: Tool, machine: Machine) -> None:
    """Wait until a program writes that it is ready. Raises `NetworkUnavailable` if it ends or takes too long."""
    end = time.monotonic() + START_LIMIT
    if not readable(reader, max(0.0, end - time.monotonic()) * 1000):
        raise _refused(tool, f"it is not ready after {START_LIMIT:g} s", errors, machine)
    if not os.read(reader, 64):
        raise _refused(tool, "it exited without an error message", errors, machine)


def _refused(tool: Tool, otherwise: str, errors: int, machine: Machine) -> NetworkUnavailable:
    text = protocol.read_memory_file(errors).rstrip(b"\0").decode("utf-8", "replace")
    lines = [_STAMP.sub("", line).strip() for line in text.splitlines() if not _NOISE.match(line)]
    why = lines[-1] if lines else otherwise
    return NetworkUnavailable(
        f"cannot make a private network: {tool.name}: {why if why.isprintable() else repr(why)}", hint=advice(machine)
    )


def advice(machine: Machine) -> str:
    """Return what to do if a program cannot make a network on this machine; empty if the cause is not found."""
    tun = machine.dev / "net/tun"
    try:
        found = tun.stat()
    except OSError:
        return f"add {tun} to the host: modprobe tun (as root), or --device {tun} for the outer container"
    if not stat.S_ISCHR(found.st_mode) or found.st_mode & 0o006 != 0o006:
        return f"let all users open {tun}, as distributions do: chmod 666 {tun} (as root)"
    if not has_ipv4_route(machine) and not has_ipv6_route(machine):
        return "the host has no default route, which pasta may need: install slirp4netns"
    return ""


def _limited_file() -> int:
    """Return a memory file that cannot grow, so that a program cannot write errors without end."""
    fd = os.memfd_create("nbcontainer-network", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _ERRORS_LIMIT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd
