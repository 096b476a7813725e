"""`--network private`: a program of the host's carries what a container sends out, and what comes in to its ports.

pasta (passt, pasta(1)) or slirp4netns(1) makes an interface in the container's network namespace and opens sockets of
the user's for it in the host's. The launcher runs it, in the user namespace of containers: so it has no rights over
the host but a user's, root's neither, and ends with the container. Nobody is let into the host's loopback.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.errors import NetworkUnavailable
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.diagnosis import Machine
from nbcontainer.sandbox.handle import readable, wait_readable
from nbcontainer.sandbox.network.loopback_filter import guard
from nbcontainer.sandbox.network.routes import has_ipv4_route, has_ipv6_route
from nbcontainer.sandbox.steps.network import AddAddress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nbcontainer.sandbox.handle import ContainerHandle
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.spec import Port

ADDRESS, GATEWAY, RESOLVER = "10.0.2.100", "10.0.2.2", "10.0.2.3"
ADDRESS6, GATEWAY6, RESOLVER6 = "fd00::100", "fd00::2", "fd00::3"
"""The container's own addresses, and what it finds in its network: slirp4netns(1)'s, and pasta is told the same. Those
of IPv6 are there where this machine has it."""

INTERFACE = "eth0"

_NEWER = "a pasta (package passt) of August 2024 or later"

INSTALL = "install pasta (package passt) or slirp4netns"

START_LIMIT = 10.0
"""Seconds for a program to be ready, which takes some hundredths of one."""

_SOCKET = "api"  # of slirp4netns, in a directory of its own

_WORDS_LIMIT = 1 << 16  # bytes of what a program may say in its whole life
_NOISE = re.compile(r"Failed to send \d+ bytes to syslog|WARNING: |\* |Starting slirp|sent tapfd|received tapfd|\s*$")
_STAMP = re.compile(r"^\d+\.\d+: ")


_RECENT = b"--map-host-loopback"
"""An option of pasta's since August 2024. Before, as in Debian 12, a connection that one end has closed its half of
may never end, and a datagram for another port than the host's is lost."""


@dataclass(frozen=True)
class Tool:
    """A program, by the path where it is installed (host)."""

    name: str
    path: str
    recent: bool = True


def find_tools(machine: Machine) -> list[Tool]:
    """What is installed, the better one first: pasta, slirp4netns, a pasta that is not recent."""
    found = [(name, machine.which(name)) for name in _STARTS]
    tools = [Tool(name, path, name != "pasta" or _is_recent(path)) for name, path in found if path is not None]
    return sorted(tools, key=lambda tool: not tool.recent)


@functools.cache
def _is_recent(pasta: str) -> bool:
    """Whether a pasta, by its path, has the option that tells its age; it has no version that would."""
    try:
        said = subprocess.run([pasta, "--help"], capture_output=True, check=False, timeout=START_LIMIT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return _RECENT in said.stdout + said.stderr


def resolver_text(machine: Machine | None = None) -> str:
    """The container's /etc/resolv.conf: the program asks the host's resolver, be it on the host's loopback.

    What the host's file says about the search of names goes on to hold. Where this machine has IPv6 alone, pasta gives
    the container no IPv4, and may have no resolver for the IPv4 address: there the other one is named too.
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
    """Gives a container that waits its network, and publishes `ports`; the name of the program that does it.

    `scratch` is a path in the store, from its top, where a directory may be for a moment. The program's pidfd becomes
    the container's `helper`. Raises `NetworkUnavailable`, `LauncherError`, and `ConnectionError` where init is dead.
    """
    machine = machine or Machine()
    tools = find_tools(machine)
    if not tools:
        raise NetworkUnavailable("--network private needs pasta or slirp4netns, and neither is here", hint=INSTALL)
    for port in ports:
        check_free(port, machine)
    attempt = _Attempt(launcher, running, ports, scratch, machine)
    refused: dict[str, NetworkUnavailable] = {}
    namespace = running.network()
    try:
        for tool in tools:
            try:
                running.helper = _STARTS[tool.name](attempt, tool, namespace)
            except NetworkUnavailable as error:
                refused[tool.name] = error
            else:
                return tool.name
    finally:
        os.close(namespace)
    raise refused.get("pasta") or refused["slirp4netns"]


def check_free(port: Port, machine: Machine) -> None:
    """Raises `NetworkUnavailable` where a port of this machine cannot be had: it is in use, or only root's."""
    first = int(machine.setting("net/ipv4/ip_unprivileged_port_start") or 1024)
    if port.host < first:
        hint = f"publish one from {first} on, or sysctl -w net.ipv4.ip_unprivileged_port_start={port.host} (as root)"
        raise NetworkUnavailable(f"port {port.host} is privileged, and what publishes it is not", hint=hint)
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC) as probe:
        if port.protocol == "tcp":  # what is left of old connections is in nobody's way
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((port.address, port.host))
        except OSError as error:
            raise NetworkUnavailable(
                f"cannot publish port {port.host}/{port.protocol} on {port.address}: {error.strerror}",
                hint="choose another port, or end what uses it: `ss -lp` shows it",
            ) from None


