"""Which user namespace containers run in, and how its ids map to the host's.

Root gets a high range of ids that own nothing on the host. A plain user gets the range that /etc/subuid grants, or,
without one, a map of only that user's id. With `--userns=host`, which only root can use, there is no user namespace.
"""

from __future__ import annotations

import enum
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from nbcontainer.linux.procfs import read_text
from nbcontainer.sandbox.diagnosis import Machine, map_advice

_DIGITS = 10
"""Decimal digits of the highest id."""

COUNT = 65536
"""Ids in a full map: what /etc/subuid grants by default, and enough for the id of `nobody` in every distribution."""

ROOT_BASE = 0x7000_0000
"""First host id of root's range. It is unused in systemd's list of uid ranges (systemd.io/UIDS-GIDS)."""

_ROOT_MORE = (
    (COUNT, ROOT_BASE + COUNT, 0x1000_0000 - COUNT),
    (0x1000_0000, 0x9000_0000, 0x6FFF_FFFF),
    (0xF000_0000, 0x8000_0000, 0x0FFF_FFFF),
)
"""Root's further ranges: the rest of the unused ids, and those with 32 bits, which systemd's list leaves to no user.

Images have such owners: Git for Windows 197609, OpenShift 1000660000, Fedora's old nfsnobody 4294967294.
"""


@dataclass(frozen=True)
class Range:
    """`count` ids that start at `inside` in the namespace and at `outside` on the host (user_namespaces(7))."""

    inside: int
    outside: int
    count: int


class MapKind(enum.StrEnum):
    """What kind of map a user namespace has."""

    RANGE = "range"
    """A full map."""
    SINGLE = "single"
    """A map of one id."""
    HOST = "host"
    """No user namespace."""


SINGLE, HOST = MapKind.SINGLE, MapKind.HOST


@dataclass(frozen=True)
class IdMap:
    """The id maps of one user namespace.

    If `tool` is true, newuidmap must write them, since only that program can give a plain user the range.
    Without a user namespace, `store` are the ranges in which the owners of the store's files are.
    """

    kind: MapKind
    uids: tuple[Range, ...] = ()
    gids: tuple[Range, ...] = ()
    tool: bool = False
    store: tuple[Range, ...] = ()

    @property
    def setgroups(self) -> bool:
        """Whether setgroups(2) is allowed: the kernel denies it if an unprivileged process wrote the map."""
        return self.kind != MapKind.SINGLE

    @property
    def root_uid(self) -> int:
        """The host uid of the container's root."""
        return next((r.outside for r in self.uids if r.inside == 0), 0)

    @property
    def root_gid(self) -> int:
        """The host gid of the container's root."""
        return next((r.outside for r in self.gids if r.inside == 0), 0)

    def maps(self, gid: int) -> bool:
        """Whether this gid exists in the container."""
        return self.kind == MapKind.HOST or any(r.inside <= gid < r.inside + r.count for r in self.gids)

    @property
    def last_gid(self) -> int:
        """The group id of the container with the highest host gid: the end of ranges that the host's ids decide."""
        if self.kind == MapKind.HOST:
            return COUNT - 1
        highest = max(self.gids, key=lambda r: r.outside)
        return highest.inside + highest.count - 1


def host_map(uid_map: str = "", gid_map: str = "") -> IdMap:
    """Return the map for containers without a user namespace.

    The texts are those of /proc/self/uid_map and gid_map: root's other containers have their ids by them (`root_map`).
    """
    return IdMap(MapKind.HOST, store=(Range(0, ROOT_BASE, COUNT), *_root_more(uid_map, gid_map)))


def single_map(uid: int, gid: int) -> IdMap:
    """Return the map in which the container's root is this user and no other id exists."""
    return IdMap(MapKind.SINGLE, (Range(0, uid, 1),), (Range(0, gid, 1),))


@dataclass(frozen=True)
class Refusal:
    """Why a user has only one id in containers, and the one thing to do about it."""

    why: str
    advice: str


def choose(machine: Machine | None = None) -> IdMap:
    """Return the map for containers of this process's user. `machine` is this machine by default."""
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
        MapKind.RANGE,
        (Range(0, uid, 1), Range(1, uids[0], min(uids[1], COUNT))),
        (Range(0, gid, 1), Range(1, gids[0], min(gids[1], COUNT))),
        tool=True,
    )


