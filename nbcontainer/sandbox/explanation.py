"""What was done for a cell, step by step: the descriptions of the steps that ran, and the calls that they made.

These are the only sources. `explain_run` takes the notes of the init that ran the steps (`nbcontainer.linux.watched`);
`explain_plan` applies the steps of a plan to a kernel that only records.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from nbcontainer.errors import SandboxError
from nbcontainer.linux import call_text
from nbcontainer.linux.watched import NOTHING, WatchedKernel
from nbcontainer.sandbox.step_failure import FailedStep, failure_in
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.sandbox.steps.namespaces import CloneInit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Plan, Step, Words

_DESCRIPTORS = 1 << 10
"""How many travelling descriptors the steps of a plan find that are only explained."""

_AGAIN = "run the cell again, or explain it without running it: `%container explain`"

_LARGEST = 1 << 20
"""The most characters of notes: those of an ordinary cell have some 15,000, and 300 more for each volume."""

_REMEMBERED = 512
"""For how many steps the text of what they called is kept: most cells of a notebook call the same."""


@dataclass(frozen=True)
class ExplainedCall:
    """Calls that one line of a step's code made.

    `texts` are the system calls, as `name(arguments)`. `duration` is in nanoseconds, `error` the errno that it failed
    with, 0 if it succeeded.
    """

    texts: tuple[str, ...]
    duration: int = 0
    error: int = 0


class ExplainedStep(NamedTuple):
    """A step and the calls that it made.

    `begun` and `duration` are in nanoseconds; `begun` counts from the moment at which the plan was sent, and is
    negative for what was done `ahead` of the cell. Both are 0 if the step was not run. `called` and `went` are the
    calls as `WatchedKernel` notes them. (A cell waits while forty of these are made: a tuple is made quickly.)
    """

    step: Step
    called: str
    went: Sequence[tuple[int, int]]
    ahead: bool = False
    begun: int = 0
    duration: int = 0

    @property
    def calls(self) -> tuple[ExplainedCall, ...]:
        """The calls, in order. Raises `SandboxError` if the notes are not those of this package."""
        shown = self._read().calls
        return tuple(
            ExplainedCall(texts, went[0], error) for (texts, error), went in zip(shown, self.went, strict=True)
        )

    @property
    def name(self) -> str:
        """The name of the step's class."""
        return type(self.step).__name__

    @property
    def lines(self) -> tuple[tuple[str, int], ...]:
        """All system calls, as `name(arguments)`, each with the errno that it failed with, or 0.

        Raises `SandboxError` if the notes are not those of this package.
        """
        return self._read().lines

    @property
    def texts(self) -> tuple[str, ...]:
        """All system calls, as `name(arguments)`. Raises `SandboxError` if the notes are not those of this package."""
        return self._read().texts

    @property
    def outcome(self) -> tuple[str, tuple[int, ...]]:
        """What it called, and the error number of each call: the same in most cells of a notebook.

        Raises `SandboxError` if the notes are not those of this package.
        """
        try:
            if not isinstance(self.called, str):
                raise TypeError(type(self.called).__name__)
            return self.called, tuple([error for _, error in self.went])
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _read(self) -> _Calls:
        outcome = self.outcome
        try:
            return _calls(*outcome)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> SandboxError:
        problem = f"cannot explain the step {self.name}: what init noted is damaged ({error!r})"
        return SandboxError(problem, hint=_AGAIN)

    def words(self, language: Language = Language.ENGLISH) -> Words:
        """Return what the step does, why, and what an attacker could do without it."""
        return self.step.words(self.step.shown(), language)


@dataclass(frozen=True)
class Explanation:
    """The steps of a cell, in order. With `ran`, they were run, and their times are known.

    `whole` is false for the first steps of a cell that is being started.
    """

    steps: tuple[ExplainedStep, ...]
    ran: bool
    whole: bool = True

    def __iter__(self) -> Iterator[ExplainedStep]:
        """Iterate over the steps."""
        return iter(self.steps)

    def __repr__(self) -> str:
        return f"<Explanation of {len(self.steps)} steps>"

    def __str__(self) -> str:
        """Return all system calls, one in a line."""
        return "\n".join([text for step in self.steps for text in step.texts])

    def as_json(self, language: Language = Language.ENGLISH) -> list[dict[str, Any]]:
        """Return the steps as JSON values. Times are in microseconds."""
        return [
            {
                "step": step.name,
                **step.words(language)._asdict(),
                "ahead": step.ahead,
                **({"begun": step.begun / 1000, "duration": step.duration / 1000} if self.ran else {}),
                "calls": list(step.texts),
            }
            for step in self.steps
        ]


