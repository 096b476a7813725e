"""A kernel double that does nothing, for code that is run only to touch its pages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from nbcontainer.linux.files import read_text
from nbcontainer.linux.seccomp import SECCOMP_MODE_FILTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.linux.kernel import Kernel


class _IdleKernel:
    """See `idle_kernel`. It is apart from `RecordingKernel`, since every launcher loads it."""

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_, **__: 0

    def read_text(self, path: str) -> str:
        """Really read the file: its pages, and those of the code that reads it, are what this is run for."""
        return read_text(path)

    def prctl(self, *_: int) -> int:
        return SECCOMP_MODE_FILTER

    def getrlimit(self, _: int) -> tuple[int, int]:
        return 0, 0

    def fstat(self, _: int) -> os.stat_result:
        return os.stat_result([0] * 10)


def idle_kernel() -> Kernel:
    """Return a kernel whose calls do nothing and return what a step accepts as success."""
    return cast("Kernel", _IdleKernel())
