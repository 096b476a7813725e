"""What is expected of the steps of an init that is the compiled helper, and the operations that were made of them.

Nothing here has a lock, and all inits of a launcher share it: a lost or an old entry costs one message, since init
compares every outcome.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbcontainer.sandbox.helper.blanks import Filling
    from nbcontainer.sandbox.helper.operations import Outcome
    from nbcontainer.sandbox.helper.remote_calls import Origin, Place, State
    from nbcontainer.sandbox.steps.base import Step
    from nbcontainer.sandbox.steps.exchange.display import DisplayWatch

_EXPECTATIONS = 512
_ENCODED = 128
"""How many are kept; a cell with volumes, say, has steps that no other one has."""
_BATCHES = 32
_TEXT_LIMIT = 1 << 18
"""Bytes of one step's outcomes; longer ones are asked for each time. A processor has 256 bytes in /sys."""

Start = tuple[tuple["Origin", ...], "float | None"]
"""The files and the time limit with which a plan has started."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Encoded(NamedTuple):
    """A step's operations from one state to the next one. There are blanks in them (`blanks`), and in the outcomes."""

    number: int
    packed: bytes
    outcomes: Sequence[Outcome]
    after: State
    special: dict[Place, Outcome]
    display: DisplayWatch | None


class Made(NamedTuple):
    """A part whose operations are in a batch: the first of them, the state before, and all outcomes.

    `known` is how many of the outcomes init had reported before. `filling` is for the blanks in them.
    """

    part: int
    first: int
    before: State
    known: int
    outcomes: Sequence[Outcome]
    filling: Filling


class Batch(NamedTuple):
    """A packet with the operations of all parts of an order or a start. There are blanks in it, and in `made`."""

    version: int
    packet: bytes
    made: Sequence[Made]
    number: int
    after: State
    display: DisplayWatch | None


class _Kept(dict[_Key, _Value]):
    """What was kept last, `limit` of it. Thread-safe as a dictionary is."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def keep(self, key: _Key, value: _Value) -> None:
        """Keep it in place of the oldest."""
        self.pop(key, None)
        while len(self) >= self._limit:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread has changed it
                self.pop(next(iter(self)), None)
        self[key] = value


class Expectations:
    """What is expected of steps, and their operations. One for all inits of a launcher."""

    def __init__(self) -> None:
        self._likely: _Kept[object, dict[Place, Outcome]] = _Kept(_EXPECTATIONS)
        self._encoded: _Kept[object, Encoded] = _Kept(_ENCODED)
        self._batches: _Kept[object, Batch] = _Kept(_BATCHES)
        self.version = 0
        """Counts what was learned."""
        self._starts: _Kept[object, Start] = _Kept(_BATCHES)

    def likely(self, key: object) -> dict[Place, Outcome]:
        """Return the outcomes, other than success, that are expected of a step."""
        return self._likely.get(key) or {}

    def learn(self, key: object, special: dict[Place, Outcome]) -> None:
        """Expect these outcomes of the next step that is the same."""
        if special == self.likely(key):
            return
        self.version += 1
        if sum(len(outcome.output) for outcome in special.values()) <= _TEXT_LIMIT:
            self._likely.keep(key, special)

    def forget(self, key: object) -> None:
        """Expect nothing of a step."""
        self.version += 1
        self._likely.pop(key, None)

    def encoded(self, place: object, key: object) -> Encoded | None:
        """Return the operations of a step in its place, if they are kept and still what is expected by `key`."""
        found = self._encoded.get(place)
        return found if found is not None and found.special == self.likely(key) else None

    def keep(self, place: object, encoded: Encoded) -> None:
        """Keep the operations of a step that begins in this state."""
        self._encoded.keep(place, encoded)

    def note_start(self, steps: Iterable[Sequence[Step]], travelling: tuple[Origin, ...], limit: float | None) -> None:
        """Note with which files and which limit a plan has started, of which these steps were left."""
        kinds = tuple(type(step) for part in steps for step in part)
        if self._starts.get(kinds) != (travelling, limit):
            self._starts.keep(kinds, (travelling, limit))

    def last_start(self, steps: Iterable[Sequence[Step]]) -> Start | None:
        """Return with what the last plan with steps of these kinds has started; None if there was none."""
        return self._starts.get(tuple(type(step) for part in steps for step in part))

    def batch(self, key: object) -> Batch | None:
        """Return the packet of these parts, if nothing was learned since it was made."""
        found = self._batches.get(key)
        return found if found is not None and found.version == self.version else None

    def keep_batch(
        self, key: object, packet: bytes, made: Sequence[Made], number: int, after: State, display: DisplayWatch | None
    ) -> None:
        """Keep the packet of parts that begin in one state."""
        self._batches.keep(key, Batch(self.version, packet, made, number, after, display))
