"""What a process in a container sees of its mounts and namespaces, by a function in the place of a cell's program."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from nbcontainer.linux.procfs import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMESPACES = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time")
"""The kinds of namespaces, as /proc/PID/ns names them (namespaces(7))."""


def look_around(_files: Sequence[int] = (), _progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Return this process's `mountinfo` (text) and `namespaces` (the number of each that the kernel has)."""
    return {
        "mountinfo": read_text("/proc/self/mountinfo"),
        "namespaces": {kind: number for kind in NAMESPACES if (number := _number(kind)) is not None},
    }


def _number(kind: str) -> int | None:
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino  # noqa: PTH116 - the link leads to the namespace itself
    except OSError:
        return None