def explain_run(plan: Plan, notes: str, sent: int) -> Explanation:
    """Return what was done, by the notes of `WatchedKernel.take_json`, as `ExplainedRun` does."""
    return ExplainedRun(plan, sent).add(notes)


class ExplainedRun:
    """What was done for a run, in parts: init sends what it did for a warm container while the cell is started.

    `sent` is the time at which the plan was sent, in nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self, plan: Plan, sent: int) -> None:
        self._plan = plan
        self._sent = sent
        self._steps: list[ExplainedStep] = []

    def add(self, notes: str) -> Explanation:
        """Return what was done so far, with the next notes of `WatchedKernel.take_json`.

        Raises `SandboxError` if the notes are of another plan.
        """
        if len(notes) > _LARGEST:
            problem = f"cannot explain the run: what init noted has {len(notes):,} characters"
            raise SandboxError(problem, hint=_AGAIN)
        try:
            self._read(json.loads(notes))
        except (KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            problem = f"cannot explain the run: what init noted does not fit its plan ({error})"
            raise SandboxError(problem, hint=_AGAIN) from error
        return Explanation(tuple(self._steps), ran=True, whole=len(self._steps) == len(self._plan.steps))

    def _read(self, notes: Any) -> None:
        if not self._steps:
            self._add(_clone(self._plan, *notes["cloned"]))
        for note in notes["steps"]:
            self._add(note)

    def _add(self, note: Any) -> None:
        name, begun, ended, called, went = note
        step = self._plan.steps[len(self._steps)]
        if name != type(step).__name__:
            raise ValueError(f"{name} instead of {type(step).__name__}")
        sent = self._sent
        self._steps.append(ExplainedStep(step, called, went, begun < sent, begun - sent, ended - begun))


def _clone(plan: Plan, begun: int, ended: int) -> tuple[Any, ...]:
    """Return the note of the first step, which the launcher takes."""
    launcher = plan.steps[0]
    assert isinstance(launcher, CloneInit)
    called = json.dumps([["clone", [launcher.flags()], {}]])
    return type(launcher).__name__, begun, ended, called, [(ended - begun, 0)]


class _Calls(NamedTuple):
    """The system calls of each call, with the errno of its failure or 0; and the same call by call, and as texts."""

    calls: tuple[tuple[tuple[str, ...], int], ...]
    lines: tuple[tuple[str, int], ...]
    texts: tuple[str, ...]


@lru_cache(maxsize=_REMEMBERED)
def _calls(called: str, errors: tuple[int, ...]) -> _Calls:
    """Return what `WatchedKernel` noted as JSON, read."""
    calls = tuple(
        (tuple(texts[:1] if error == NOTHING else texts), max(error, 0))
        for texts, error in zip((call_text.system_calls(*call) for call in json.loads(called)), errors, strict=True)
    )
    lines = tuple((text, error) for texts, error in calls for text in texts)
    return _Calls(calls, lines, tuple(text for text, _ in lines))


def explain_plan(plan: Plan, kernel: Kernel, ahead: int = 0) -> Explanation:
    """Return what a plan does by the calls that its steps make of `kernel`, which is one that only records.

    The first `ahead` steps are those that can be done before the cell. Raises `FailedStep` if a step fails.
    """
    watched = WatchedKernel(kernel)
    for step in plan:
        watched.begin(type(step).__name__)
        try:
            step.apply(watched.as_kernel(), range(_DESCRIPTORS))
        except Exception as error:
            raise FailedStep(failure_in(step, error)) from error
        watched.end()
    noted = json.loads(watched.take_json())["steps"]
    steps = [
        ExplainedStep(step, called, went, number < ahead)
        for number, (step, (_, _, _, called, went)) in enumerate(zip(plan, noted, strict=True))
    ]
    return Explanation(tuple(steps), ran=False)
