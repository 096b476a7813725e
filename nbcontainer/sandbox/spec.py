"""What a container is to be, as plain data: the values of a run's options, and the spec that holds them.

The values check themselves as they are made, so that each is checked once. They raise `UsageError`.
"""

from __future__ import annotations

import enum
import os
import re
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.errors import UsageError
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES, DEFAULT_LIMITS, Limit
from nbcontainer.sandbox.networking import Networking
from nbcontainer.sandbox.protocol import FILES_LIMIT

if TYPE_CHECKING:
    from nbcontainer.linux.paths import Link

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm; Docker's default."""

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGCONT,
)
"""The signals that init forwards to the cell (signal(7))."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_HOSTNAME = "nbcontainer"

MOUNTS_LIMIT = FILES_LIMIT - 10
"""Mounts of one container: a volume of root's may need a descriptor, and the streams and the script need some."""


class Userns(enum.StrEnum):
    """The user namespace of a container: one of its own, or the host's (root only)."""

    OWN = ""
    HOST = "host"


class ProcLevel(enum.StrEnum):
    """Where a container's /proc comes from: the first of these that the kernel allows. The values are their names."""

    OWN = "own"
    """A new one, mounted in the container."""
    NOTEBOOK = "own (by the notebook)"
    """A new one, mounted by the notebook, which is root with SYS_ADMIN."""
    PROCESSES = "processes only"
    """A new one with `subset=pid`: processes and /proc/self, without the files about the machine (proc(5))."""
    OUTER = "outer, read-only"
    """A bind of the notebook's own /proc, read-only, with its processes covered; the container has a user namespace."""


@dataclass(frozen=True)
class HostLower:
    """A directory of the host as the lowest layer of an overlay.

    `path` is absolute (host), or relative to the store's `layers` where the launcher shows it (`Launcher.show`).
    `around` is true if the layers lie in it: overlayfs refuses one lower inside another (fs/overlayfs/super.c).
    """

    path: str
    around: bool = False


@dataclass(frozen=True)
class Overlay:
    """A root of layers: paths relative to the store's `layers` directory, the topmost lower first.

    Without an upper the view is read-only. `host` is a host directory below all layers. `parts` are overlays at places
    of their own in the root, their `target` (container, absolute). With `give`, the upper directory gets the owner of
    the topmost lower, which is not the container's root. With `mounted`, the launcher has mounted it
    (`Launcher.mount_root`).
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    host: HostLower | None = None
    target: str = "/"
    parts: tuple[Overlay, ...] = ()
    give: bool = False
    mounted: bool = False


@dataclass(frozen=True)
class Directory:
    """A root that is one directory, by its path relative to the store."""

    path: str
    read_only: bool = False


@dataclass(frozen=True)
class CopyOnWrite:
    """The layers of a copy-on-write volume, as paths below the store's `layers`.

    `lowers` (the topmost first) have earlier changes, `upper` and `work` are the directories of one cell, empty until
    it begins. With `nosub`, file systems that are mounted in the source are left out; else they are refused.
    """

    nosub: bool = False
    lowers: tuple[str, ...] = ()
    upper: str = ""
    work: str = ""


@dataclass(frozen=True)
class Volume:
    """A host path in the container.

    `source` is absolute and resolved (host), `target` absolute (container). `device` and `inode` are the source's, as
    the notebook saw it. `tree` is the number of the travelling descriptor that holds the source as an idmapped,
    detached mount; None if there is no such descriptor. `links` are those that the path of the source led through,
    and `born` is when it was made (`nbcontainer.linux.paths.Node`). With `slave`, mounts that the host makes there
    later come in, as the host has them. `stored` is true for a volume of the store, which has the containers' ids: its
    `source` is relative to the store. With `cow`, the source is a directory that is only read: changes go to a layer.
    """

    source: str
    target: str
    read_only: bool = False
    directory: bool = True
    device: int = 0
    inode: int = 0
    tree: int | None = None
    links: tuple[Link, ...] = ()
    born: int = field(default=0, compare=False)
    noexec: bool = False
    slave: bool = False
    stored: bool = False
    cow: CopyOnWrite | None = None


CACHE_LABEL = "nbcontainer.cache"
"""The label of a volume that is a cache: its files can be made again."""

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


def check_volume_name(name: str) -> str:
    """Return `name` if it is valid as a volume's name. Raises `UsageError`."""
    if not _VOLUME_NAME.fullmatch(name):
        directory = "add type=bind" if name.startswith("/") else f"write ./{name}"
        hint = f"use up to 128 letters, digits, '_', '.' and '-'; for a directory of the host, {directory}"
        raise UsageError(f"invalid volume name {name!r}", hint=hint)
    return name


