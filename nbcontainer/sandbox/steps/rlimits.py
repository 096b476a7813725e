"""Steps that limit what a container may use."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, PROCESSES
from nbcontainer.sandbox.steps.base import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class SetLimits(Step):
    """Limits of each process, as (name, soft, hard). None of them is more than the notebook itself has.

    Where a user's processes are counted on the whole machine, those in containers cannot be limited by their number.
    """

    limits: tuple[tuple[str, int, int], ...] = DEFAULT_LIMITS

    phrase: ClassVar[str] = "set the limits of its processes"
    why: ClassVar[str] = "the container's processes have the usual limits, whatever the notebook was started with"
    ahead: ClassVar[bool] = True

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setrlimit(2)."""
        for name, soft, hard in self.limits:
            if name == PROCESSES and not kernel.counts_by_namespace():
                continue
            number = getattr(resource, f"RLIMIT_{name.upper()}")
            _, most = kernel.getrlimit(number)
            kernel.setrlimit(number, (_lower(soft, most), _lower(hard, most)))


def _lower(one: int, other: int) -> int:
    """The lower of two limits."""
    return min((one, other), key=lambda limit: (limit == resource.RLIM_INFINITY, limit))