@dataclass(frozen=True)
class _Attempt:
    """What a program is started for. Each start is handed the container's network namespace, which stays the caller's.

    It returns the program's pidfd when the network is there, and raises `NetworkUnavailable` where that is not to be.
    """

    launcher: Launcher
    running: ContainerHandle
    ports: Sequence[Port]
    scratch: str
    machine: Machine

    def pasta(self, tool: Tool, namespace: int) -> int:
        """Its first three descriptors are all it keeps of those that it is given. It writes its pid when it is ready.

        Everything is said that has a default: that is to forward every port that listens, in both directions.
        """
        moved = next((port for port in self.ports if port.protocol == "udp" and port.host != port.container), None)
        if moved is not None and not tool.recent:
            hint = f"publish it by the same number, or install {_NEWER}"
            raise NetworkUnavailable(
                f"cannot publish {moved}: this pasta loses datagrams for another number", hint=hint
            )
        arguments = ["--foreground", "--quiet", "--pid", "/dev/stdout", "--netns", "/proc/self/fd/0"]
        arguments += ["--no-netns-quit", "--config-net", "--ns-ifname", INTERFACE]
        arguments += ["--address", ADDRESS, "--netmask", "24", "--gateway", GATEWAY, "--dns-forward", RESOLVER]
        if has_ipv6_route(self.machine):
            arguments += ["--address", ADDRESS6, "--gateway", GATEWAY6, "--dns-forward", RESOLVER6]
            arguments += ["--no-ra", "--no-dhcpv6"]
        else:
            arguments += ["--ipv4-only"]
        arguments += ["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"]
        for option, kind in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
            wanted = [f"{p.address}/{p.host}:{p.container}" for p in self.ports if p.protocol == kind]
            for text in wanted or ["none"]:
                arguments += [option, text]
        with _started(self, tool, arguments, lambda ready, words: [namespace, ready, words]) as pidfd:
            return pidfd

    def slirp4netns(self, tool: Tool, namespace: int) -> int:
        """It writes to --ready-fd when it is ready, and takes ports by a socket, which is gone when they are told."""
        lost = next((port for port in self.ports if port.protocol == "udp" and port.address.startswith("127.")), None)
        if lost is not None:
            # What answers would go to is the host's loopback, where nothing may go.
            why = f"cannot publish {lost}: slirp4netns loses the answers to this machine's own datagrams"
            raise NetworkUnavailable(why, hint=f"install {_NEWER}")
        arguments = ["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]
        arguments += ["--netns-type=path", "--ready-fd=3"]
        ipv6 = has_ipv6_route(self.machine)
        if ipv6:
            arguments += ["--enable-ipv6"]
        with contextlib.ExitStack() as undo:
            place = undo.enter_context(self._private_directory()) if self.ports else -1
            if self.ports:
                arguments += [f"--api-socket={self.scratch}/{_SOCKET}"]
            arguments += ["/proc/self/fd/0", INTERFACE]
            with _started(self, tool, arguments, lambda ready, words: [namespace, words, words, ready]) as pidfd:
                for port in self.ports:
                    _add_forward(place, port)
                if ipv6:
                    self.launcher.configure(namespace, [AddAddress(INTERFACE, ADDRESS6, GATEWAY6)])
                return pidfd

    @contextlib.contextmanager
    def _private_directory(self) -> Iterator[int]:
        """A directory at `scratch` that the program may make a socket in: a descriptor of it."""
        path = self.launcher.store / self.scratch
        path.mkdir(mode=0o700)
        try:
            if self.launcher.idmap.root_uid != os.geteuid():
                os.chown(path, self.launcher.idmap.root_uid, self.launcher.idmap.root_gid)
            place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield place
            finally:
                os.close(place)
        finally:
            (path / _SOCKET).unlink(missing_ok=True)
            path.rmdir()


def _add_forward(place: int, port: Port) -> None:
    """`add_hostfwd` of slirp4netns(1)'s API: a JSON object there, and one back. Raises `NetworkUnavailable`.

    `place` is a descriptor of the directory that its socket is in: the store's own path may be too long (unix(7)).
    """
    asked = {"proto": port.protocol, "host_addr": port.address, "host_port": port.host}
    asked |= {"guest_addr": ADDRESS, "guest_port": port.container}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as api:
            api.settimeout(START_LIMIT)
            api.connect(f"/proc/self/fd/{place}/{_SOCKET}")
            api.sendall(json.dumps({"execute": "add_hostfwd", "arguments": asked}).encode())
            api.shutdown(socket.SHUT_WR)
            answer = json.loads(b"".join(iter(lambda: api.recv(4096), b"")))
    except (OSError, ValueError) as error:
        answer = {"error": {"desc": str(error)}}
    if "error" in answer:
        raise NetworkUnavailable(f"cannot publish {port}: slirp4netns: {answer['error'].get('desc', answer)}")


_STARTS: dict[str, Callable[[_Attempt, Tool, int], int]] = {
    "pasta": _Attempt.pasta,
    "slirp4netns": _Attempt.slirp4netns,
}


@contextlib.contextmanager
def _started(
    attempt: _Attempt, tool: Tool, arguments: Sequence[str], streams: Callable[[int, int], list[int]]
) -> Iterator[int]:
    """A program that is ready: its pidfd. It is ended, and that closed, where anything goes wrong in the body.

    `streams` lists its descriptors from 0 on, by the one for it to be ready on and the one for what it says.
    """
    with contextlib.ExitStack() as undo:
        reader, ready = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, reader)
        os.fchmod(ready, 0o666)  # the program opens it anew (proc_pid_fd(5)), and for root's notebook is another user
        words = _limited_file()
        undo.callback(os.close, words)
        try:
            argv = (tool.name, *arguments)
            pidfd = attempt.launcher.help(attempt.running, tool.path, argv, streams(ready, words))
        finally:
            os.close(ready)
        try:
            _wait_ready(reader, words, tool, attempt.machine)
            guard(pidfd, INTERFACE)
            yield pidfd
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_readable(pidfd)
            os.close(pidfd)
            raise


