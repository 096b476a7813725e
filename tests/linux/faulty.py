"""A step that fails on purpose, and work that does. The launcher of these tests loads this module ahead."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.errors import HostileArchive
from nbcontainer.sandbox.steps.base import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.linux.kernel import Kernel

DIE = -1
WAIT = -2
WHILE = -3

FLAG = "tmp/fault"
"""From the store: while it is there, a WHILE is refused, and notes that in it."""

PASSED = "tmp/passed"
"""From the store: each WHILE that is not refused notes that in it, if it is there."""


@dataclass(frozen=True)
class Fault(Step):
    """Raises OSError(`code`); or ends init without a word (DIE), or waits until it is killed (WAIT).

    With WHILE, it raises as long as there is FLAG; it is done where the store is the working directory.
    """

    code: int

    phrase: ClassVar[str] = "apply Fault"
    why: ClassVar[str] = "a test wants to see what happens"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        if self.code == DIE:
            os._exit(1)
        while self.code == WAIT:
            signal.pause()
        if self.code != WHILE:
            raise OSError(self.code, os.strerror(self.code), "/fault")
        if Path(FLAG).exists():
            with Path(FLAG).open("a") as flag:
                flag.write("refused\n")
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "/fault")
        if Path(PASSED).exists():
            with Path(PASSED).open("a") as passed:
                passed.write("passed\n")


def answer(files: Sequence[int], progress: Callable[[int], None], *, value: object) -> object:
    """Work that answers with what it was given."""
    progress(1)
    progress(2)
    return value


def look(files: Sequence[int], progress: Callable[[int], None]) -> dict[str, object]:
    """Work that tells what it sees of the world."""
    names = sorted(entry.name for entry in os.scandir("/"))
    return {"root": names, "cwd": os.path.realpath("."), "uid": os.getuid(), "files": len(files)}


def fail(files: Sequence[int], progress: Callable[[int], None], *, code: int, path: str) -> None:
    """Work that raises an OSError."""
    raise OSError(code, os.strerror(code), path)


def refuse(files: Sequence[int], progress: Callable[[int], None]) -> None:
    """Work that raises an error of this package."""
    raise HostileArchive("it is hostile", hint="take another")


def vanish(files: Sequence[int], progress: Callable[[int], None]) -> None:
    """Work whose process is gone before it can answer."""
    os._exit(0)


def break_down(files: Sequence[int], progress: Callable[[int], None]) -> None:
    """Work with a mistake in it."""
    raise KeyError("a mistake")


def never_end(files: Sequence[int], progress: Callable[[int], None]) -> None:
    """Work that says that it has begun, and goes on until it is killed."""
    os.write(files[0], b"begun\n")
    while True:
        signal.pause()
