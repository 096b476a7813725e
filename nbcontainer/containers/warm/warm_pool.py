"""The warm pool: containers that are started before a cell needs them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.containers.warm.warm_files import WarmFiles
from nbcontainer.containers.writes.reused_layers import ReusedLayers
from nbcontainer.errors import NbcontainerError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.cgroups.group import Group, GroupLimits
from nbcontainer.sandbox.plan import ahead, rest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.containers.writes.write_layer import WriteLayer
    from nbcontainer.images.runner import Runner
    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.plan import PlanTemplate
    from nbcontainer.sandbox.steps.base import Plan, Step
    from nbcontainer.store.layout import Store

DEPTH = 2
"""How many warm containers fit the last cell: while one cell ends, the next one may come."""


class WarmContainer(NamedTuple):
    """A container for a cell: the write layer it is on, its template and plan, the `steps` it has done, its limits.

    `group` has the limits, and contains its init; None while there is no group, or if there are no limits. A group pays
    because of the move of init into it, which may take the kernel 10 ms (synchronize_rcu in cgroup_attach_lock, 6.18).
    """

    upper: WriteLayer
    template: PlanTemplate
    plan: Plan
    steps: tuple[Step, ...]
    limits: GroupLimits
    group: Group | None = None

    def plan_of(self, template: PlanTemplate) -> Plan:
        """Return the plan of a template on this container's layer."""
        if template is self.template or template == self.template:
            return self.plan
        return template.on(self.upper.root, self.upper.name)


