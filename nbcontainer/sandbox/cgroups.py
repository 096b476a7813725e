"""Which control groups this process can use: version 2, version 1, or both at once (cgroups(7))."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.machine import Machine

WANTED = ("cpu", "memory", "pids")
"""The controllers that limits for a cell need."""

V1, V2, HYBRID, NONE = "v1", "v2", "hybrid", "none"


@dataclass(frozen=True)
class Cgroups:
    """This process's own groups, as host paths, and their controllers.

    `unified` is the one of version 2 (None where that is not mounted) and has `controllers`; `legacy` are those of
    version 1 by their controller.
    """

    unified: Path | None = None
    controllers: tuple[str, ...] = ()
    legacy: dict[str, Path] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """`v2`, `v1`, `hybrid` (controllers of version 1 beside a tree of version 2), or `none`."""
        if self.unified is None:
            return V1 if self.legacy else NONE
        return HYBRID if self.legacy else V2

    def usable(self, can_make: Callable[[Path], bool]) -> tuple[str, ...]:
        """The wanted controllers that this process can use, by trying: below which of its groups it can make one."""
        own = can_make(self.unified) if self.unified is not None else False
        found = {name for name in WANTED if own and name in self.controllers}
        found |= {name for name in WANTED if name in self.legacy and can_make(self.legacy[name])}
        return tuple(sorted(found))


def look(machine: Machine) -> Cgroups:
    """The groups of this process, by its cgroups(7) file and where they are mounted."""
    own = [line.split(":", 2) for line in machine.read("self/cgroup").splitlines()]
    unified: Path | None = None
    legacy: dict[str, Path] = {}
    for mount in machine.mounts():
        if mount.fstype == "cgroup2":
            path = next((path for number, names, path in own if number == "0" and not names), None)
            unified = _seen(mount.root, mount.target, path) if path is not None else None
        elif mount.fstype == "cgroup":
            for _, names, path in own:
                for name in set(names.split(",")) & set(mount.super_options):
                    legacy[name] = _seen(mount.root, mount.target, path)
    controllers: tuple[str, ...] = ()
    if unified is not None:
        controllers = tuple((_text(unified / "cgroup.controllers")).split())
    return Cgroups(unified, controllers, {name: path for name, path in legacy.items() if "=" not in name})


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
    """Whether a group can be made below `parent`; it is removed again."""
    path = parent / f"nbcontainer-{os.getpid()}-{secrets.token_hex(4)}"
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