def range_refusal(machine: Machine) -> Refusal | None:
    """Return why only a single id can be mapped; None if a range can be, as far as is visible without a probe."""
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
            return Refusal(f"/etc/sub{name} grants no range to {user}", advice)
        if not _covers(machine.read(f"self/{name}_map"), ids[0], min(ids[1], COUNT)):
            advice = f"give {user} a range of ids that exist here, or give the outer container more ids"
            return Refusal(f"the range in /etc/sub{name} is not mapped in the outer container", advice)
        if (refusal := _tool_refusal(machine, f"new{name}map")) is not None:
            return refusal
    if machine.no_new_privs:
        advice = "allow privilege escalation for the notebook (Kubernetes: allowPrivilegeEscalation: true)"
        return Refusal("the notebook runs with no_new_privs, so newuidmap cannot work", advice)
    return None


def _root_refusal(machine: Machine) -> Refusal | None:
    if not machine.capable("SETUID", "SETGID"):
        return Refusal("root cannot map ids without the capabilities SETUID and SETGID", map_advice(machine))
    alone = all(sum(count for _, _, count in _parse(machine.read(f"self/{name}_map"))) == 1 for name in ("uid", "gid"))
    if alone or machine.read("self/setgroups") == "deny":
        return Refusal("the notebook's user namespace has a single id", "give that namespace a range of ids")
    return None


def _tool_refusal(machine: Machine, tool: str) -> Refusal | None:
    """Return why newuidmap or newgidmap cannot write maps: each needs the setuid bit or a file capability."""
    found = machine.which(tool)
    if found is None:
        return Refusal(f"{tool} is not installed", "install it (Debian, Ubuntu: apt install uidmap; others: shadow)")
    advice = "reinstall its package on a file system that is not mounted nosuid"
    try:
        by_file = "security.capability" in os.listxattr(found)
        by_root = Path(found).stat().st_mode & stat.S_ISUID
    except OSError:
        return None
    mount = machine.mount_of(Path(found).resolve())
    if not (by_file or by_root) or (mount is not None and "nosuid" in mount.options):
        return Refusal(f"{found} has neither the setuid bit nor a file capability in effect", advice)
    if not by_file and not machine.bounded("SYS_ADMIN"):
        # A setuid program maps with root's right, which needs SYS_ADMIN; a file capability leaves the user's own right.
        capability = {"newuidmap": "cap_setuid", "newgidmap": "cap_setgid"}[tool]
        advice = f"chmod u-s {found} and setcap {capability}=ep {found} (as root)"
        return Refusal(f"{tool} is setuid, but root lacks the capability SYS_ADMIN here", advice)
    return None


def root_map(uid_map: str, gid_map: str) -> IdMap:
    """Return root's map; `uid_map` and `gid_map` are the texts of /proc/self/uid_map and gid_map.

    If root itself is in a user namespace (rootless podman, LXC), it has no high range to give. Then containers get a
    namespace of their own with the same ids, one to one.
    """
    if _covers(uid_map, ROOT_BASE, COUNT) and _covers(gid_map, ROOT_BASE, COUNT):
        high = (Range(0, ROOT_BASE, COUNT), *_root_more(uid_map, gid_map))
        return IdMap(MapKind.RANGE, high, high)
    return IdMap(MapKind.RANGE, _identity(uid_map), _identity(gid_map))


def _root_more(uid_map: str, gid_map: str) -> tuple[Range, ...]:
    """Return those of root's further ranges that exist here."""
    texts = uid_map, gid_map
    return tuple(Range(*one) for one in _ROOT_MORE if all(_covers(text, *one[1:]) for text in texts))


def _parse(text: str) -> list[tuple[int, int, int]]:
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())]


def _covers(text: str, first: int, many: int) -> bool:
    return any(start <= first and first + many <= start + count for start, _, count in _parse(text))


def _identity(text: str) -> tuple[Range, ...]:
    return tuple(Range(start, start, count) for start, _, count in _parse(text))


def granted(path: str | Path, uid: int) -> tuple[int, int] | None:
    """Return first id and count of the largest range that file `path` (subuid(5)) grants user `uid`; None for none."""
    ranges = [(first, count) for owner, first, count in _grants(Path(path)) if owner in (_name(uid), str(uid))]
    return max(ranges, key=lambda r: r[1], default=None)


def _grants(path: Path) -> list[tuple[str, int, int]]:
    """Return owner, first id and count of every valid line of a subuid(5) file; none if there is no file."""
    try:
        lines = read_text(path).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if all(_is_number(word) for word in (first, count)) and int(count) > 0:
            found.append((owner, int(first), int(count)))
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def _first_free(path: Path) -> int:
    """Return the first id above all ids that a subuid(5) file grants; useradd(8) starts at 100000."""
    return max((first + count for _, first, count in _grants(path)), default=100_000)


def _name(uid: int) -> str:
    """Return a user's name, or the uid as text if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
