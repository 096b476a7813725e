"""Spares: inits that the launcher has started before there is a cell for them, and those that it is starting.

A spare has applied the first steps of a plan. It takes any plan that begins with these steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable
from nbcontainer.sandbox.helper.expectations import Expectations
from nbcontainer.sandbox.helper.helper_handle import HelperHandle
from nbcontainer.sandbox.helper.remote_init import RemoteInit
from nbcontainer.sandbox.launcher import proc_mounts
from nbcontainer.sandbox.launcher.connection import import_path, lost
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.launcher.root_mounts import RootMounts
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.step_failure import failure_of
from nbcontainer.sandbox.steps.namespaces import CloneInit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.sandbox.launcher.connection import Connection
    from nbcontainer.sandbox.steps.base import Plan, Step


class Spares:
    """The spares of one launcher. Not thread-safe: `Launcher` has the lock."""

    def __init__(self, connection: Connection) -> None:
        self.ready: list[tuple[tuple[Step, ...], ContainerHandle]] = []
        """The spares, each with the steps that it has applied."""
        self.ordered: dict[int, tuple[Step, ...]] = {}
        """By the number of the order: the steps of spares that are being started, the oldest first."""
        self._connection = connection
        self._refused: dict[str, Any] = {}
        self._expectations = Expectations()
        self._remotes: dict[int, tuple[RemoteInit, Plan | None]] = {}
        """By the number of the order: inits that the helper's server starts, and their likely plans.

        These numbers are negative.
        """
        self.roots = RootMounts(connection)
        connection.observers.append(self)

    def order(
        self,
        prepare: tuple[Step, ...],
        *,
        prefault: bool = True,
        compiled: bool = False,
        likely: Plan | None = None,
    ) -> None:
        """Order a spare that applies `prepare`, and prefaults, without waiting for it. Raises `LauncherError`.

        If it is `compiled`, its init is the helper, where there is one. `likely` is the plan that will probably take
        it.
        """
        if compiled and self._connection.helper is not None:
            self._order_compiled(prepare, likely)
            return
        if self.roots.files(prepare):  # it is for the helper, which ended: the cell gets another root
            raise lost("the helper that was to attach its root ended")
        number = self._connection.number()
        message = {"prepare": plan.encode(prepare), "order": number, "prefault": prefault}
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionError):
            self._connection.close()
            self._connection.ensure()
            self._connection.send(message)
        self.ordered[number] = prepare

    def _order_compiled(self, prepare: tuple[Step, ...], likely: Plan | None) -> None:
        assert isinstance(prepare[0], CloneInit)
        remote, files = RemoteInit(self._expectations), self.roots.files(prepare)
        first, flags = remote.prepare(prepare[1:], len(files)), prepare[0].flags()
        try:
            number = self._send_compiled(flags, first, files)
        except ConnectionError:
            self._connection.close()
            self._connection.ensure()
            if self._connection.helper is None:
                self.order(prepare)
                return
            number = self._send_compiled(flags, first, self.roots.files(prepare))
        self.ordered[number], self._remotes[number] = prepare, (remote, likely)

    def _send_compiled(self, flags: int, first: bytes, files: Sequence[int]) -> int:
        """Return the number of an order. Init begins at once, so what the launcher is to mount is there before."""
        if self._connection.unsettled:
            self.collect_all()  # answers come in the order of the orders
            self._connection.settle()
        assert self._connection.helper is not None
        return -self._connection.helper.order(flags, first, files)

    def wake(self, prepare: tuple[Step, ...]) -> None:
        """Wake the spare that has applied `prepare`, if there is one: the rest of its plan comes soon."""
        spare = self._find(prepare)
        if isinstance(spare, HelperHandle):
            spare.wake()
        elif spare is not None:
            with contextlib.suppress(OSError):
                protocol.send(spare.channel, {"soon": True})

    def collect(self) -> None:
        """Take over the spares that are started by now."""
        while self.ordered and self._has_answer():
            self._collect_one()
        for done, spare in self.ready:
            if isinstance(spare, HelperHandle):
                with contextlib.suppress(OSError):  # it has died: the cell that takes it reports that
                    spare.settle(wait=False)
                    spare.expect(len(done))

    def _has_answer(self) -> bool:
        helper = self._connection.helper
        if next(iter(self.ordered)) < 0 and helper is not None:
            return helper.has_answer()
        return self._connection.has_answer()

    def collect_all(self) -> None:
        """Wait until every ordered spare is started. Raises `ContainerLost`."""
        while self.ordered:
            self._collect_one()

    def has(self, prepare: tuple[Step, ...]) -> bool:
        """Return whether a living spare has applied `prepare`, as far as is known, or one is being started."""
        spare = self._find(prepare)
        if spare is None:
            return prepare in self.ordered.values()
        return spare.failed is None and not readable(spare.pidfd)

    def pid_of(self, prepare: tuple[Step, ...]) -> int:
        """Return the host pid of the spare that applies `prepare`; wait for it. Raises `ContainerLost`."""
        while prepare in self.ordered.values():
            self._collect_one()
        spare = self._find(prepare)
        if spare is None:
            raise lost("a container ended before its cell began")
        return spare.pid

    def take(self, todo: Plan) -> tuple[int, ContainerHandle, bool]:
        """Return how many steps of a plan a spare has applied, the spare, and whether it was ordered for this plan.

        It is the one that has applied the most; if there is none, a new one, which applies all that it can before the
        rest is sent. Raises `SandboxError`.
        """
        if (found := self._take_ready(todo)) is not None:
            return (*found, False)
        suited = (order for number, order in self.ordered.items() if number >= 0 or todo.compiled)
        is_new = not any(map(todo.begins_with, suited))
        if is_new:
            self.order(plan.ahead(todo), prefault=False, compiled=todo.compiled)
        while self.ordered:
            self._collect_one()
            if (found := self._take_ready(todo)) is not None:
                return (*found, is_new)
        raise setup_failed(self._refused)

    def _take_ready(self, todo: Plan) -> tuple[int, ContainerHandle] | None:
        """Return what `take` returns, from the spares that have been started by now; None if none fits."""
        found, most = None, -1
        for ready in self.ready:
            done, spare = ready
            if len(done) > most and (todo.compiled or not isinstance(spare, HelperHandle)) and todo.begins_with(done):
                found, most = ready, len(done)
        if found is None:
            return None
        self.ready.remove(found)
        return most, found[1]

    def remove(self, *prepared: tuple[Step, ...]) -> list[ContainerHandle]:
        """Return the spares that have applied one of these, for the caller to close. Waits for those being started."""
        while any(order in prepared for order in self.ordered.values()):
            self._collect_one()
        leaving = [spare for done, spare in self.ready if done in prepared]
        self.ready = [(done, spare) for done, spare in self.ready if done not in prepared]
        return leaving

    def on_ready(self) -> None:
        """A new process has no spares; `take` orders one."""

    def on_closed(self) -> None:
        """Drop all spares: the launcher ended, and they ended with it."""
        for _, spare in self.ready:
            spare.close()
        self.ready.clear()
        self.ordered.clear()
        self._remotes.clear()

    def _find(self, prepare: tuple[Step, ...]) -> ContainerHandle | None:
        return next((spare for done, spare in self.ready if done == prepare), None)

    def _collect_one(self) -> None:
        """Take the launcher's answer to the oldest order. Raises `ContainerLost` if the launcher has ended."""
        number = next(iter(self.ordered))
        # An interrupt may come next. Then this order is given up, so that its answer is not taken for another's.
        prepare = self.ordered.pop(number)
        if number < 0:
            self._collect_compiled(number, prepare)
            return
        message, files = self._connection.receive(number)
        if "failed" in message:
            self._refused = message["failed"]
            return
        pidfd, channel = files
        spare = ContainerHandle(socket.socket(fileno=channel), message["pid"], pidfd)
        if self._connection.proc == ProcLevel.NOTEBOOK:
            _mount_proc(spare)
        self.ready.append((prepare, spare))

    def _collect_compiled(self, number: int, prepare: tuple[Step, ...]) -> None:
        (remote, likely), helper = self._remotes.pop(number), self._connection.helper
        try:
            if helper is None:
                raise ConnectionResetError
            pid, files = helper.receive(-number)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise
            detail = self._connection.last_error()
            self._connection.close()
            raise lost("the launcher ended while it started a container", detail) from None
        if pid < 0:
            self._refused = failure_of(CloneInit.__name__, OSError(-pid, os.strerror(-pid)))
            return
        pidfd, channel = files
        self.ready.append((prepare, HelperHandle(socket.socket(fileno=channel), pid, pidfd, remote, likely)))


def _mount_proc(spare: ContainerHandle) -> None:
    """Answer a new init's request for its /proc. If it has died, the cell that takes it reports that."""
    namespaces: list[int] = []
    with contextlib.suppress(OSError):
        if protocol.receive(spare.channel, namespaces) is not None:
            proc_mounts.answer(spare.channel, namespaces, import_path())
