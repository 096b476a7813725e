"""A container's init that is the compiled helper: which of its steps are done, and what is sent to it next.

The steps run here, with a `RemoteKernel`. Their calls travel in one batch with the outcomes that are expected. Init's
report of another outcome leads back to the step that made the call: it runs again with the outcomes that init has
reported, and what it and the steps after it call travels in the next batch. So every decision is that of the step.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nbcontainer.linux.process import PR_SET_PDEATHSIG
from nbcontainer.sandbox.helper import operations
from nbcontainer.sandbox.helper.blanks import Filling, fill, name_with_blank, with_blanks
from nbcontainer.sandbox.helper.remote_calls import CHANNEL, PARENT, STATUS, Origin, Place, State, Stop
from nbcontainer.sandbox.helper.remote_kernel import RemoteKernel
from nbcontainer.sandbox.spec import FORWARDED
from nbcontainer.sandbox.step_failure import failure_in, failure_of
from nbcontainer.sandbox.steps.base import Step
from nbcontainer.sandbox.steps.capabilities import CloseInit, DropCapabilities, HardenInit
from nbcontainer.sandbox.steps.display import DisplayWatch
from nbcontainer.sandbox.steps.network import StageHosts
from nbcontainer.sandbox.steps.overlay import MountOverlay, ShowHost
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rootfs import AttachStaged, PivotRoot
from nbcontainer.sandbox.steps.user import SetUser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.helper.operations import Outcome, Report

_AWAITED = (signal.SIGCHLD, signal.SIGIO, *FORWARDED)
_EXPECTATIONS = 512
_ENCODED = 128
"""How many are kept; a cell with volumes, say, has steps that no other one has."""
_TEXT_LIMIT = 1 << 16
"""Bytes of one outcome; a longer one is asked for each time."""

_OF_A_ROOT = (ShowHost, StageHosts, MountOverlay)
"""The steps with which containers begin to differ."""

_BASE = 4
"""Layers, from the lowest up, that stand for an image: what a step finds in one is expected there again."""


class _Part(NamedTuple):
    """A step, or what init does of its own, as a function of the kernel and the travelling descriptors.

    `name` is the step, or stands for what is init's own: parts with one name make the same calls from the same state.
    """

    name: object
    apply: Callable[[Any, Sequence[int]], None]


class _Encoded(NamedTuple):
    """A step's operations from one state to the next one. There are blanks in them (`blanks`), and in the outcomes."""

    number: int
    packed: bytes
    outcomes: Sequence[Outcome]
    after: State
    special: dict[Place, Outcome]
    display: DisplayWatch | None


@dataclass
class _Made:
    """A part whose operations are in the batch: the first of them, the state before, and all outcomes.

    `known` is how many of the outcomes init had reported before. `filling` is for the blanks in them.
    """

    part: int
    first: int
    before: State
    known: int
    outcomes: Sequence[Outcome]
    filling: Filling


class _Applied(NamedTuple):
    """A part's operations, whose outcomes have the blanks of `filling`; and whether that is all of it."""

    number: int
    packed: bytes
    outcomes: Sequence[Outcome]
    filling: Filling
    whole: bool


class _Beginning(NamedTuple):
    """The first parts of an init by their names, which are the same objects in each plan, and their operations."""

    names: list[object]
    version: int
    made: list[_Made]
    packed: bytes
    number: int
    after: State


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Recent(dict[_Key, _Value]):
    """What was recalled last, `limit` of it. Thread-safe as a dictionary is; two threads may lose an entry."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def recall(self, key: _Key) -> _Value | None:
        """Return what is kept, which is the most recent then."""
        found = self.pop(key, None)
        if found is not None:
            self[key] = found
        return found

    def keep(self, key: _Key, value: _Value) -> None:
        """Keep it in place of the one that was not recalled for longest."""
        self.pop(key, None)
        while len(self) >= self._limit:
            with contextlib.suppress(StopIteration, RuntimeError):  # another thread has changed it
                self.pop(next(iter(self)), None)
        self[key] = value


class Expectations:
    """What is expected of steps, and their operations. One for all inits of a launcher.

    It has no lock: a lost or doubled entry costs one message, since init compares every outcome.
    """

    def __init__(self) -> None:
        self._likely: _Recent[object, dict[Place, Outcome]] = _Recent(_EXPECTATIONS)
        self._encoded: _Recent[object, _Encoded] = _Recent(_ENCODED)
        self._last: _Beginning | None = None
        self.version = 0
        """Counts what was learned."""

    def likely(self, key: object) -> dict[Place, Outcome]:
        """Return the outcomes, other than success, that are expected of a step."""
        return self._likely.recall(key) or {}

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

    def beginning(self, parts: Sequence[_Part]) -> _Beginning | None:
        """Return the first operations of the init that was ordered last, if these parts begin as that one's did."""
        found = self._last
        same = found is not None and found.version == self.version and len(found.names) <= len(parts)
        if (
            found is None
            or not same
            or any(part.name is not name for part, name in zip(parts, found.names, strict=False))
        ):
            return None
        return found

    def keep_beginning(
        self, parts: Sequence[_Part], made: Sequence[_Made], packed: Sequence[bytes], count: int
    ) -> None:
        """Keep the operations of the first parts, up to what differs for each container."""
        size = next((number for number, part in enumerate(parts) if isinstance(part.name, _OF_A_ROOT)), 0)
        if 0 < size < len(made):
            names = [part.name for part in parts[:size]]
            after = made[size]
            self._last = _Beginning(
                names, self.version, list(made[:size]), b"".join(packed[:size]), after.first, after.before
            )

    def encoded(self, place: object, key: object) -> _Encoded | None:
        """Return the operations of a step in its place, if they are kept and still what is expected by `key`."""
        found = self._encoded.recall(place)
        return found if found is not None and found.special == self.likely(key) else None

    def keep(self, place: object, encoded: _Encoded) -> None:
        """Keep the operations of a step that begins in this state."""
        self._encoded.keep(place, encoded)


