"""Spares: inits that the launcher has started before there is a cell for them, and those that it is starting.

A spare has applied the first steps of a plan. It takes any plan that begins with these steps.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.handle import ContainerHandle, readable
from nbcontainer.sandbox.launcher import proc_mounts
from nbcontainer.sandbox.launcher.connection import import_path, lost
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.spec import ProcLevel

if TYPE_CHECKING:
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
        connection.observers.append(self)

    def order(self, prepare: tuple[Step, ...], *, prefault: bool = True) -> None:
        """Order a spare that applies `prepare`, and prefaults, without waiting for it. Raises `LauncherError`."""
        number = self._connection.number()
        message = {"prepare": plan.encode(prepare), "order": number, "prefault": prefault}
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionError):
            self._connection.close()
            self._connection.ensure()
            self._connection.send(message)
        self.ordered[number] = prepare

    def wake(self, prepare: tuple[Step, ...]) -> None:
        """Wake the spare that has applied `prepare`, if there is one: the rest of its plan comes soon."""
        spare = self._find(prepare)
        if spare is not None:
            with contextlib.suppress(OSError):
                protocol.send(spare.channel, {"soon": True})

    def collect(self) -> None:
        """Take over the spares that are started by now."""
        while self.ordered and self._connection.has_answer():
            self._collect_one()

    def collect_all(self) -> None:
        """Wait until every ordered spare is started. Raises `ContainerLost`."""
        while self.ordered:
            self._collect_one()

    def has(self, prepare: tuple[Step, ...]) -> bool:
        """Return whether a living spare has applied `prepare`, or one is being started."""
        spare = self._find(prepare)
        return prepare in self.ordered.values() if spare is None else not readable(spare.pidfd)

    def pid_of(self, prepare: tuple[Step, ...]) -> int:
        """Return the host pid of the spare that applies `prepare`; wait for it. Raises `ContainerLost`."""
        while prepare in self.ordered.values():
            self._collect_one()
        spare = self._find(prepare)
        if spare is None:
            raise lost("a container ended before its cell began")
        return spare.pid

    def take(self, todo: Plan) -> tuple[int, ContainerHandle]:
        """Return a spare for a plan and how many steps of the plan it has applied.

        It is the one that has applied the most; if there is none, a new one, which applies all that it can before the
        rest is sent. Raises `SandboxError`.
        """
        if (found := self._take_ready(todo)) is not None:
            return found
        if not any(todo.begins_with(order) for order in self.ordered.values()):
            self.order(plan.ahead(todo), prefault=False)
        while self.ordered:
            self._collect_one()
            if (found := self._take_ready(todo)) is not None:
                return found
        raise setup_failed(self._refused)

    def remove(self, *prepared: tuple[Step, ...]) -> list[ContainerHandle]:
        """Return the spares that have applied one of these, for the caller to close. Waits for those being started."""
        while any(order in prepared for order in self.ordered.values()):
            self._collect_one()
        leaving = [spare for done, spare in self.ready if done in prepared]
        self.ready = [(done, spare) for done, spare in self.ready if done not in prepared]
        return leaving

    def on_closed(self) -> None:
        """Drop all spares: the launcher ended, and they ended with it."""
        for _, spare in self.ready:
            spare.close()
        self.ready.clear()
        self.ordered.clear()

    def _find(self, prepare: tuple[Step, ...]) -> ContainerHandle | None:
        return next((spare for done, spare in self.ready if done == prepare), None)

    def _take_ready(self, todo: Plan) -> tuple[int, ContainerHandle] | None:
        fitting = [index for index, (done, _) in enumerate(self.ready) if todo.begins_with(done)]
        if not fitting:
            return None
        done, spare = self.ready.pop(max(fitting, key=lambda index: len(self.ready[index][0])))
        return len(done), spare

    def _collect_one(self) -> None:
        """Take the launcher's answer to the oldest order. Raises `ContainerLost` if the launcher has ended."""
        number = next(iter(self.ordered))
        # An interrupt may come next. Then this order is given up, so that its answer is not taken for another's.
        prepare = self.ordered.pop(number)
        message, files = self._connection.receive(number)
        if "failed" in message:
            self._refused = message["failed"]
            return
        pidfd, channel = files
        spare = ContainerHandle(socket.socket(fileno=channel), message["pid"], pidfd)
        if self._connection.proc == ProcLevel.NOTEBOOK:
            _mount_proc(spare)
        self.ready.append((prepare, spare))


def _mount_proc(spare: ContainerHandle) -> None:
    """Answer a new init's request for its /proc. If it has died, the cell that takes it reports that."""
    namespaces: list[int] = []
    with contextlib.suppress(OSError):
        if protocol.receive(spare.channel, namespaces) is not None:
            proc_mounts.answer(spare.channel, namespaces, import_path())
