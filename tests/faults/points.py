"""Where a process can be made to fail: every call of the kernel's interface, those beside it, and every step's end."""

from __future__ import annotations

import functools
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from nbcontainer.linux import kernel
from tests.faults.tape import CHILD, HELPER, INIT, LAUNCHER, NOTEBOOK, Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CANNOT_FAIL = ("getuid", "umask", "counts_by_namespace", "last_capability")
"""They return no error (getuid(2), umask(2)), or are looked up once in the life of a launcher."""

_HAPPENS_ANYWAY = ("close",)
"""The descriptor is gone, whatever close(2) says."""


REMOVING = "as something is removed"
"""What could not be removed is rubbish in the store's `tmp`, for the next sweep."""


_REMOVE = ("discard", "remove", "_clear_away", "can_make_group", "scratch")


def _removing() -> bool:
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_name not in _REMOVE:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


class Points:
    """The points of this process, which is in `role` until it forks."""

    def __init__(self, tape: Tape, role: int) -> None:
        self.tape = tape
        self.role = role

    def point(self, name: str, path: object = None) -> None:
        """Passes one. Raises `OSError`."""
        if code := self.tape.passing(self.role, name):
            if self.role == NOTEBOOK and _removing():
                self.tape.name(f"{name}, {REMOVING}")
            text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
            raise OSError(code, os.strerror(code), text if text.startswith("/") else None)

    def before(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with a point before it."""

        @functools.wraps(function)
        def passing(*args: Any, **keywords: Any) -> Any:
            if name in _HAPPENS_ANYWAY:
                result = function(*args, **keywords)
                self.point(name)
                return result
            self.point(name, next(iter(args), None))
            return function(*args, **keywords)

        return passing

    def forking(self, name: str, function: Callable[..., int], role: dict[int, int]) -> Callable[..., int]:
        """The same for a fork; the child of who is in one role is in another."""
        passing = self.before(name, function)

        def fork(*args: Any) -> int:
            pid = int(passing(*args))
            if pid == 0:
                self.role = role.get(self.role, HELPER)
            elif self.role == LAUNCHER:
                self.tape.note_init(pid)
            return pid

        return fork


def load(path: str) -> None:
    """Puts points into the launcher's process, and so into every init: to be called before anything of it runs."""
    points = Points(Tape(path), LAUNCHER)
    calls: dict[str, Any] = {
        name: staticmethod(points.before(name, getattr(kernel.Kernel, name)))
        for name in dir(kernel.Kernel)
        if not name.startswith("_") and name not in _CANNOT_FAIL
    }
    calls["clone"] = staticmethod(points.forking("clone", kernel.Kernel.clone, {LAUNCHER: INIT}))
    kernel.Kernel = type("FaultyKernel", (kernel.Kernel,), calls)  # type: ignore[misc, assignment]
    os.fork = points.forking("fork", os.fork, {INIT: CHILD})
    os.pidfd_open = points.before("pidfd_open", os.pidfd_open)
    socket.socketpair = points.before("socketpair", socket.socketpair)

    from nbcontainer.linux.watched import WatchedKernel
    from nbcontainer.sandbox import protocol, step_failure
    from nbcontainer.sandbox.launcher import applying, init

    protocol._send = points.before("sendmsg", protocol._send)
    protocol._take = points.before("recvmsg", protocol._take)
    apply = applying.apply_steps

    def apply_each(kernel: kernel.Kernel, todo: Iterable[Any], files: Sequence[int]) -> dict[str, Any] | None:
        for step in todo:
            if (failure := apply(kernel, (step,), files)) is not None:
                return failure
            if isinstance(kernel, (calls_of, WatchedKernel)):  # and no rehearsal
                try:
                    points.point(f"after {type(step).__name__}")
                except OSError as error:
                    return step_failure.failure_in(step, error)
        return None

    calls_of = kernel.Kernel
    init.apply_steps = apply_each  # type: ignore[attr-defined]
