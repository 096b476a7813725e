"""What a run is asked for, apart from where it runs: the same for a cell, a terminal and Python."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.containers.mounts import check_targets
from nbcontainer.errors import UsageError
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES, DEFAULT_LIMITS, PROCESSES
from nbcontainer.sandbox.spec import DEFAULT_PATH, FORWARDED, Port
from nbcontainer.sandbox.steps.user import is_id
from nbcontainer.sandbox.userns import idmap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.paths import Link
    from nbcontainer.oci.documents import ImageConfig
    from nbcontainer.sandbox.defaults import Limit
    from nbcontainer.sandbox.spec import Port, Tmpfs, Volume

PRIVATE = "private"

NETWORKS = ("none", "host", PRIVATE)


@dataclass(frozen=True)
class RunOptions:
    """One run. `env` are NAME=value strings, `timeout` seconds, `userns` is `host` or empty, `platform` and `pull` are
    those of `nbcontainer.images.library.find`. `capabilities` are root's, without CAP_; `cgroup_limits` are the limits
    of all its processes together, `ulimits` those of each; `shm_size` is in bytes, None for the default; `storage` is
    what the run may write, in bytes, None for no limit. `links` are those that paths of files other than
    volumes led through.
    """

    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    network: str = "none"
    ports: tuple[Port, ...] = ()
    read_only: bool = False
    timeout: float | None = None
    userns: str = ""
    terminal: bool = False
    platform: str = ""
    pull: str = "missing"
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    cgroup_limits: GroupLimits = field(default_factory=GroupLimits)
    ulimits: tuple[Limit, ...] = ()
    shm_size: int | None = None
    storage: int | None = None
    links: tuple[Link, ...] = ()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits of each process: the usual ones, but for those that are asked for."""
        asked = {limit.name: limit for limit in self.ulimits}
        kept = [limit for limit in DEFAULT_LIMITS if limit.name not in asked]
        if self.cgroup_limits.pids is not None:  # it takes the place of the usual one
            kept = [limit for limit in kept if limit.name != PROCESSES]
        return (*kept, *asked.values())


def check_options(options: RunOptions) -> None:
    """Raises `UsageError` for what no run can be asked for."""
    check_targets(options.volumes, options.tmpfs)
    if options.network not in NETWORKS:
        raise UsageError(f"--network {options.network} is not known", hint=f"choose one of {', '.join(NETWORKS)}")
    check_ports(options.ports, options.network)
    if options.network == PRIVATE and options.userns == idmap.HOST:
        raise UsageError("--network private needs a user namespace", hint="leave out --userns=host")
    if options.userns not in ("", idmap.HOST):
        raise UsageError(f"--userns {options.userns} is not known", hint="leave it out, or write --userns=host")
    if options.userns == idmap.HOST and os.geteuid() != 0:
        raise UsageError("--userns=host is for root", hint="leave it out")
    if options.userns == idmap.HOST and options.storage is not None:
        raise UsageError("--storage needs a user namespace", hint="leave out --userns=host")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(f"the working directory {options.workdir} is not absolute", hint="start it with /")
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g} is no time limit", hint="give seconds above 0")


def environment(config: ImageConfig, options: RunOptions, hostname: str) -> tuple[str, ...]:
    """The cell's whole environment: PATH, HOSTNAME, TERM, the image's, the run's; nothing of the notebook's.

    HOME comes last, from the image's /etc/passwd, where neither names it (`sandbox.steps.program.Execute`).
    """
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname, "TERM": "xterm-256color" if options.terminal else "dumb"}
    for item in (*config.env, *options.env):
        name, equals, value = item.partition("=")
        if not name or "\0" in item:
            raise UsageError(f"{item!r} is no environment variable", hint="write NAME=value")
        if equals:
            env[name] = value
    return tuple(f"{name}={value}" for name, value in env.items())


def command_line(config: ImageConfig, command: tuple[str, ...], *, script: str | None) -> tuple[str, ...]:
    """The program and its arguments.

    With a script: the script itself where it begins with `#!`, else the image's shell (or /bin/sh) on it. Without:
    the image's entrypoint and the command, or the image's own command where there is none. Raises `UsageError`.
    """
    if script is not None:
        from nbcontainer.sandbox.steps.devices import SCRIPT

        if "\0" in script:
            raise UsageError(
                "the cell has a NUL character, which shells drop", hint="leave it out, or write printf '\\0'"
            )
        if script.startswith("#!"):
            return (SCRIPT,)
        shell = tuple(word for word in config.shell if word != "-c") or ("/bin/sh",)
        return (*shell, SCRIPT)
    argv = (*config.entrypoint, *(command or config.cmd))
    if not argv:
        raise UsageError("the image has no command of its own", hint="name one after the image")
    for word in argv:
        if "\0" in word:
            raise UsageError("an argument has a NUL character, which no program can be given", hint="leave it out")
    return argv


def stop_signal(config: ImageConfig) -> int:
    """The signal that asks the image's program to end (its StopSignal, by name or number), else SIGTERM.

    One that init does not hand on (signal(7): the realtime ones, say) is taken for SIGTERM.
    """
    word = str(config.other.get("StopSignal", "")).upper()
    number = int(word) if is_id(word) else getattr(signal, f"SIG{word.removeprefix('SIG')}", signal.SIGTERM)
    return int(number) if number in (*FORWARDED, signal.SIGKILL) else signal.SIGTERM


def check_ports(ports: Sequence[Port], network: str) -> None:
    """Raises `UsageError` for ports that a network does not publish, and for one of the host's that is named twice."""
    if not ports:
        return
    if network == "host":
        raise UsageError("--publish with --network host: its ports are the host's already", hint="leave --publish out")
    if network != "private":
        hint = "add --network private, or leave --publish out"
        raise UsageError(f"--publish with --network {network}: nothing leads into the container", hint=hint)
    seen = set()
    for port in ports:
        if (port.host, port.protocol) in seen:
            raise UsageError(f"--publish names port {port.host}/{port.protocol} twice", hint="leave one out")
        seen.add((port.host, port.protocol))
