"""Applying steps in order, and what init says of a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcontainer.linux.watched import WatchedKernel
from nbcontainer.sandbox.step_failure import failure_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Step


def apply_steps(kernel: Kernel, todo: Iterable[Step], files: Sequence[int]) -> dict[str, Any] | None:
    """Apply steps in order; return None, or what there is to say of the first that failed."""
    for step in todo:
        try:
            begin_step(kernel, step)
            step.apply(kernel, files)
            end_step(kernel)
        except Exception as error:  # whatever it is: a cell that could not start must not look like one that failed
            return failure_in(step, error)
    return None


def begin_step(kernel: Kernel, step: Step) -> None:
    """Have a kernel that notes calls note those that follow as the step's."""
    if isinstance(kernel, WatchedKernel):
        kernel.begin(type(step).__name__)


def end_step(kernel: Kernel) -> None:
    """Have a kernel that notes calls note that the step is done."""
    if isinstance(kernel, WatchedKernel):
        kernel.end()


def in_words(error: BaseException) -> str:
    """Return an error as one line."""
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or f"{type(error).__name__}: {error}"
