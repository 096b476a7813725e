"""A container's init that is the compiled helper: which of its steps are done, and what is sent to it next.

The steps run here, with a `RemoteKernel`. Their calls travel in one batch with the outcomes that are expected. Init's
report of another outcome leads back to the step that made the call: it runs again with the outcomes that init has
reported, and what it and the steps after it call travels in the next batch. So every decision is that of the step.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.linux.process import PR_SET_PDEATHSIG
from nbcontainer.sandbox.helper import operations
from nbcontainer.sandbox.helper.blanks import Filling, fill, name_with_blank, with_blanks
from nbcontainer.sandbox.helper.expectations import Encoded, Expectations, Made
from nbcontainer.sandbox.helper.remote_calls import CHANNEL, FIRST_FREE, PARENT, STATUS, Origin, State, Stop
from nbcontainer.sandbox.helper.remote_kernel import RemoteKernel
from nbcontainer.sandbox.spec import FORWARDED
from nbcontainer.sandbox.step_failure import failure_in, failure_of
from nbcontainer.sandbox.steps.base import Step
from nbcontainer.sandbox.steps.exchange.display import DisplayWatch
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.steps.rights.capabilities import CloseInit, DropCapabilities, HardenInit
from nbcontainer.sandbox.steps.rights.user import SetUser
from nbcontainer.sandbox.steps.rootfs import AttachStaged, PivotRoot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nbcontainer.sandbox.helper.operations import Outcome, Report

_AWAITED = (signal.SIGCHLD, signal.SIGIO, *FORWARDED)

_BASE = 4
"""Layers, from the lowest up, that stand for an image: what a step finds in one is expected there again."""


class _Part(NamedTuple):
    """A step, or what init does of its own, as a function of the kernel and the travelling descriptors.

    `name` is the step, or stands for what is init's own: parts with one name make the same calls from the same state.
    """

    name: object
    apply: Callable[[Any, Sequence[int]], None]


class _Applied(NamedTuple):
    """A part's operations, whose outcomes have the blanks of `filling`; and whether that is all of it.

    `general` says whether they are those of another container, but for the blanks.
    """

    number: int
    packed: bytes
    outcomes: Sequence[Outcome]
    filling: Filling = ()
    whole: bool = True
    general: bool = False


class _Expected(NamedTuple):
    """A batch that was made before it is asked for, and the attributes that its init has then.

    `question` is what it is for, `version` that of the expectations, and `like` the start that it was made after.
    """

    question: object
    version: int
    like: object
    packet: bytes
    after: dict[str, Any]


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
        self._made: Sequence[Made] = ()
        self._filling: Filling = ()
        self._state = State()
        self._files: tuple[int, ...] = ()
        self._count = 0
        self._origins: dict[int, Origin] = {}
        self._travelling: tuple[Origin, ...] = ()
        self._base: tuple[str, ...] = ()
        self._display: DisplayWatch | None = None
        self._limit: float | None = None
        self._expected: _Expected | None = None

    def prepare(self, steps: Sequence[Step], files: int = 0) -> bytes:
        """Return the first batch: what an init does before there is a cell. `CloneInit` is not among the steps.

        `files` is how many descriptors travel with the order.
        """
        self._base = next((step.lowers[-_BASE:] for step in steps if isinstance(step, (MountOverlay, AttachRoot))), ())
        self._files = tuple(range(FIRST_FREE, FIRST_FREE + files))
        self._state = State((1 << FIRST_FREE + files) - 1)
        parts = [_Part("begin", _begin), *(_Part(step, step.apply) for step in steps)]
        if any(isinstance(step, AttachStaged) for step in steps):
            has_root = any(isinstance(step, PivotRoot) for step in steps)
            parts.append(_Part(f"watch {has_root}", lambda kernel, _: self._watch_display(kernel, has_root)))
        parts.append(_Part("close", lambda kernel, _: self._harden(kernel, CloseInit())))
        return self._begin(parts)

    def start(self, setup: Sequence[Step], enter: Sequence[Step], files: Sequence[int], limit: float | None) -> bytes:
        """Return the batch with the rest of the plan. Init gets copies of `files` with it."""
        travelling = tuple(map(Origin.of, files))
        expected, self._expected = self._expected, None
        question, version = (setup, enter, travelling, limit), self._expectations.version
        if expected is not None and (expected.question, expected.version) == (question, version):
            vars(self).update(expected.after)
            packet = expected.packet
        else:
            packet = self._start(setup, enter, travelling, limit)
        self._expectations.note_start((setup, enter), travelling, limit)
        return packet

    def expect(self, setup: Sequence[Step], enter: Sequence[Step]) -> None:
        """Make the batch that `start` returns if files and limit are those of the last start with such steps.

        Call it when init has settled; again, it makes the batch anew if something was learned.
        """
        like = self._expectations.last_start((setup, enter))
        known = self._expected
        if like is None or (known and (known.like, known.version) == (like, self._expectations.version)):
            return
        before = vars(self).copy()
        self._expected, self._origins = None, self._origins.copy()
        try:
            packet = self._start(setup, enter, *like)
            after = vars(self).copy()
        finally:  # whatever happens, init has not been started
            vars(self).update(before)
            self._expected = None
        if after["failed"] is None:
            self._expected = _Expected((setup, enter, *like), self._expectations.version, like, packet, after)

    def _start(
        self, setup: Sequence[Step], enter: Sequence[Step], travelling: tuple[Origin, ...], limit: float | None
    ) -> bytes:
        first = self._state.open
        numbers = []
        for origin in travelling:
            lowest = (~first & (first + 1)).bit_length() - 1
            first |= 1 << lowest
            numbers.append(lowest)
            self._origins[lowest] = origin
        self._state = State(first, self._state.uid, self._state.name)
        self._files, self._travelling, self._limit = tuple(numbers), travelling, limit
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
        self._expected = None
        made = next((made for made in reversed(self._made) if made.first <= report.sequence), None)
        if made is None or report.sequence >= self._count:
            self.settled = True
            return None
        call = made.known + report.sequence - made.first
        filling = (*made.filling, *self._filling)
        before = [outcome._replace(output=fill(outcome.output, filling)) for outcome in made.outcomes[:call]]
        self._state = _filled(made.before, filling)
        return self._packet(self._apply_from(made.part, [*before, report.outcome]))

    def _begin(self, parts: list[_Part]) -> bytes:
        """Return the batch of all parts: the one that was kept of another container, if they are the same."""
        self._parts, self.settled = parts, False
        key, filling = self._general()
        found = None if key is None else self._expectations.batch(key)
        if found is None:
            applied = self._apply_from(0, ())
            if key is not None and len(applied) == len(parts) and all(done.general for done in applied):
                self._keep(key, applied)
            return self._packet(applied)
        self._made, self._count, self._filling = found.made, found.number, filling
        self._state, self._display = _filled(found.after, filling), found.display
        return fill(found.packet, filling)

    def _general(self) -> tuple[object, Filling]:
        """Return what determines the batch of all parts, with blanks, and what to fill them with.

        The first is None if one blank stands for several texts.
        """
        name, more = name_with_blank(self._state.name)
        texts, generals = dict(more), []
        for part in self._parts:
            general, filling = with_blanks(part.name)
            generals.append(general)
            for blank, text in filling:
                if texts.setdefault(blank, text) != text:
                    return None, ()
        state = self._state.open, self._state.uid, name
        return (tuple(generals), state, self._files, self._travelling, self._base), tuple(texts.items())

    def _keep(self, key: object, applied: Sequence[_Applied]) -> None:
        """Keep the batch of all parts for the next container."""
        made = [part._replace(before=_blanked(part.before), filling=()) for part in self._made]
        packet = operations.batch(self._count, b"".join(done.packed for done in applied))
        self._expectations.keep_batch(key, packet, made, self._count, _blanked(self._state), self._display)

    def _packet(self, applied: Sequence[_Applied]) -> bytes:
        return operations.batch(self._count, b"".join(fill(done.packed, done.filling) for done in applied))

    def _apply_from(self, first: int, known: Sequence[Outcome]) -> list[_Applied]:
        """Return the operations of the parts from `first` on, of which the first has these outcomes already."""
        made, applied = list[Made](), list[_Applied]()
        self._made, self._count, self._filling = made, 0, ()
        for number in range(first, len(self._parts)):
            before = self._state
            reported = known if number == first else ()
            done = self._apply(self._parts[number], reported)
            made.append(Made(number, self._count, before, len(reported), done.outcomes, done.filling))
            applied.append(done)
            self._count += done.number
            if not done.whole:
                break
        return applied

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
            found = Encoded(*made, self._display)
            self._origins = origins
            self._expectations.learn(key, found.special)
            self._expectations.keep(place, found)
        self._state, self._display = _filled(found.after, filling), found.display
        return _Applied(found.number, found.packed, found.outcomes, filling, general=True)

    def _apply_exactly(self, part: _Part, known: Sequence[Outcome]) -> _Applied:
        key = (_kind(part.name), self._base)
        origins = self._origins.copy()
        kernel = RemoteKernel(self._state, known, self._expectations.likely(key), origins)
        try:
            part.apply(kernel, self._files)
        except Stop:
            return _Applied(len(kernel.operations), _packed(kernel), kernel.outcomes, whole=False)
        except Exception as error:
            if kernel.guessed:  # by an outcome that init has not reported: it is asked for all of them
                self._expectations.forget(key)
                return self._apply_exactly(part, known)
            self.failed = failure_in(part.name, error) if isinstance(part.name, Step) else failure_of("", error)
            return _Applied(0, b"", (), whole=False)
        self._state, self._origins = kernel.state, origins
        self._expectations.learn(key, kernel.special)
        return _Applied(len(kernel.operations), _packed(kernel), kernel.outcomes)

    def _watch_display(self, kernel: RemoteKernel, has_root: bool) -> None:
        self._display = None
        with contextlib.suppress(PermissionError):  # the root is closed to the cell's user: the cell reports it
            self._display = DisplayWatch(kernel.as_kernel(), switched=has_root)

    def _harden(self, kernel: RemoteKernel, step: HardenInit) -> None:
        """Let no process look into init, and have it end with the server: a change of user undoes both."""
        kernel.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if kernel.has_ended(PARENT):
            raise ProcessLookupError("the launcher ended while it started a container")
        step.apply(kernel.as_kernel(), ())
        if self._display is not None:
            self._display.watch(kernel.as_kernel())

    def _let_go(self, kernel: RemoteKernel, _: Sequence[int]) -> None:
        """Keep nothing that was for the start, or is the cell's; and supervise."""
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


def _blanked(state: State) -> State:
    """Return a state with a blank in it."""
    return state._replace(name=name_with_blank(state.name)[0])


def _filled(state: State, filling: Filling) -> State:
    """Return a state in which the blanks are filled."""
    if state.name is None:
        return state
    return state._replace(name=os.fsdecode(fill(os.fsencode(state.name), filling)))


def _packed(kernel: RemoteKernel) -> bytes:
    return b"".join(operation.pack() for operation in kernel.operations)
