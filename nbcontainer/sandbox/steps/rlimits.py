"""Steps that limit what a container may use."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.sandbox.defaults import DEFAULT_LIMITS, PROCESSES
from nbcontainer.sandbox.steps.base import Chinese, Step, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class SetLimits(Step):
    """Limits of each process, as (name, soft, hard). None of them is more than the notebook itself has.

    Where a user's processes are counted on the whole machine, those in containers cannot be limited by their number.
    """

    limits: tuple[tuple[str, int, int], ...] = DEFAULT_LIMITS

    phrase: ClassVar[str] = "set the limits of its processes"
    why: ClassVar[str] = "the container's processes have the usual limits, whatever the notebook was started with"
    risk: ClassVar[str] = "one process could use up the files, memory locks or core dumps that the notebook may use"
    chinese: ClassVar[Chinese] = Chinese(
        "设置每个进程的资源限制",
        "不管笔记本是怎样启动的，容器的进程都有通常的限制",
        "一个进程可以用尽笔记本能用的资源",
    )
    ahead: ClassVar[bool] = True

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        limits = (f"{name} {_shown(soft)} (at most {_shown(hard)})" for name, soft, hard in arguments["limits"])
        return f"limit each process: {listed(limits)}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """setrlimit(2)."""
        for name, soft, hard in self.limits:
            if name == PROCESSES and not kernel.counts_by_namespace():
                continue
            number = getattr(resource, f"RLIMIT_{name.upper()}")
            _, most = kernel.getrlimit(number)
            kernel.setrlimit(number, (_lower(soft, most), _lower(hard, most)))


def _lower(first: int, second: int) -> int:
    """Return the lower of two limits."""
    return min((first, second), key=lambda limit: (limit == resource.RLIM_INFINITY, limit))


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
