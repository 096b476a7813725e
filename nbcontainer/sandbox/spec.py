"""What a person asked for, as plain data: the whole of a container before anything is done."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES, DEFAULT_LIMITS, Limit

if TYPE_CHECKING:
    from nbcontainer.linux.paths import Link

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm, as Docker has it."""

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
"""The signals that init hands on to the cell (signal(7))."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class HostLower:
    """A directory of this machine as the lowest layer of an overlay.

    `path` is absolute (host), or relative to the store's `layers` where the launcher shows it (`Launcher.show`).
    `around` says that the layers lie in it: overlayfs refuses one lower inside another (fs/overlayfs/super.c).
    """

    path: str
    around: bool = False


@dataclass(frozen=True)
class Overlay:
    """A root of layers: paths below the store's `layers` directory, the topmost lower first.

    Without an upper the view is read-only. Below all may be a directory of the `host`; `parts` are overlays at places
    of their own in the root, their `target` (container, absolute).
    """

    lowers: tuple[str, ...]
    upper: str | None = None
    work: str | None = None
    host: HostLower | None = None
    target: str = "/"
    parts: tuple[Overlay, ...] = ()


@dataclass(frozen=True)
class Directory:
    """A root that is one directory, by its path relative to the store."""

    path: str
    read_only: bool = False


@dataclass(frozen=True)
class Volume:
    """A host path in the container.

    `source` is absolute and resolved (host), `target` absolute (container). `device` and `inode` are the source's, as
    the notebook saw it. `tree`, where it is not -1, is the number of the travelling descriptor that holds the source
    as an idmapped, detached mount. `links` are those that the words for the source led through, and
    `born` is when it was made (`nbcontainer.linux.paths.Node`).
    """

    source: str
    target: str
    read_only: bool = False
    directory: bool = True
    device: int = 0
    inode: int = 0
    tree: int = -1
    links: tuple[Link, ...] = ()
    born: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Tmpfs:
    """Memory at `target` (container); `size` in bytes, None for the kernel's default."""

    target: str
    size: int | None = None


@dataclass(frozen=True)
class Port:
    """A port of this machine, at `address` (IPv4), that leads to one of the container's. `protocol` is tcp or udp."""

    address: str
    host: int
    container: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.address}:{self.host}:{self.container}/{self.protocol}"


@dataclass(frozen=True)
class Program:
    """What runs: `argv`, `env` as NAME=value strings, `cwd` (container), `user` as `NAME|UID[:GROUP|GID]`."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    terminal: bool = False


@dataclass(frozen=True)
class ControlDirectory:
    """A directory in the container's /dev that the notebook gets a descriptor of.

    See `nbcontainer.sandbox.steps.control_directory`.

    `files` are (name, mode, content), `directories` (name, mode).
    """

    files: tuple[tuple[str, int, str], ...] = ()
    pipes: tuple[str, ...] = ()
    directories: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Work:
    """A function of this package, with its keyword arguments as a JSON object, in place of a program."""

    module: str
    function: str
    arguments: str = "{}"


@dataclass(frozen=True)
class Spec:
    """A container. `script` is the number of the travelling descriptor that holds the cell's body, -1 for none.

    `network` is none, host or private; `resolver` is the text of a private one's /etc/resolv.conf. `limits` are
    those of each process, `shm_size` the bytes of /dev/shm.
    """

    root: Overlay | Directory
    process: Program | Work
    hostname: str = "nbcontainer"
    volumes: tuple[Volume, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    network: str = "none"
    resolver: str = ""
    read_only: bool = False
    script: int = -1
    control_directory: ControlDirectory | None = None
    limits: tuple[Limit, ...] = DEFAULT_LIMITS
    shm_size: int = SHM_SIZE
    capabilities: tuple[str, ...] = field(default=DEFAULT_CAPABILITIES)
