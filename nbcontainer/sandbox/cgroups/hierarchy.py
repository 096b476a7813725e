"""Which control groups this process can use: version 2, version 1, or both at once (cgroups(7))."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nbcontainer.linux.procfs import birth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.sandbox.diagnosis import Machine

WANTED = ("cpu", "memory", "pids")
"""The controllers that the limits of a cell need."""

PREFIX = "nbcontainer-"
"""The prefix of the names of our groups."""

V1, V2, HYBRID, NONE = "v1", "v2", "hybrid", "none"


@dataclass(frozen=True)
class Cgroups:
    """This process's own groups, as host paths, and their controllers.

    `unified` is the one of version 2 (None where that is not mounted) and has `controllers`; `top` is where that
    hierarchy is mounted. `legacy` are those of version 1 by their controller.
    """

    unified: Path | None = None
    controllers: tuple[str, ...] = ()
    legacy: dict[str, Path] = field(default_factory=dict)
    top: Path | None = None

    @property
    def version(self) -> str:
        """`v2`, `v1`, `hybrid` (controllers of version 1 beside a tree of version 2), or `none`."""
        if self.unified is None:
            return V1 if self.legacy else NONE
        return HYBRID if self.legacy else V2

    def usable(self, can_make: Callable[[Path], bool]) -> tuple[str, ...]:
        """Return the required controllers that this process can use; tries each."""
        return tuple(sorted(name for name in WANTED if self.parents((name,), can_make)))

    def parents(self, needed: Iterable[str], can_make: Callable[[Path], bool]) -> dict[Path, tuple[str, ...]]:
        """Return the groups below which a cell's group can be made, each with the needed controllers that it provides.

        Empty if a controller is not available. A process is in one group of version 2, so one group must provide all
        controllers that are not in `legacy`: the nearest one, from this process's own upwards, whose children get them.
        """
        found: dict[Path, tuple[str, ...]] = {}
        unified = []
        for name in needed:
            if name not in self.legacy:
                unified.append(name)
            elif can_make(self.legacy[name]):
                found[self.legacy[name]] = (*found.get(self.legacy[name], ()), name)
            else:
                return {}
        if unified:
            fit = next((path for path in self._above() if _gives(path, unified) and can_make(path)), None)
            if fit is None:
                return {}
            found[fit] = tuple(unified)
        return found

    def places(self) -> tuple[Path, ...]:
        """Return every group in which a cell's group may have been made."""
        return tuple(dict.fromkeys((*self.legacy.values(), *self._above())))

    def _above(self) -> Iterator[Path]:
        """Yield this process's group of version 2 and those above it, as far as they are visible."""
        if self.unified is not None and self.top is not None:
            yield self.unified
            yield from (path for path in self.unified.parents if path.is_relative_to(self.top))


def _gives(group: Path, controllers: Iterable[str]) -> bool:
    """Return whether the groups below `group` have the controllers, or can get them.

    They have those in cgroup.subtree_control. Of the groups with processes, only the hierarchy's root, which has no
    cgroup.events, can add to that file (cgroup-v2.rst, "No Internal Process Constraint").
    """
    given = (_text(group / "cgroup.subtree_control")).split()
    if not (group / "cgroup.events").exists():
        given += _text(group / "cgroup.controllers").split()
    return set(controllers) <= set(given)


def look(machine: Machine) -> Cgroups:
    """Return the groups of this process, by its cgroups(7) file and the mounts."""
    own = [line.split(":", 2) for line in machine.read("self/cgroup").splitlines()]
    unified = top = None
    legacy: dict[str, Path] = {}
    for mount in machine.mounts():
        if mount.fstype == "cgroup2":
            path = next((path for number, names, path in own if number == "0" and not names), None)
            unified = _seen(mount.root, mount.target, path) if path is not None else None
            top = Path(mount.target)
        elif mount.fstype == "cgroup":
            for _, names, path in own:
                for name in set(names.split(",")) & set(mount.super_options):
                    legacy[name] = _seen(mount.root, mount.target, path)
    controllers: tuple[str, ...] = ()
    if unified is not None:
        controllers = tuple((_text(unified / "cgroup.controllers")).split())
    return Cgroups(unified, controllers, {name: path for name, path in legacy.items() if "=" not in name}, top)


def _seen(root: str, target: str, path: str) -> Path:
    """Return a group's path in a mount of the hierarchy from `root` on; the mount point if it is not below `root`."""
    wanted = PurePosixPath(path)
    return Path(target) / wanted.relative_to(root) if wanted.is_relative_to(root) else Path(target)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def name_of(group: object) -> str:
    """Return the name of a group of this process: it has the pid, when that began, and the pid namespace it is in."""
    return f"{PREFIX}{os.getpid()}-{birth(os.getpid())}.{_pid_namespace()}-{group}"


def is_left(name: str) -> bool:
    """Return whether a group has the name of a dead process. One of another pid namespace may be alive."""
    pid, _, rest = name.removeprefix(PREFIX).partition("-")
    born, _, namespace = rest.partition("-")[0].partition(".")
    seen = namespace in ("", str(_pid_namespace()))  # an older version gave no namespace
    return name.startswith(PREFIX) and pid.isdecimal() and seen and birth(int(pid)) != born


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # an outer /proc does not show it
        return 0


def can_make_group(parent: Path) -> bool:
    """Return whether a group can be made below `parent` and processes can be moved to it. Tries it, and cleans up.

    To move a process, this user must be able to write to the common ancestor of both groups.
    """
    path = parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"  # not a name that `is_left` spares
    if not os.access(parent / "cgroup.procs", os.W_OK):
        return False
    try:
        path.mkdir()
        with contextlib.suppress(FileNotFoundError):  # a notebook that started just now has removed it
            path.rmdir()
    except OSError:
        return False
    return True


def advice(machine: Machine, groups: Cgroups, usable: tuple[str, ...]) -> str:
    """Return the one thing to do about required controllers that cannot be used; empty if all can."""
    if set(WANTED) <= set(usable):
        return ""
    if groups.version == NONE:
        return "mount them: mount -t cgroup2 none /sys/fs/cgroup (as root)"
    lacking = [name for name in WANTED if name not in groups.controllers and name not in groups.legacy]
    if groups.legacy and not machine.root:
        return "only root can use version 1: boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
    if machine.root and not lacking:
        return (
            "the outer container's cgroups are read-only: start it with "
            "--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup"
        )
    if lacking:
        names = " ".join(lacking)
        return f"have {names} delegated to this user: Delegate={names} in user@.service (systemctl edit, as root)"
    return "start the notebook in its own group: systemd-run --user --scope -p Delegate=yes jupyter lab"
