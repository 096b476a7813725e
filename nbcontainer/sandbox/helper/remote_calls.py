"""Calls that a container's init makes: the compiled helper, which gets them as operations.

A step runs in the notebook and gets the outcome of each call at once: the one that init has reported, else the expected
one. Init compares: a step that was given a wrong outcome runs again, with the right one. Descriptors have the numbers
that the kernel gives in init: the lowest that are free (open(2)).
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.linux.libc import number
from nbcontainer.sandbox.helper.operations import SUCCESS, Block, Flag, Kind, Operation, Outcome, text_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATX_SIZE = 256
"""Bytes of struct statx."""

FIRST_FREE = 6
"""The lowest descriptor that an init has not: below are the streams, its channel, and its two watches.

Those that travel with its order have the numbers from here on.
"""

CHANNEL, PARENT, STATUS = 3, 4, 5
"""The descriptors that an init has: its socket, a pidfd of the server, and the notebook's status."""


class Stop(BaseException):
    """The outcome of the next call is not known: init makes it and reports it."""


class Place(NamedTuple):
    """A call of a step: how many calls come before it, and the number of the system call.

    After another outcome a step may make another call in the same position, to which this one's outcome says nothing.
    """

    position: int
    number: int


class State(NamedTuple):
    """What the notebook must know of an init: its open descriptors, as the bits of a number, its user, its name."""

    open: int = (1 << FIRST_FREE) - 1
    uid: int = 0
    name: str | None = None


class Facts:
    """What statx(2) says of a file. What a step looks at is what init compares."""

    def __init__(self, output: bytes, operation: Operation | None) -> None:
        self._output = output
        self._looked = set[tuple[int, int]]() if operation is None else operation.looked

    def _number(self, place: int, size: int) -> int:
        self._looked.add((place, size))
        return int.from_bytes(self._output[place : place + size], "little")

    @property
    def st_mode(self) -> int:
        return self._number(28, 2)

    @property
    def st_uid(self) -> int:
        return self._number(20, 4)

    @property
    def st_gid(self) -> int:
        return self._number(24, 4)

    @property
    def st_ino(self) -> int:
        return self._number(32, 8)

    @property
    def st_size(self) -> int:
        return self._number(40, 8)

    @property
    def st_rdev(self) -> int:
        return os.makedev(self._number(128, 4), self._number(132, 4))

    @property
    def st_dev(self) -> int:
        return os.makedev(self._number(136, 4), self._number(140, 4))


class Origin(NamedTuple):
    """What is expected of a travelling descriptor: its file's mode, device and size.

    The size is 1 for all files with content: few operations differ by it, and init compares what they give.
    """

    mode: int
    device: int
    size: int

    @classmethod
    def of(cls, fd: int) -> Origin:
        """Return the facts of a descriptor of this process. Raises `OSError`."""
        found = os.fstat(fd)
        return cls(found.st_mode, found.st_rdev, 1 if found.st_size else 0)

    def as_statx(self) -> bytes:
        """Return what statx(2) would write; what is not known is 0, and so is not what init finds."""
        made = bytearray(STATX_SIZE)
        struct.pack_into("=H", made, 28, self.mode)
        struct.pack_into("=Q", made, 40, self.size)
        struct.pack_into("=II", made, 128, os.major(self.device), os.minor(self.device))
        return bytes(made)


class RemoteCalls:
    """The calls of one step, with the methods of `Kernel`.

    `known` are the outcomes of its first calls, which init has made. `likely` are expected outcomes, if they are not
    success. `origins` are the facts of the travelling descriptors, by their numbers in init.
    """

    def __init__(
        self,
        state: State,
        known: Sequence[Outcome] = (),
        likely: Mapping[Place, Outcome] | None = None,
        origins: dict[int, Origin] | None = None,
    ) -> None:
        self.state = state
        self.operations: list[Operation] = []
        self.outcomes: list[Outcome] = []
        self.special: dict[Place, Outcome] = {}
        """Outcomes that the next step of the same kind can expect."""
        self.guessed = False
        """Whether an outcome was given that is neither reported nor success."""
        self._known = known
        self._likely = likely or {}
        self._origins = {} if origins is None else origins
        self._stopped = False

    # The one way of all calls

    def _make(self, operation: Operation, *, likely: Outcome | None = None) -> tuple[Outcome, Operation | None]:
        """Return the outcome of a call, and its operation unless init has made it. `likely` is None if not known."""
        position = len(self.outcomes)
        if self._stopped:  # a step tidies up, which it will do again
            return Outcome(0, bytes(operation.output_size)), None
        if position < len(self._known):
            outcome, waiting = self._known[position], None
        else:
            found = self._likely.get(Place(position, operation.number))
            self.guessed |= found is not None
            guess = found or likely
            waiting = operation
            self.operations.append(operation)
            if guess is None:
                operation.flags |= Flag.REPORTED
                self._stopped = True
                raise Stop
            outcome = operation.expected = guess
        self.outcomes.append(outcome)
        if outcome.result < 0 or likely is None:
            self.special[Place(position, operation.number)] = outcome
        return outcome, waiting

    def _call(
        self,
        name: str,
        *arguments: int | Block | None,
        path: object = None,
        likely: Outcome | None = SUCCESS,
        told: str | None = None,
        operation: Operation | None = None,
    ) -> Outcome:
        """Make a call and return its outcome. Raises `OSError` as the methods of `Kernel` do."""
        given = [0 if argument is None else argument for argument in arguments]
        made = operation or Operation(Kind.CALL)
        made.number, made.arguments = number(name), given
        outcome, waiting = self._make(made, likely=likely)
        if outcome.result < 0:
            raise error_of(-outcome.result, told, path)
        if waiting is not None and made.flags & Flag.BY_RESULT and outcome.result:
            made.looked.add((0, outcome.result))
        return outcome

    def _descriptor(
        self, name: str, *arguments: int | Block | None, path: object = None, told: str | None = None
    ) -> int:
        """Make a call that returns a new descriptor."""
        lowest = (~self.state.open & (self.state.open + 1)).bit_length() - 1
        found = self._call(name, *arguments, path=path, told=told, likely=Outcome(lowest)).result
        if not self._stopped:
            self._mark(self.state.open | 1 << found)
        return found

    def _mark(self, descriptors: int) -> None:
        self.state = self.state._replace(open=descriptors)

    def _output(self, name: str, *arguments: int | Block | None, output: int, size: int, **more: Any) -> Outcome:
        """Make a call that writes to its argument number `output`, of which the result is the size."""
        operation = Operation(Kind.CALL, flags=Flag.BY_RESULT, output=output, output_size=size)
        return self._call(name, *arguments, operation=operation, likely=None, **more)


def block_of(text: str | None) -> Block | None:
    """Return a path or another string as the kernel takes it; None, which is a null pointer, for None."""
    return None if text is None else text_block(os.fsencode(text))


def error_of(code: int, told: str | None, path: object) -> OSError:
    """Return the error that a method of `Kernel` raises; a wrapper of this package shows the name of the call."""
    text = os.strerror(code)
    error = OSError(code, f"{told}: {text}" if told else text)
    if path is not None:
        error.filename = path
    return error
