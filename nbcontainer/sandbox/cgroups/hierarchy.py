"""Which control groups this process can use: version 2, version 1, or both at once (cgroups(7))."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nbcontainer.sandbox.diagnosis import Machine

WANTED = ("cpu", "memory", "pids")
"""The controllers that limits for a cell need."""

PREFIX = "nbcontainer-"
"""How the names of the groups that are made here begin."""

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
        """The wanted controllers that this process can use, by trying."""
        return tuple(sorted(name for name in WANTED if self.parents((name,), can_make)))

    def parents(self, needed: Iterable[str], can_make: Callable[[Path], bool]) -> dict[Path, tuple[str, ...]]:
        """Below which groups one for a cell can be made, and for which of the needed controllers each is.

        Empty where not all of them can be had. A process is in one group of version 2, so what is not in `legacy` must
        be had from the same: the nearest above this process whose children get it, this process's own among them.
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
        """Every group that one for a cell may have been made in."""
        return tuple(dict.fromkeys((*self.legacy.values(), *self._above())))

    def _above(self) -> Iterator[Path]:
        """The own group of version 2 and those above it, as far as they can be seen."""
        if self.unified is not None and self.top is not None:
            yield self.unified
            yield from (path for path in self.unified.parents if path.is_relative_to(self.top))


def _gives(group: Path, controllers: Iterable[str]) -> bool:
    """Whether the groups below one have the controllers, or would if they were asked for.

    They are given on where cgroup.subtree_control says so; in a group that has processes only the hierarchy's root,
    which has no cgroup.events, can be told to (cgroup-v2.rst, "No Internal Process Constraint").
    """
    given = (_text(group / "cgroup.subtree_control")).split()
    if not (group / "cgroup.events").exists():
        given += _text(group / "cgroup.controllers").split()
    return set(controllers) <= set(given)


def look(machine: Machine) -> Cgroups:
    """The groups of this process, by its cgroups(7) file and where they are mounted."""
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
    """Where a group is seen through a mount that shows the hierarchy from `root` on; its top where it does not."""
    wanted = PurePosixPath(path)
    return Path(target) / wanted.relative_to(root) if wanted.is_relative_to(root) else Path(target)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def can_make_group(parent: Path) -> bool:
    """Whether a group can be made below `parent`, and processes of this one's groups moved there; it is removed again.

    Who moves a process must be able to write to the group that both have above them.
    """
    path = parent / f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
    if not os.access(parent / "cgroup.procs", os.W_OK):
        return False
    try:
        path.mkdir()
        path.rmdir()
    except OSError:
        return False
    return True


def advice(machine: Machine, groups: Cgroups, usable: tuple[str, ...]) -> str:
    """The one thing to do for the controllers that are wanted and cannot be used; empty where all can."""
    if set(WANTED) <= set(usable):
        return ""
    if groups.version == NONE:
        return "mount them: mount -t cgroup2 none /sys/fs/cgroup (as root)"
    lacking = [name for name in WANTED if name not in groups.controllers and name not in groups.legacy]
    if groups.legacy and not machine.root:
        return "version 1 is root's alone: boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"
    if machine.root and not lacking:
        return (
            "the cgroups of what the notebook runs in cannot be written: start the outer container with "
            "--cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup"
        )
    if lacking:
        names = " ".join(lacking)
        return f"have {names} delegated to this user: Delegate={names} in user@.service (systemctl edit, as root)"
    return "start the notebook in a group of its own: systemd-run --user --scope -p Delegate=yes jupyter lab"