@dataclass(frozen=True)
class NamedVolume:
    """A volume of the store at `target` (container). `name` is empty for one that belongs to the container alone.

    With `copy`, a volume without files gets those that the image has at the target. `subpath` is the directory or file
    in the volume that is mounted, empty for all of it. `labels` are for a volume that is made.
    """

    name: str
    target: str
    read_only: bool = False
    noexec: bool = False
    slave: bool = False
    copy: bool = True
    subpath: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def cache(self) -> str:
        """The name of a cache (`--cache-dir`), empty for another volume."""
        return dict(self.labels).get(CACHE_LABEL, "")


@dataclass(frozen=True)
class Tmpfs:
    """Memory at `target` (container); `size` in bytes, None for the kernel's default.

    `mode` are the permissions of its top directory, `uid` and `gid` that directory's owner (container ids). `inodes` is
    the number of files, None for the kernel's default. `flags` are names of `nbcontainer.sandbox.steps.volumes.FLAGS`.
    """

    target: str
    size: int | None = None
    mode: int = 0o1777
    uid: int | None = None
    gid: int | None = None
    inodes: int | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mounts:
    """What is mounted in the root, and whether the root itself is read-only.

    `named` are volumes of the store, which become `volumes` when a cell begins (`nbcontainer.containers.mounts`). With
    `image_volumes`, the volumes of the image are so too, if the root is read-only. `tools` are the layers of the
    tools in /dev (`nbcontainer.sandbox.steps.exchange.toolbox`), paths relative to the store's `layers`, the topmost
    first.
    """

    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    read_only: bool = False
    named: tuple[NamedVolume, ...] = ()
    image_volumes: bool = True
    tools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        targets = self._targets()
        if len(set(targets)) < len(targets):
            twice = next(target for target in targets if targets.count(target) > 1)
            raise UsageError(f"two mounts have the target {twice}", hint="remove one of them")
        if twofold := next((volume for volume in self.volumes if volume.slave and volume.read_only), None):
            problem = f"the volume at {twofold.target} is read-only, and later mounts of the host in it are not"
            raise UsageError(problem, hint="remove rslave or ro")
        if len(targets) > MOUNTS_LIMIT:
            hint = "mount a directory above them"
            raise UsageError(f"too many volumes: {len(targets)} (at most {MOUNTS_LIMIT})", hint=hint)

    @property
    def targets(self) -> frozenset[str]:
        """The paths (container) of all mounts."""
        return frozenset(self._targets())

    def _targets(self) -> list[str]:
        targets = [volume.target for volume in self.volumes] + [tmpfs.target for tmpfs in self.tmpfs]
        return targets + [volume.target for volume in self.named]


