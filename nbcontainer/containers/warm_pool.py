"""Containers, and pipes for their output, that are made before anybody asks for them."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple

from nbcontainer.containers.writes.host_roots import view
from nbcontainer.containers.writes.write_layer import WriteLayer
from nbcontainer.errors import NbcontainerError
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.cgroups.group import Group, GroupLimits
from nbcontainer.sandbox.supervisor import output_pipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbcontainer.sandbox.launcher.client import Launcher
    from nbcontainer.sandbox.steps.base import Plan, Step
    from nbcontainer.store.layout import Store

    PlanFor = Callable[[WriteLayer], Plan]

DEPTH = 2
"""Containers like the last one ready at a time: while one cell goes by, the next one may come."""


class WarmContainer(NamedTuple):
    """A container that waits: the upper it is on, what it has behind it, and the limits that it waits for.

    `group` has them, and its init in it; None while it is not made, or where there are no limits. What makes it worth
    while is the move, for which the kernel may take 10 ms (synchronize_rcu in cgroup_attach_lock, 6.18).
    """

    upper: WriteLayer
    steps: tuple[Step, ...]
    limits: GroupLimits
    group: Group | None = None


class WarmPool:
    """Containers with as much done as can be foreseen, on the layers where the next cell is likely to be.

    DEPTH of them have all done that the last cell's plan let be done before there was a cell, and are in groups with
    its limits; one more has a root and nothing else, for a cell that is another: with volumes, say. Thread-safe: one
    thread prepares, any may take; who has it calls `close`. `discard` removes the upper of one that has made
    something in it, a place to mount on, say.
    """

    def __init__(self, store: Store, launcher: Launcher, discard: Callable[[Path], None]) -> None:
        self._store = store
        self._launcher = launcher
        self._discard = discard
        self._lock = threading.Lock()
        self._ready: list[WarmContainer] = []
        self._pipes: list[tuple[int, int]] = []

    def close(self) -> None:
        """Closes the pipes and ends the containers that wait."""
        with self._lock:
            pipes, self._pipes = self._pipes, []
            ready, self._ready = self._ready, []
        protocol.close(end for pipe in pipes for end in pipe)
        with contextlib.suppress(NbcontainerError, OSError):
            self._launcher.dismiss(*(one.steps for one in ready))  # all at once: each takes a moment to die
        for one in ready:
            with contextlib.suppress(NbcontainerError, OSError):
                self._dismiss(one)

    def output_pipe(self) -> tuple[int, int]:
        """A pipe as of `supervisor.output_pipe`, a ready one if there is one. The caller closes both ends."""
        with self._lock:
            if self._pipes:
                return self._pipes.pop()
        return output_pipe()

    def wake(self) -> None:
        """Has the container that the next cell most likely gets shake off its sleep."""
        with self._lock:
            likely = next(iter(self._ready), None)
        if likely is not None:
            self._launcher.wake(likely.steps)

    def take(
        self, lowers: tuple[str, ...], limits: GroupLimits, plan_for: PlanFor
    ) -> tuple[WarmContainer, Plan] | None:
        """A waiting container on these layers (the topmost first) with its plan, or None. Its group is the caller's.

        `plan_for` makes the cell's plan on an upper. The container is one that has the beginning of it behind it, and
        of those one with the most; it is in no group, or in one with these very limits.
        """
        with self._lock:
            for one in self._ready:
                confined = one.group is not None and one.limits != limits
                if confined or not self._waits(one, lowers):
                    continue
                if (todo := plan_for(one.upper)).begins_with(one.steps):
                    self._ready.remove(one)
                    return one, todo
        return None

    def prepare(self, lowers: tuple[str, ...], limits: GroupLimits, plan_for: PlanFor) -> None:
        """Sees to it that the next cell's containers are there, if it is as `plan_for` says, and no others.

        Does not wait until they are made, nor does a `take`: who starts one waits for what is missing. Only for those
        with limits it does, to move them. Raises this package's errors.
        """
        with self._lock:
            waiting = [one for one in self._ready if self._waits(one, lowers)]
            alike = [one for one in waiting if (one.steps, one.limits) == (plan.ahead(plan_for(one.upper)), limits)]
            # One that is like both, where nothing can be done ahead but a root, is there once all the same.
            general = [one for one in waiting if one not in alike and _is_general(one, plan_for)]
            others = [one for one in self._ready if one not in alike + general]
            self._ready = alike + general
        for one in others:
            self._dismiss(one)
        for _ in range(DEPTH - len(alike)):
            self._make(lowers, limits, lambda upper: plan.ahead(plan_for(upper)))
        if not general:
            self._make(lowers, GroupLimits(), lambda upper: plan_for(upper).prepare)
        for _ in range(2 * DEPTH - len(self._pipes)):
            pipe = output_pipe()
            with self._lock:
                self._pipes.append(pipe)
        while self._confine_one():
            pass

    def _dismiss(self, one: WarmContainer) -> None:
        self._launcher.dismiss(one.steps)
        with contextlib.suppress(OSError):  # what cannot be removed now is for the sweep
            if not one.upper.remove():
                self._discard(one.upper.path)
        if one.group is not None:
            one.group.remove()

    def _confine_one(self) -> bool:
        """Moves one that waits without its limits into a group with them; False where there is none.

        Nobody may take it meanwhile. Raises `LimitUnavailable`; the container is gone then.
        """
        with self._lock:
            one = next((one for one in self._ready if one.limits.controllers and one.group is None), None)
            if one is None:
                return False
            self._ready.remove(one)
        group = None
        try:
            pid = self._launcher.pid_of(one.steps)
            group = Group(one.limits)
            group.enter(pid)
        except BaseException:
            self._dismiss(one._replace(group=group))
            raise
        self._add(one._replace(group=group))
        return True

    def _waits(self, one: WarmContainer, lowers: tuple[str, ...]) -> bool:
        upper = one.upper
        return (upper.lowers, upper.in_memory) == (lowers, self._store.in_memory) and self._launcher.has(one.steps)

    def _make(
        self, lowers: tuple[str, ...], limits: GroupLimits, steps_for: Callable[[WriteLayer], tuple[Step, ...]]
    ) -> None:
        upper = WriteLayer(self._store, lowers, view(self._store, self._launcher, lowers))
        upper.make()
        try:
            steps = steps_for(upper)
            self._launcher.order(steps)
        except BaseException:
            upper.remove()
            raise
        self._add(WarmContainer(upper, steps, limits))

    def _add(self, one: WarmContainer) -> None:
        with self._lock:
            self._ready.append(one)
            self._ready.sort(key=lambda one: -len(one.steps))


def _is_general(one: WarmContainer, plan_for: PlanFor) -> bool:
    return not one.limits.controllers and one.steps == plan_for(one.upper).prepare
