"""What the kernel itself refuses: limits of the notebook's process, or of the launcher's, lowered for a moment."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.containers.engine import Engine

LIMITS = {
    "notebook-files": (resource.RLIMIT_NOFILE, range(48)),
    "launcher-files": (resource.RLIMIT_NOFILE, range(24)),
    "notebook-size": (resource.RLIMIT_FSIZE, (0, 1, 100, 1000, 10_000, 100_000)),
    "launcher-size": (resource.RLIMIT_FSIZE, (0, 1, 100, 1000, 10_000, 100_000)),
    "launcher-memory": (resource.RLIMIT_AS, range(0, 32 << 20, 1 << 20)),
}
"""Which limit, and the values to try: descriptors or bytes of memory more than there are now, bytes of a file."""


@contextlib.contextmanager
def lowered(engine: Engine, what: str, value: int) -> Iterator[None]:
    """Lowers a limit in here (prlimit(2))."""
    number, _ = LIMITS[what]
    pid = engine.launcher.pid if what.startswith("launcher") else os.getpid()
    before = resource.prlimit(pid, number)
    if number == resource.RLIMIT_NOFILE:
        value += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
    elif number == resource.RLIMIT_AS:
        with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
            value += int(file.read().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, number, (value, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it did not live with it
            resource.prlimit(pid, number, before)
