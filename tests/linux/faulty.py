"""A step that fails on purpose. The launcher of these tests loads it ahead."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.sandbox.steps import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel

DIE = -1
WAIT = -2


@dataclass(frozen=True)
class Fault(Step):
    """Raises OSError(`code`); or ends init without a word (DIE), or waits until it is killed (WAIT)."""

    code: int

    why: ClassVar[str] = "a test wants to see what happens"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        if self.code == DIE:
            os._exit(1)
        while self.code == WAIT:
            signal.pause()
        raise OSError(self.code, os.strerror(self.code), "/fault")
