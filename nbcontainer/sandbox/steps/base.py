"""What a step of a plan is, and how a plan travels.

A step is a small frozen dataclass: its fields are all it needs, `apply` makes the system calls through the kernel it
is handed, `why` says to a person what it is for, and `advice` what to do when the kernel refuses. Its fields are
strings, numbers, booleans, None and tuples of them, so that a list of steps is also JSON.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.sandbox.diagnosis import Machine, call_advice

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis


class Step:
    """One operation of a plan."""

    phrase: ClassVar[str] = ""
    """What it does, as a verb phrase: it follows "cannot" in an error."""

    why: ClassVar[str] = ""
    """Its purpose, in one clause."""

    advice: ClassVar[Mapping[int, str]] = {}
    """By errno: the one thing to do about it."""

    diagnose: ClassVar[Mapping[int, Diagnosis]] = {}
    """By errno: what finds the one thing to do by a look at the machine, where it depends on that."""

    ahead: ClassVar[bool] = False
    """Whether it may be done before there is a cell: it takes nothing of a cell, and holds nothing of the host."""

    by_name: ClassVar[dict[str, type[Step]]] = {}
    """Every class of step, by the name it travels under."""

    def __init_subclass__(cls) -> None:
        """Makes the class known by its name, which is how it travels."""
        Step.by_name[cls.__name__] = cls

    def shown(self) -> dict[str, Any]:
        """Its fields, as `inspect` shows them."""
        return dict(vars(self))

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Makes the step's system calls. `files` are the descriptors that came with the plan. Raises `OSError`."""
        raise TypeError(f"{type(self).__name__} is not applied")


_COMMON_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "free some memory",
    errno.EAGAIN: "too many processes are running: end some, or raise the limit (ulimit -u)",
    errno.EROFS: "set NBCONTAINER_HOME to a directory on a writable file system",
}


def advice_for(step: type[Step], code: int, machine: Machine | None = None) -> str:
    """What a person can do when a step of this class fails with errno `code`; empty where nobody knows.

    `machine` is the one it failed on, this one by default.
    """
    if code in step.advice:
        return step.advice[code]
    diagnosis = step.diagnose.get(code) or (call_advice if code == errno.ENOSYS else None)
    if diagnosis is not None:
        return diagnosis(machine or Machine(), code)
    return _COMMON_ADVICE.get(code, "")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The whole of a container, in order.

    `prepare` makes a container with a root, for any cell on those layers; `setup` adds what this one is to find there;
    `enter` makes the process what the cell may be, and its last step starts the cell. A spare init has all of it behind
    it, until the first step that is not to be done `ahead`, when it is asked for.
    """

    prepare: tuple[Step, ...]
    setup: tuple[Step, ...]
    enter: tuple[Step, ...]

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they happen."""
        return (*self.prepare, *self.setup, *self.enter)

    def __iter__(self) -> Iterator[Step]:
        """All steps, in the order in which they happen."""
        return iter(self.steps)

    def begins_with(self, done: tuple[Step, ...]) -> bool:
        """Whether these steps are the first ones, and all of `prepare` at least."""
        return len(done) >= len(self.prepare) and self.steps[: len(done)] == done