class WarmPool:
    """Containers that have done as much of the likely next cell's plan as needs no cell.

    DEPTH of them have done all that the last cell's plan allows before there is a cell, and are in groups with its
    limits. One more has only a root, for a cell that differs: one with volumes, for example. Thread-safe: one thread
    prepares, every thread may take. The owner calls `close`. `discard` removes the write layer of one that has made
    something in it, for example a mount point.
    """

    def __init__(self, store: Store, runner: Runner, launcher: Launcher, discard: Callable[[list[Path]], None]) -> None:
        self._store = store
        self._launcher = launcher
        self._discard = discard
        self._lock = threading.Lock()
        self._ready: list[WarmContainer] = []
        self.files = WarmFiles()
        self.layers = ReusedLayers(store, runner, launcher, discard)
        """Those of all containers of cells, warm or not."""

    def close(self) -> None:
        """Close the files and end the containers that wait."""
        with self._lock:
            ready, self._ready = self._ready, []
        self.files.close()
        with contextlib.suppress(NbcontainerError, OSError):
            self._launcher.dismiss(*(warm.steps for warm in ready))  # all at once: each takes a moment to die
        for warm in ready:
            with contextlib.suppress(NbcontainerError, OSError):
                self._dismiss(warm)
        self.layers.close()

    def wake(self) -> None:
        """Wake the container that the next cell is most likely to use."""
        with self._lock:
            likely = next(iter(self._ready), None)
        if likely is not None:
            self._launcher.wake(likely.steps)

    def take(self, lowers: tuple[str, ...], limits: GroupLimits, template: PlanTemplate) -> WarmContainer | None:
        """Return a warm container on these layers (the topmost first) with the template's plan, None if none fits.

        Its group becomes the caller's. The container has done the beginning of that plan, the longest one available. It
        is in no group, or in one with exactly these limits.
        """
        with self._lock:
            for warm in self._ready:
                confined = warm.group is not None and warm.limits != limits
                if confined or not self._waits(warm, lowers) or (warm.plan.compiled and not template.compiled):
                    continue
                plan = warm.plan_of(template)
                if plan is warm.plan or plan.begins_with(warm.steps):
                    self._ready.remove(warm)
                    return warm if plan is warm.plan else warm._replace(plan=plan)
        return None

    def prepare(
        self, lowers: tuple[str, ...], limits: GroupLimits, template: PlanTemplate, *, hurried: bool = False
    ) -> None:
        """Make the warm containers for a next cell that is like `template`, and end all others.

        Neither this nor `take` waits until they are made: the launcher's client waits for what is missing when it
        submits. Only for containers with limits this waits, to move them. If `hurried`, cells come without a pause:
        no container has only a root, and none prefaults, which takes more time than it saves. Raises this package's
        errors.
        """
        with self._lock:
            waiting = [warm for warm in self._ready if self._suits(warm, lowers, template)]
            alike = [warm for warm in waiting if _is_like(warm, limits, template)]
            # If nothing but the root can be done before the cell, a container is like both and counts once.
            general = [warm for warm in waiting if warm not in alike and _is_general(warm, template)]
            others = [warm for warm in self._ready if warm not in alike + general]
            self._ready = alike + general
        for warm in others:
            self._dismiss(warm)
        for _ in range(DEPTH - len(alike)):
            self._make(lowers, limits, template, ahead, prefault=not hurried)
        if not general and not hurried:
            self._make(lowers, GroupLimits(), template, lambda plan: plan.prepare)
        if not hurried:
            self.layers.trim(lowers, DEPTH)
        self.files.prepare(DEPTH)
        while self._confine_one():
            pass

    def _dismiss(self, warm: WarmContainer) -> None:
        self._launcher.dismiss(warm.steps)
        with contextlib.suppress(OSError):  # the cleanup removes what cannot be removed now
            if not warm.upper.remove():
                self._discard(warm.upper.left)
        if warm.group is not None:
            warm.group.remove()

    def _confine_one(self) -> bool:
        """Move one that waits without its limits into a group with them; return False if there is none.

        No cell may take it meanwhile. Raises `LimitUnavailable`; the container is gone then.
        """
        with self._lock:
            warm = next((warm for warm in self._ready if warm.limits.controllers and warm.group is None), None)
            if warm is None:
                return False
            self._ready.remove(warm)
        group = None
        try:
            pid = self._launcher.pid_of(warm.steps)
            group = Group(warm.limits)
            group.enter(pid)
        except BaseException:
            self._dismiss(warm._replace(group=group))
            raise
        self._add(warm._replace(group=group))
        return True

    def _suits(self, warm: WarmContainer, lowers: tuple[str, ...], template: PlanTemplate) -> bool:
        """Return whether one waits on these layers, with the init that the next cell is to have."""
        return warm.plan.compiled == template.compiled and self._waits(warm, lowers)

    def _waits(self, warm: WarmContainer, lowers: tuple[str, ...]) -> bool:
        upper = warm.upper
        return (upper.lowers, upper.in_memory) == (lowers, self._store.in_memory) and self._launcher.has(warm.steps)

    def _make(
        self,
        lowers: tuple[str, ...],
        limits: GroupLimits,
        template: PlanTemplate,
        beginning: Callable[[Plan], tuple[Step, ...]],
        *,
        prefault: bool = True,
    ) -> None:
        """Order a container that does the `beginning` of the template's plan."""
        upper = self.layers.new(lowers, template)
        try:
            plan = template.on(upper.root, upper.name)
            steps = beginning(plan)
            likely = plan if beginning is ahead else None
            self._launcher.order(steps, prefault=prefault, compiled=plan.compiled, likely=likely)
        except BaseException:
            upper.remove()
            raise
        if beginning is ahead and not plan.compiled:  # the message of the next cell, which then only sends it
            plan.encoded[len(steps)] = protocol.encode(rest(plan, len(steps)))
        self._add(WarmContainer(upper, template, plan, steps, limits))

    def _add(self, warm: WarmContainer) -> None:
        with self._lock:
            self._ready.append(warm)
            self._ready.sort(key=lambda warm: -len(warm.steps))


def _is_like(warm: WarmContainer, limits: GroupLimits, template: PlanTemplate) -> bool:
    return warm.limits == limits and warm.steps == ahead(warm.plan_of(template))


def _is_general(warm: WarmContainer, template: PlanTemplate) -> bool:
    return not warm.limits.controllers and warm.steps == warm.plan_of(template).prepare