@dataclass(frozen=True)
class Privileges:
    """The capabilities of root in the container, without CAP_, and the container's user namespace.

    With `new_privileges`, its setuid programs work, and can give another user these capabilities. `oom_score_adj` is
    that of its processes (proc_pid_oom_score_adj(5)), None for the notebook's own.
    """

    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    userns: Userns = Userns.OWN
    new_privileges: bool = False
    oom_score_adj: int | None = None

    def __post_init__(self) -> None:
        if self.oom_score_adj is not None and not -1000 <= self.oom_score_adj <= 1000:
            raise invalid_oom_score(self.oom_score_adj)
        if not self.userns:
            return
        if self.userns != Userns.HOST:
            hint = "remove it, or write --userns=host"
            raise UsageError(f"unknown user namespace '{self.userns}' for --userns", hint=hint)
        if os.geteuid() != 0:
            raise UsageError("--userns=host requires root", hint="remove it")
        if self.new_privileges:
            problem = "setuid programs would have rights over the host with --userns=host"
            raise UsageError(problem, hint="remove --userns=host, or --security-opt no-new-privileges=false")

    @property
    def unusual(self) -> tuple[str, ...]:
        """The capabilities that no container has by default."""
        return tuple(name for name in self.capabilities if name not in DEFAULT_CAPABILITIES)


def invalid_oom_score(value: object) -> UsageError:
    """Return the error for a value that is not an OOM score adjustment."""
    return UsageError(f"invalid value '{value}' for --oom-score-adj", hint="write a number from -1000 to 1000")


@dataclass(frozen=True)
class Program:
    """What runs: `argv`, `env` as NAME=value strings, `cwd` (container), `user` as `NAME|UID[:GROUP|GID]`.

    `groups` are groups beside the user's own, by name or number. With `terminal`, its streams are a terminal of the
    container's own; with `terminal_input`, standard input is one, and output and errors stay two streams.

    An item `HOSTNAME` of `env`, without a value, gets the container's host name.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    terminal: bool = False
    groups: tuple[str, ...] = ()
    terminal_input: bool = False

    @property
    def has_terminal(self) -> bool:
        """Whether it has a controlling terminal."""
        return self.terminal or self.terminal_input


@dataclass(frozen=True)
class ControlDirectory:
    """A directory in the container's /dev that the notebook gets a descriptor of.

    See `nbcontainer.sandbox.steps.exchange.control_directory`.

    `files` are (name, mode, content), `directories` (name, mode).
    """

    files: tuple[tuple[str, int, str], ...] = ()
    pipes: tuple[str, ...] = ()
    directories: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Values:
    """The values of a cell: the names of the files of `/in`, whether there is an `/out`, and its most bytes.

    See `nbcontainer.sandbox.steps.exchange.values`. `size` is None for the kernel's own limit.
    """

    inputs: tuple[str, ...] = ()
    output: bool = False
    size: int | None = None


@dataclass(frozen=True)
class Work:
    """A function of this package, with its keyword arguments as a JSON object, in place of a program."""

    module: str
    function: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Spec:
    """A container but for its root. `mounts`, `networking` and `privileges` are the values of the run's own options.

    `hostname` is empty for the name of the container that it becomes. `limits` are those of each process, `shm_size`
    the bytes of /dev/shm. `resolver` is the text of the container's own /etc/resolv.conf, empty if it has none.
    `groups` is the prefix of the names of its control groups, which are shown to it; empty if it has none.
    `script` is the number of the travelling descriptor that holds the cell's body, None if there is none.
    `git_config` is the text of git's system configuration, empty for the image's own. `driver` is the text of the
    program that runs a Python cell, empty if the cell is none. `namespace` is the number of the travelling descriptor
    of the network namespace that it joins, None if it has its own.
    """

    process: Program | Work
    hostname: str = ""
    mounts: Mounts = Mounts()
    networking: Networking = Networking()
    privileges: Privileges = Privileges()
    limits: tuple[Limit, ...] = DEFAULT_LIMITS
    shm_size: int = SHM_SIZE
    resolver: str = ""
    script: int | None = None
    control_directory: ControlDirectory | None = None
    values: Values | None = None
    groups: str = ""
    git_config: str = ""
    driver: str = ""
    namespace: int | None = None
