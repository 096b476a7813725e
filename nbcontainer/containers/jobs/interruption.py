"""Interrupts of waits for jobs: the wait ends, and the job continues."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class WaitInterrupted(KeyboardInterrupt):
    """An interrupt of a wait for a job, which continues. `message` and `hint` are those of an error in one line.

    It stays a KeyboardInterrupt: programs in Python end by it, and a terminal's command ends with 130.
    """

    def __init__(self, what: str, name: str) -> None:
        self.message = f"interrupted while waiting for {what}: job '{name}' continues"
        self.hint = f"end it with `%container stop {name}`"
        super().__init__(f"{self.message}; {self.hint}")


@contextlib.contextmanager
def waiting(what: str, name: str) -> Iterator[None]:
    """Raise `WaitInterrupted` for an interrupt inside the block, which waits for `what` of the job `name`."""
    try:
        yield
    except KeyboardInterrupt:
        raise WaitInterrupted(what, name) from None
