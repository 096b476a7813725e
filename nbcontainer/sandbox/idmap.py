"""Which user namespace containers live in, and how its ids map to the host's.

Root gets a high range that owns nothing on the host; a plain user gets the range that /etc/subuid grants, or, without
one, a map of nobody but the user. `--userns=host` is root's way to no user namespace at all.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

COUNT = 65536
"""Ids in a full map: as many as /etc/subuid grants by default, enough for every distribution's `nobody`."""

ROOT_BASE = 0x7000_0000
"""First host id of root's range. systemd's list of uid ranges (systemd.io/UIDS-GIDS) leaves it unused."""


@dataclass(frozen=True)
class Range:
    """`count` ids from `inside` in the namespace are those from `outside` on the host (user_namespaces(7))."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True)
class IdMap:
    """One user namespace's maps.

    `kind` is `range` (a full map), `single` (one id) or `host` (no user namespace). `tool` says that newuidmap must
    write them, since only it may grant a plain user the range.
    """

    kind: str
    uids: tuple[Range, ...] = ()
    gids: tuple[Range, ...] = ()
    tool: bool = False

    @property
    def setgroups(self) -> bool:
        """Whether setgroups(2) is allowed: a map that an unprivileged process wrote denies it."""
        return self.kind != "single"

    @property
    def root_uid(self) -> int:
        """The host's uid of the container's root."""
        return next((r.outside for r in self.uids if r.inside == 0), 0)

    @property
    def root_gid(self) -> int:
        """The host's gid of the container's root."""
        return next((r.outside for r in self.gids if r.inside == 0), 0)

    def maps(self, gid: int) -> bool:
        """Whether the container has this gid."""
        return self.kind == "host" or any(r.inside <= gid < r.inside + r.count for r in self.gids)


SINGLE = "single"
RANGE = "range"
HOST = "host"


def host_map() -> IdMap:
    """No user namespace."""
    return IdMap(HOST)


def single_map(uid: int, gid: int) -> IdMap:
    """Root in the container is this user, and nobody else exists."""
    return IdMap(SINGLE, (Range(0, uid, 1),), (Range(0, gid, 1),))


def choose() -> IdMap:
    """The map for containers of this process's user, by looking at the machine."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return root_map(Path("/proc/self/uid_map").read_text(), Path("/proc/self/gid_map").read_text())
    if shutil.which("newuidmap") and shutil.which("newgidmap"):
        uids, gids = granted("/etc/subuid", uid), granted("/etc/subgid", uid)
        if uids and gids:
            return IdMap(
                RANGE,
                (Range(0, uid, 1), Range(1, uids[0], min(uids[1], COUNT))),
                (Range(0, gid, 1), Range(1, gids[0], min(gids[1], COUNT))),
                tool=True,
            )
    return single_map(uid, gid)


def root_map(uid_map: str, gid_map: str) -> IdMap:
    """Root's map, by the text of /proc/self/uid_map and gid_map.

    A root that is itself in a user namespace (rootless podman, LXC) has no high range to give: it gets its own ids,
    one to one, which is still a namespace of the container's own.
    """
    if _covers(uid_map, ROOT_BASE) and _covers(gid_map, ROOT_BASE):
        high = (Range(0, ROOT_BASE, COUNT),)
        return IdMap(RANGE, high, high)
    return IdMap(RANGE, _identity(uid_map), _identity(gid_map))


def _parse(text: str) -> list[tuple[int, int, int]]:
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())]


def _covers(text: str, first: int) -> bool:
    return any(start <= first and first + COUNT <= start + count for start, _, count in _parse(text))


def _identity(text: str) -> tuple[Range, ...]:
    return tuple(Range(start, start, count) for start, _, count in _parse(text))


def granted(path: str, uid: int) -> tuple[int, int] | None:
    """First id and count of the largest range that file `path` (subuid(5)) grants to user `uid`; None for none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    ranges = []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and first.isdigit() and count.isdigit() and int(count) > 0:
            ranges.append((int(first), int(count)))
    return max(ranges, key=lambda r: r[1], default=None)
