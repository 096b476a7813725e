"""The control group of a cell (cgroups(7)): creation, limits, entry, events, removal.

The notebook makes it below a group that it can write to (`nbcontainer.sandbox.cgroups.hierarchy`), and moves init into
it before the cell begins, so that nothing of the cell is ever outside. All that it reports comes from the kernel.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbcontainer.errors import LimitUnavailable
from nbcontainer.linux.files import write_once
from nbcontainer.linux.procfs import birth
from nbcontainer.outcome import Reason
from nbcontainer.sandbox.cgroups import hierarchy
from nbcontainer.sandbox.diagnosis import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nbcontainer.outcome import Outcome

UNLIMITED = -1

_PERIOD = 100_000  # microseconds after which a quota of processor time is renewed; the kernel's default
_READ_TOGETHER = ("cpu", "cpuacct", "cpuset", "memory")
_WORDS = {"cpu": "processors", "memory": "memory", "pids": "processes"}


@dataclass(frozen=True)
class GroupLimits:
    """What all processes of a cell can use together; None for no limit.

    `memory` is in bytes, `swap` in bytes in addition to it (UNLIMITED for all swap; None for no swap, if the kernel
    counts it), `cpus` in processors, `pids` in processes (UNLIMITED for no limit).
    """

    memory: int | None = None
    swap: int | None = None
    cpus: float | None = None
    pids: int | None = None

    @functools.cached_property
    def controllers(self) -> tuple[str, ...]:
        """The controllers that these limits need."""
        needed = {
            "cpu": self.cpus is not None,
            "memory": self.memory is not None,
            "pids": self.pids not in (None, UNLIMITED),
        }
        return tuple(name for name, is_needed in needed.items() if is_needed)

    def settings(self, controller: str, *, unified: bool) -> Iterator[tuple[str, str]]:
        """Yield the files of a controller and what to write to each (cgroup-v2.rst, and cgroup-v1/*.rst)."""
        quota = round((self.cpus or 0) * _PERIOD)
        if controller == "pids":
            yield "pids.max", str(self.pids)
        elif controller == "cpu" and unified:
            yield "cpu.max", f"{quota} {_PERIOD}"
        elif controller == "cpu":
            yield "cpu.cfs_period_us", str(_PERIOD)
            yield "cpu.cfs_quota_us", str(quota)
        elif unified:
            yield "memory.max", str(self.memory)
            yield "memory.oom.group", "1"
        else:
            yield "memory.limit_in_bytes", str(self.memory)

    def swap_setting(self, *, unified: bool) -> tuple[str, str]:
        """Return the same for swap, whose file exists only if the kernel counts swap."""
        swap = self.swap or 0
        if unified:
            return "memory.swap.max", "max" if swap == UNLIMITED else str(swap)
        return "memory.memsw.limit_in_bytes", str(UNLIMITED if swap == UNLIMITED else (self.memory or 0) + swap)


_numbers = itertools.count(1)


class Group:
    """The groups of one cell: a directory in each hierarchy with a controller that it needs.

    The caller calls `remove` when all processes in it are dead. `sweep` removes what a dead notebook left.
    """

    def __init__(
        self,
        limits: GroupLimits,
        machine: Machine | None = None,
        can_make: Callable[[Path], bool] = hierarchy.can_make_group,
    ) -> None:
        """Make the groups. Raises `LimitUnavailable` if a limit cannot be enforced; nothing is left then.

        `alarm` is an eventfd that becomes readable when the cell reaches its memory limit, if the kernel does not kill
        the whole group by itself, as it does with memory.oom.group (cgroup-v2.rst). `remove` closes it.
        """
        self.limits = limits
        self.alarm: int | None = None
        self._paths: dict[str, Path] = {}
        self._inside: tuple[int, str] | None = None
        machine = machine or Machine()
        groups = hierarchy.look(machine)
        parents = groups.parents(limits.controllers, can_make)
        if not parents:
            raise _unavailable(limits, machine, groups, groups.usable(can_make))
        name = hierarchy.name_of(next(_numbers))
        try:
            for parent, controllers in parents.items():
                unified = parent not in groups.legacy.values()
                if unified:
                    _give_on(parent, controllers)
                (parent / name).mkdir()
                for controller in controllers:
                    self._paths[controller] = parent / name
                    self._limit(controller, unified=unified)
            self._complete(groups, name, can_make)
        except OSError as error:
            self.remove()
            raise LimitUnavailable(
                f"cannot set a limit at {error.filename}: {error.strerror}",
                hint="choose another limit, or leave it out",
            ) from error

    def _complete(self, groups: hierarchy.Cgroups, name: str, can_make: Callable[[Path], bool]) -> None:
        """Make groups without a limit in the other hierarchies of version 1 that Java reads, if it has one of them.

        It reads no limit at all if one of the four is missing (src/hotspot/os/linux/cgroupSubsystem_linux.cpp).
        """
        if not any(controller in groups.legacy for controller in self._paths):
            return
        for controller in _READ_TOGETHER:
            parent = groups.legacy.get(controller)
            if controller in self._paths or parent is None or not can_make(parent):
                continue
            path = parent / name
            path.mkdir(exist_ok=True)
            self._paths[controller] = path
            if controller == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):  # empty at first, and then no process can enter
                    write_once(str(path / file), (parent / file).read_text().strip())

    def _limit(self, controller: str, *, unified: bool) -> None:
        path = self._paths[controller]
        for file, value in self.limits.settings(controller, unified=unified):
            write_once(str(path / file), value)
        if controller == "memory":
            file, value = self.limits.swap_setting(unified=unified)
            if (path / file).exists() or self.limits.swap not in (None, UNLIMITED):
                write_once(str(path / file), value)
            if not unified:
                self.alarm = _oom_alarm(path)

    def enter(self, pid: int) -> None:
        """Move a process (host pid) into the group, unless it was the last one moved. Raises `LimitUnavailable`."""
        process = (pid, birth(pid))
        if process == self._inside:
            return
        try:
            for path in set(self._paths.values()):
                write_once(str(path / "cgroup.procs"), str(pid))
        except OSError as error:
            raise LimitUnavailable(
                f"cannot move a container to {error.filename}: {error.strerror}", hint="leave the limits out"
            ) from error
        self._inside = process

    def explain(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the kernel's counts: if a cell ended badly at a limit, the limit is the reason.

        A cell that was killed together with its init, which could not say how much it had used, has the group's time.
        """
        outcome = replace(
            outcome,
            peak_memory=self._peak() or outcome.peak_memory,
            cpu_time=outcome.cpu_time or self._cpu_time(),
        )
        if outcome.ok or outcome.reason not in (Reason.EXITED, Reason.SIGNAL, Reason.KILLED):
            return outcome
        if self.limits.memory is not None and self._oom_kills():
            return replace(outcome, reason=Reason.OUT_OF_MEMORY, limit=self.limits.memory)
        if self.limits.pids is not None and self._count("pids", ("pids.events",), "max"):
            return replace(outcome, reason=Reason.TOO_MANY_PROCESSES, limit=self.limits.pids)
        return outcome

    def is_out_of_memory(self, patience: float = 0.1) -> bool:
        """Return whether the kernel has killed one of its processes for lack of memory, or does in `patience` seconds.

        The kernel raises the alarm before it chooses a process (mm/memcontrol-v1.c).
        """
        deadline = time.monotonic() + patience
        while not self._oom_kills() and time.monotonic() < deadline:
            time.sleep(0.001)
        return bool(self._oom_kills())

    def _oom_kills(self) -> int:
        return self._count("memory", ("memory.events", "memory.oom_control"), "oom_kill")

    def _peak(self) -> int:
        for file in ("memory.peak", "memory.max_usage_in_bytes"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                return int((self._paths["memory"] / file).read_text())
        return 0

    def _cpu_time(self) -> float:
        """Return the seconds that its processes computed: cpuacct.rst in version 1, cpu.stat in version 2."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int((self._paths["cpuacct"] / "cpuacct.usage").read_text()) / 1e9
        return max(self._count(controller, ("cpu.stat",), "usage_usec") for controller in _WORDS) / 1e6

    def _count(self, controller: str, files: tuple[str, ...], key: str) -> int:
        for file in files:
            with contextlib.suppress(OSError, ValueError, KeyError):
                lines = (self._paths[controller] / file).read_text().splitlines()
                return int(dict(line.split(" ", 1) for line in lines)[key])
        return 0

    def remove(self) -> bool:
        """Remove the group. Returns False if it still has a process, or cannot be removed."""
        if self.alarm is not None:
            os.close(self.alarm)
            self.alarm = None
        for name, path in list(self._paths.items()):
            with contextlib.suppress(OSError):
                with contextlib.suppress(FileNotFoundError):  # two controllers may share one
                    path.rmdir()
                del self._paths[name]
        return not self._paths


def sweep(machine: Machine) -> None:
    """Remove the groups that dead notebooks left."""
    for parent in hierarchy.look(machine).places():
        with contextlib.suppress(OSError):
            for path in parent.glob(f"{hierarchy.PREFIX}*-*"):
                if hierarchy.is_left(path.name):
                    with contextlib.suppress(OSError):
                        path.rmdir()


def _give_on(parent: Path, controllers: tuple[str, ...]) -> None:
    given = (parent / "cgroup.subtree_control").read_text().split()
    for name in controllers:
        if name not in given:
            write_once(str(parent / "cgroup.subtree_control"), f"+{name}")


def _oom_alarm(path: Path) -> int | None:
    """Return an eventfd that the kernel counts up when a group reaches its limit (cgroup-v1/memory.rst, 9 and 10).

    None if it is not available. The caller closes it.
    """
    alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(path / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write_once(str(path / "cgroup.event_control"), f"{alarm} {control}")
        finally:
            os.close(control)
    except OSError:
        os.close(alarm)
        return None
    return alarm


def _unavailable(
    limits: GroupLimits, machine: Machine, groups: hierarchy.Cgroups, usable: tuple[str, ...]
) -> LimitUnavailable:
    missing = [name for name in limits.controllers if name not in usable] or limits.controllers
    what = " or ".join(_WORDS[name] for name in missing)
    hint = hierarchy.advice(machine, groups, usable) or "leave the limit out"
    return LimitUnavailable(f"this notebook cannot limit a cell's {what} (cgroups: {groups.version})", hint=hint)
