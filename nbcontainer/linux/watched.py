"""A kernel that notes each call and passes it on: what `--explain` shows is what the real kernel was asked."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.linux.kernel import Kernel

SHOWN = 32
"""The most bytes of written data that are noted, as with strace(1)."""

NOTHING = -1
"""In the place of an error number: a file was not read, or is empty."""


class WatchedKernel:
    """Passes every call on to another kernel, and notes it as a call of the step that was begun last.

    It has the methods of `Kernel`. All times are in nanoseconds, those of CLOCK_MONOTONIC (clock_gettime(2)), which
    every process on this machine has.
    """

    def __init__(self, kernel: Kernel, cloned: int = 0) -> None:
        """Note no call yet. `cloned` is the time at which the launcher began to clone this process."""
        self.cloned = cloned, time.monotonic_ns()
        self.steps: list[list[Any]] = []
        self._taken = 0
        self._kernel = kernel
        self._calls: list[tuple[Any, ...]] = []

    def as_kernel(self) -> Kernel:
        """Return this object as the kernel that steps are applied with."""
        return cast("Kernel", self)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        watched = self._watched(name, getattr(self._kernel, name))
        setattr(self, name, watched)  # the next call finds it at once
        return watched

    def begin(self, step: str) -> None:
        """Begin a step of this name."""
        self._calls = []
        self.steps.append([step, time.monotonic_ns(), 0, self._calls])

    def end(self) -> None:
        """End the step that was begun last."""
        self.steps[-1][2] = time.monotonic_ns()
        self._calls = []

    def take_json(self) -> str:
        """Return as JSON what was noted since the last call, for `nbcontainer.sandbox.explanation`.

        It is an object: `cloned` are two times, `steps` a list. A step is its name, when it began and ended, what it
        called as JSON, and how that went. What it called is the name, the arguments and the keyword arguments of each
        call; of bytes, there is the beginning and their number. How it went is the duration of each call and the
        error number (0 if it succeeded, `NOTHING` if a file was not read). The two are apart because most cells call
        the same: the notebook makes the text of these calls once.
        """
        steps = [_note(*step) for step in self.steps[self._taken :]]
        self._taken = len(self.steps)
        return json.dumps({"cloned": self.cloned, "steps": steps})

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keywords: Any) -> Any:
            error = 0
            begun = time.monotonic_ns()
            try:
                result = function(*args, **keywords)
                if result == "":
                    error = NOTHING
                return result
            except OSError as failure:
                error = failure.errno or 0
                raise
            finally:
                self._calls.append((name, args, keywords, time.monotonic_ns() - begun, error))

        return call


def _note(name: str, begun: int, ended: int, calls: list[tuple[Any, ...]]) -> list[Any]:
    called = json.dumps([call[:3] for call in calls], default=_beginning)
    return [name, begun, ended, called, [call[3:] for call in calls]]


def _beginning(data: bytes) -> dict[str, Any]:
    return {"text": data[:SHOWN].decode("latin-1"), "bytes": len(data)}
