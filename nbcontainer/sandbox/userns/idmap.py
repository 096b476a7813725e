"""Which user namespace containers live in, and how its ids map to the host's.

Root gets a high range that owns nothing on the host; a plain user gets the range that /etc/subuid grants, or, without
one, a map of nobody but the user. `--userns=host` is root's way to no user namespace at all.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.sandbox.diagnosis import Machine, map_advice

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


@dataclass(frozen=True)
class Refusal:
    """Why a user has no more than one id in containers, and the one thing to do about it."""

    why: str
    advice: str


def choose(machine: Machine | None = None) -> IdMap:
    """The map for containers of this process's user, by looking at the machine (this one by default)."""
    machine = machine or Machine()
    uid, gid = machine.uid, machine.gid
    if range_refusal(machine) is not None:
        return single_map(uid, gid)
    if machine.root:
        return root_map(machine.read("self/uid_map"), machine.read("self/gid_map"))
    uids, gids = granted(machine.etc / "subuid", uid), granted(machine.etc / "subgid", uid)
    assert uids is not None
    assert gids is not None
    return IdMap(
        RANGE,
        (Range(0, uid, 1), Range(1, uids[0], min(uids[1], COUNT))),
        (Range(0, gid, 1), Range(1, gids[0], min(gids[1], COUNT))),
        tool=True,
    )


def range_refusal(machine: Machine) -> Refusal | None:
    """Why only a single id can be mapped; None where a range can, as far as can be seen without trying."""
    if machine.root:
        return _root_refusal(machine)
    user = _name(machine.uid)
    for name in ("uid", "gid"):
        file = machine.etc / f"sub{name}"
        ids = granted(file, machine.uid)
        if ids is None:
            first = max(_first_free(machine.etc / "subuid"), _first_free(machine.etc / "subgid"))
            ids_free = f"{first}-{first + COUNT - 1}"
            advice = f"usermod --add-subuids {ids_free} --add-subgids {ids_free} {user} (as root)"
            return Refusal(f"/etc/sub{name} has no range for {user}", advice)
        if not _covers(machine.read(f"self/{name}_map"), ids[0], min(ids[1], COUNT)):
            advice = f"give {user} a range of ids that exist here, or the outer container more ids"
            return Refusal(f"the range in /etc/sub{name} is not among the ids of what the notebook runs in", advice)
        if (refusal := _tool_refusal(machine, f"new{name}map")) is not None:
            return refusal
    if machine.no_new_privs:
        advice = "allow privilege escalation for the notebook (Kubernetes: allowPrivilegeEscalation: true)"
        return Refusal("the notebook runs under no_new_privs, where newuidmap cannot work", advice)
    return None


def _root_refusal(machine: Machine) -> Refusal | None:
    if not machine.capable("SETUID", "SETGID"):
        return Refusal("this root may not map ids", map_advice(machine))
    alone = all(sum(count for _, _, count in _parse(machine.read(f"self/{name}_map"))) == 1 for name in ("uid", "gid"))
    if alone or machine.read("self/setgroups") == "deny":
        return Refusal("the user namespace that the notebook runs in has one id", "give that namespace a range of ids")
    return None


def _tool_refusal(machine: Machine, tool: str) -> Refusal | None:
    """Why newuidmap or newgidmap cannot do what only they may: it takes being setuid, or a file capability."""
    found = machine.which(tool)
    if found is None:
        return Refusal(f"{tool} is not installed", "install it (Debian, Ubuntu: apt install uidmap; others: shadow)")
    advice = "install its package anew, on a file system that is not mounted nosuid"
    try:
        by_file = "security.capability" in os.listxattr(found)
        by_root = Path(found).stat().st_mode & stat.S_ISUID
    except OSError:
        return None
    mount = machine.mount_of(Path(found).resolve())
    if not (by_file or by_root) or (mount is not None and "nosuid" in mount.options):
        return Refusal(f"{found} has no privilege", advice)
    if not by_file and not machine.bounded("SYS_ADMIN"):
        # Root's right to map comes with SYS_ADMIN; the user's own, which a file capability leaves it, does not.
        capability = {"newuidmap": "cap_setuid", "newgidmap": "cap_setgid"}[tool]
        advice = f"chmod u-s {found} and setcap {capability}=ep {found} (as root)"
        return Refusal(f"{tool} is setuid, and root may not administer what the notebook runs in", advice)
    return None


def root_map(uid_map: str, gid_map: str) -> IdMap:
    """Root's map, by the text of /proc/self/uid_map and gid_map.

    A root that is itself in a user namespace (rootless podman, LXC) has no high range to give: it gets its own ids,
    one to one, which is still a namespace of the container's own.
    """
    if _covers(uid_map, ROOT_BASE, COUNT) and _covers(gid_map, ROOT_BASE, COUNT):
        high = (Range(0, ROOT_BASE, COUNT),)
        return IdMap(RANGE, high, high)
    return IdMap(RANGE, _identity(uid_map), _identity(gid_map))


def _parse(text: str) -> list[tuple[int, int, int]]:
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())]


def _covers(text: str, first: int, many: int) -> bool:
    return any(start <= first and first + many <= start + count for start, _, count in _parse(text))


def _identity(text: str) -> tuple[Range, ...]:
    return tuple(Range(start, start, count) for start, _, count in _parse(text))


def granted(path: str | Path, uid: int) -> tuple[int, int] | None:
    """First id and count of the largest range that file `path` (subuid(5)) grants to user `uid`; None for none."""
    mine = [(first, count) for owner, first, count in _grants(Path(path)) if owner in (_name(uid), str(uid))]
    return max(mine, key=lambda r: r[1], default=None)


def _grants(path: Path) -> list[tuple[str, int, int]]:
    """Owner, first id and count of every line of a subuid(5) file that is one; none for no file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if first.isdigit() and count.isdigit() and int(count) > 0:
            found.append((owner, int(first), int(count)))
    return found


def _first_free(path: Path) -> int:
    """The first id above all that a subuid(5) file grants; 100000 is where useradd(8) begins."""
    return max((first + count for _, first, count in _grants(path)), default=100_000)


def _name(uid: int) -> str:
    """A user's name; the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
