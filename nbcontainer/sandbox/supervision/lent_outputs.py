"""The output descriptors of a cell: read as output comes, by the thread that supervises the cell or a borrower."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING

from nbcontainer.errors import SandboxError
from nbcontainer.linux.pipes import waiting_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nbcontainer.sandbox.supervision.lending import Lending

_CHUNK = 1 << 16


def lost(problem: str, error: OSError) -> SandboxError:
    """Return the error of a cell that cannot be supervised any more."""
    return SandboxError(f"{problem}: {error.strerror or error}", hint="the cell was ended: run it again")


class Outputs:
    """Descriptors in a poll(2) object. What is read goes to `hand_on`, with its descriptor."""

    def __init__(self, poll: select.poll, fds: Iterable[int], hand_on: Callable[[int, bytes], None]) -> None:
        self.fds = list(fds)
        self._poll = poll
        self._hand_on = hand_on
        self._lending: Lending | None = None

    def register(self) -> None:
        """Put the first descriptors into the poll object."""
        for fd in self.fds:
            self._poll.register(fd, select.POLLIN)

    def add(self, fds: Iterable[int]) -> None:
        """Add descriptors."""
        for fd in fds:
            self.fds.append(fd)
            (self._lending or self._poll).register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        """Read a descriptor no more: its output has ended."""
        (self._lending or self._poll).unregister(fd)

    def take(self, fd: int, event: int = select.POLLIN) -> bool:
        """Hand on what can be read now, for an event of poll(2). Returns False at the end of the output."""
        if event == select.POLLHUP:
            return False
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO and os.isatty(fd):  # a terminal whose other end is closed
                return False
            raise lost("cannot read the cell's output", error) from error
        if data:
            self._hand_on(fd, data)
        return bool(data)

    def take_waiting(self, fds: Iterable[int]) -> None:
        """Hand on what is in these pipes now: it was written before the message that has just come."""
        for fd in fds:
            left = waiting_in(fd)
            while left > 0:
                data = os.read(fd, min(left, _CHUNK))
                self._hand_on(fd, data)
                left -= len(data)

    # Another thread

    def lend(self, lending: Lending) -> None:
        """Put the descriptors into `lending`: the thread that has borrowed it takes them, with its events.

        The caller closes `lending` when nothing reads the outputs any more.
        """
        self._lending = lending
        for fd in self.fds:
            self._poll.unregister(fd)
            lending.register(fd, select.POLLIN)
        self._poll.register(lending.gate, select.POLLIN)

    def stands_for_lent(self, fd: int) -> bool:
        """Return whether an event of `fd` is one of the outputs that can be lent."""
        return self._lending is not None and fd == self._lending.gate

    def take_lent(self, on_end: Callable[[int], None]) -> None:
        """Hand on what can be read of them, unless they are borrowed. `on_end` gets those that have ended."""
        if self._lending is not None and self._lending.take():
            try:
                for fd, event in self._lending.ready(0):
                    if not self.take(fd, event):
                        on_end(fd)
            finally:
                self._lending.leave()

    def end_lending(self) -> None:
        """Wait until no other thread reads."""
        if self._lending is not None:
            self._lending.end()