class RemoteInit:
    """One init, from its order to the start of the program.

    `failed` is what there is to say of a step that failed, as an interpreted init says it; None if none has.
    """

    def __init__(self, expectations: Expectations) -> None:
        self.failed: dict[str, Any] | None = None
        self.settled = False
        """Whether init has reported that all of the last batch went as expected."""
        self._expectations = expectations
        self._parts: list[_Part] = []
        self._made: list[_Made] = []
        self._state = State()
        self._files: tuple[int, ...] = ()
        self._count = 0
        self._origins: dict[int, Origin] = {}
        self._travelling: tuple[Origin, ...] = ()
        self._base: tuple[str, ...] = ()
        self._display: DisplayWatch | None = None
        self._limit: float | None = None

    def prepare(self, steps: Sequence[Step]) -> bytes:
        """Return the first batch: what an init does before there is a cell. `CloneInit` is not among the steps."""
        self._base = next((step.lowers[-_BASE:] for step in steps if isinstance(step, MountOverlay)), ())
        parts = [_Part("begin", _begin), *(_Part(step, step.apply) for step in steps)]
        if any(isinstance(step, AttachStaged) for step in steps):
            has_root = any(isinstance(step, PivotRoot) for step in steps)
            parts.append(_Part(f"watch {has_root}", lambda kernel, _: self._watch_display(kernel, has_root)))
        parts.append(_Part("close", lambda kernel, _: self._harden(kernel, CloseInit())))
        return self._begin(parts)

    def start(self, setup: Sequence[Step], enter: Sequence[Step], files: Sequence[int], limit: float | None) -> bytes:
        """Return the batch with the rest of the plan. Init gets copies of `files` with it."""
        first = self._state.open
        numbers = []
        for fd in files:
            lowest = (~first & (first + 1)).bit_length() - 1
            first |= 1 << lowest
            numbers.append(lowest)
            self._origins[lowest] = Origin.of(fd)
        self._state = self._state._replace(open=first)
        self._files, self._limit = tuple(numbers), limit
        # Few operations for a file differ by its size, and init compares what they give.
        self._travelling = tuple(origin._replace(size=min(origin.size, 1)) for origin in self._origins.values())
        last = enter[-1]
        assert isinstance(last, Execute)
        parts = [_Part(step, step.apply) for step in (*setup, *enter[:-1])]
        if any(isinstance(step, SetUser) for step in enter):
            close = next((step for step in enter if isinstance(step, CloseInit)), HardenInit())
            parts.append(_Part(f"close {close}", lambda kernel, _: self._harden(kernel, close)))
        parts.append(_Part(last, last.apply))
        parts.append(_Part(f"let go {limit}", self._let_go))
        return self._begin(parts)

    def answer(self, report: Report) -> bytes | None:
        """Return the batch that follows a report; None if there is none: all is done, or a step has failed."""
        made = next((made for made in reversed(self._made) if made.first <= report.sequence), None)
        if made is None or report.sequence >= self._count:
            self.settled = True
            return None
        call = made.known + report.sequence - made.first
        before = [outcome._replace(output=fill(outcome.output, made.filling)) for outcome in made.outcomes[:call]]
        known = [*before, report.outcome]
        self._state = made.before
        return self._continue(made.part, known)

    def _begin(self, parts: list[_Part]) -> bytes:
        self._parts, self.settled = parts, False
        return self._continue(0, [])

    def _continue(self, first: int, known: Sequence[Outcome]) -> bytes:
        """Return the batch of the parts from `first` on, of which the first has these outcomes already."""
        self._made, self._count, packed = [], 0, []
        if first == 0 and not known and not self._files and (found := self._expectations.beginning(self._parts)):
            self._made, self._count, packed = found.made.copy(), found.number, [found.packed]
            self._state, first = found.after, len(found.made)
        for number in range(first, len(self._parts)):
            before = self._state
            reported = known if number == first else ()
            done = self._apply(self._parts[number], reported)
            self._made.append(_Made(number, self._count, before, len(reported), done.outcomes, done.filling))
            self._count += done.number
            packed.append(done.packed)
            if not done.whole:
                break
        if len(packed) == len(self._parts) and not self._files:
            self._expectations.keep_beginning(self._parts, self._made, packed, self._count)
        return operations.batch(self._count, b"".join(packed))

    def _apply(self, part: _Part, known: Sequence[Outcome]) -> _Applied:
        """Return what a part does, of which the first outcomes may be known: in general if they are not."""
        if known:
            return self._apply_exactly(part, known)
        general, filling = with_blanks(part.name)
        name, more = name_with_blank(self._state.name)
        filling = (*filling, *more)
        place = general, self._state._replace(name=name), self._files, self._travelling
        key = (_kind(part.name), self._base)
        if (found := self._expectations.encoded(place, key)) is None:
            origins = self._origins.copy()
            kernel = RemoteKernel(place[1], (), self._expectations.likely(key), origins)
            try:
                (general.apply if isinstance(general, Step) else part.apply)(kernel.as_kernel(), self._files)
            except (Stop, Exception):  # what it found or was refused is its own
                return self._apply_exactly(part, known)
            made = len(kernel.operations), _packed(kernel), kernel.outcomes, kernel.state, kernel.special
            found = _Encoded(*made, self._display)
            self._origins = origins
            self._expectations.learn(key, found.special)
            self._expectations.keep(place, found)
        after = found.after.name and os.fsdecode(fill(os.fsencode(found.after.name), filling))
        self._state, self._display = found.after._replace(name=after), found.display
        return _Applied(found.number, fill(found.packed, filling), found.outcomes, filling, whole=True)

    def _apply_exactly(self, part: _Part, known: Sequence[Outcome]) -> _Applied:
        key = (_kind(part.name), self._base)
        origins = self._origins.copy()
        kernel = RemoteKernel(self._state, known, self._expectations.likely(key), origins)
        try:
            part.apply(kernel, self._files)
        except Stop:
            return _Applied(len(kernel.operations), _packed(kernel), kernel.outcomes, (), whole=False)
        except Exception as error:
            if kernel.guessed:  # by an outcome that init has not reported: it is asked for all of them
                self._expectations.forget(key)
                return self._apply_exactly(part, known)
            self.failed = failure_in(part.name, error) if isinstance(part.name, Step) else failure_of("", error)
            return _Applied(0, b"", (), (), whole=False)
        self._state, self._origins = kernel.state, origins
        self._expectations.learn(key, kernel.special)
        return _Applied(len(kernel.operations), _packed(kernel), kernel.outcomes, (), whole=True)

    def _watch_display(self, kernel: RemoteKernel, has_root: bool) -> None:
        self._display = None
        with contextlib.suppress(PermissionError):  # the root is closed to the cell's user: the cell reports it
            self._display = DisplayWatch(kernel.as_kernel(), switched=has_root)

    def _harden(self, kernel: RemoteKernel, step: HardenInit) -> None:
        """Lets no process look into init, and has it end with the server: a change of user undoes both."""
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if kernel.has_ended(PARENT):
            raise ProcessLookupError("the launcher ended while it started a container")
        step.apply(kernel.as_kernel(), ())
        if self._display is not None:
            self._display.use(kernel.as_kernel())
            self._display.watch()

    def _let_go(self, kernel: RemoteKernel, _: Sequence[int]) -> None:
        """Keeps nothing that was for the start, or is the cell's; and supervises."""
        with contextlib.suppress(OSError):  # the container may have closed its root
            kernel.chdir("/")
        DropCapabilities(("KILL",)).apply(kernel.as_kernel(), ())
        for standard in (0, 1, 2):
            kernel.close(standard)
        shown = [] if self._display is None else self._display.files
        kernel.close_all_but((CHANNEL, PARENT, STATUS, *shown))
        blind = self._display is not None and self._display.blind
        kernel.outlive(self._limit, shown, blind=blind, awaited=_AWAITED)


def _begin(kernel: RemoteKernel, _: Sequence[int]) -> None:
    """What init is before its first step. Signals wait to be taken: it inherits that from the server."""
    kernel.umask(0o022)
    for sig in FORWARDED:  # whatever the notebook was started with: nohup(1) has it ignore one
        kernel.default_signal(sig)


def _kind(step: object) -> object:
    """Return what steps have in common of which the same outcomes are expected: for a program, what its search uses."""
    if not isinstance(step, Execute):
        return step
    found = tuple(item for item in step.env if item.startswith(("PATH=", "HOME=")))
    return step.argv[0], step.cwd, found, step.terminal, step.terminal_input


def _packed(kernel: RemoteKernel) -> bytes:
    return b"".join(operation.pack() for operation in kernel.operations)