def _wait_ready(reader: int, words: int, tool: Tool, machine: Machine) -> None:
    """Waits until a program is ready: it writes then, or ends. Raises `NetworkUnavailable` where that is not to be."""
    end = time.monotonic() + START_LIMIT
    if not readable(reader, max(0.0, end - time.monotonic()) * 1000):
        raise _refused(tool, f"it is not ready after {START_LIMIT:g} s", words, machine)
    if not os.read(reader, 64):
        raise _refused(tool, "it ended without a word", words, machine)


def _refused(tool: Tool, otherwise: str, words: int, machine: Machine) -> NetworkUnavailable:
    said = protocol.read_memory_file(words).rstrip(b"\0").decode("utf-8", "replace").splitlines()
    lines = [_STAMP.sub("", line).strip() for line in said if not _NOISE.match(line)]
    why = lines[-1] if lines else otherwise
    return NetworkUnavailable(
        f"cannot make a private network: {tool.name}: {why if why.isprintable() else repr(why)}", hint=advice(machine)
    )


def advice(machine: Machine) -> str:
    """What to do where a program cannot make a network, by a look at the machine; empty where nobody knows."""
    tun = machine.dev / "net/tun"
    try:
        found = tun.stat()
    except OSError:
        return f"give this machine {tun}: modprobe tun (as root), or --device {tun} for the outer container"
    if not stat.S_ISCHR(found.st_mode) or found.st_mode & 0o006 != 0o006:
        return f"let everybody open {tun}, as distributions do: chmod 666 {tun} (as root)"
    if not has_ipv4_route(machine) and not has_ipv6_route(machine):
        return "this machine has no default route, which pasta may want: install slirp4netns"
    return ""


def _limited_file() -> int:
    """A file in memory that can be written, and does not grow: what a program says in all its life is not endless."""
    import fcntl

    fd = os.memfd_create("nbcontainer-network", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _WORDS_LIMIT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd
