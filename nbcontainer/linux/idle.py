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

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __getattr__(self, name: str) -> Callable[..., int]:
        return lambda *_, **__: 0

    def read_text(self, path: str) -> str:
        """Really read the file: its pages, and those of the code that reads it, are what this is run for."""
        return read_text(path) if self._text is None else self._text

    def prctl(self, *_: int) -> int:
        return SECCOMP_MODE_FILTER

    def getrlimit(self, _: int) -> tuple[int, int]:
        return 0, 0

    def stat(self, path: str, *, follow_symlinks: bool = True) -> os.stat_result:
        """Really look at the file: steps check that a device is the one that they expect."""
        return os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116 - as `Kernel` does

    def listdir(self, _: str) -> list[str]:
        return []

    def fstat(self, _: int) -> os.stat_result:
        return os.stat_result([0] * 10)


def idle_kernel(text: str | None = None) -> Kernel:
    """Return a kernel whose calls do nothing and return what a step accepts as success.

    `text` is the content of every file; None for what the files really have.
    """
    return cast("Kernel", _IdleKernel(text))
