"""What was done for a cell, step by step: the descriptions of the steps that ran, and the calls that they made.

These are the only sources. `explain_run` takes the notes of the init that ran the steps (`nbcontainer.linux.watched`);
`explain_plan` applies the steps of a plan to a kernel that only records.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nbcontainer.errors import SandboxError
from nbcontainer.linux import call_text
from nbcontainer.linux.watched import NOTHING, WatchedKernel
from nbcontainer.sandbox.steps.base import Language
from nbcontainer.sandbox.steps.namespaces import CloneInit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.steps.base import Plan, Step, Words

_DESCRIPTORS = 1 << 10
"""How many travelling descriptors the steps of a plan find that are only explained."""

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


@dataclass(frozen=True)
class ExplainedStep:
    """A step and the calls that it made.

    `begun` and `duration` are in nanoseconds; `begun` counts from the moment at which the plan was sent, and is
    negative for what was done `ahead` of the cell. Both are 0 if the step was not run. `called` and `went` are the
    calls as `WatchedKernel` notes them.
    """

    step: type[Step]
    arguments: Mapping[str, Any]
    called: str
    went: Sequence[tuple[int, int]]
    ahead: bool = False
    begun: int = 0
    duration: int = 0

    @property
    def calls(self) -> tuple[ExplainedCall, ...]:
        """The calls, in order. Raises `SandboxError` if the notes are not those of this package."""
        shown = self._read()
        return tuple(
            ExplainedCall(texts, went[0], error) for (texts, error), went in zip(shown, self.went, strict=True)
        )

    @property
    def name(self) -> str:
        """The name of the step's class."""
        return self.step.__name__

    @property
    def lines(self) -> tuple[tuple[str, int], ...]:
        """All system calls, as `name(arguments)`, each with the errno that it failed with, or 0.

        Raises `SandboxError` if the notes are not those of this package.
        """
        return tuple((text, error) for texts, error in self._read() for text in texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """All system calls, as `name(arguments)`. Raises `SandboxError` if the notes are not those of this package."""
        return tuple(text for texts, _ in self._read() for text in texts)

    def _read(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        try:
            return _calls(self.called, tuple([error for _, error in self.went]))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise SandboxError(
                f"cannot explain the step {self.name}: what init noted is damaged ({error!r})"
            ) from error

    def words(self, language: Language = Language.ENGLISH) -> Words:
        """Return what the step does, why, and what an attacker could do without it."""
        return self.step.words(self.arguments, language)


@dataclass(frozen=True)
class Explanation:
    """The steps of a cell, in order. With `ran`, they were run, and their times are known."""

    steps: tuple[ExplainedStep, ...]
    ran: bool

    def __iter__(self) -> Iterator[ExplainedStep]:
        """Iterate over the steps."""
        return iter(self.steps)

    def __str__(self) -> str:
        """Return all system calls, one in a line."""
        return "\n".join(text for step in self.steps for text in step.texts)

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
    """Return what was done, by the notes of `WatchedKernel.as_json`.

    `sent` is the time at which the plan was sent, in nanoseconds of CLOCK_MONOTONIC. Raises `SandboxError` if the notes
    are of another plan.
    """
    if len(notes) > _LARGEST:
        raise SandboxError(f"cannot explain the run: what init noted has {len(notes):,} characters")
    try:
        return Explanation(tuple(_steps_that_ran(plan, json.loads(notes), sent)), ran=True)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise SandboxError(f"cannot explain the run: what init noted does not fit its plan ({error})") from error


def _steps_that_ran(plan: Plan, notes: Any, sent: int) -> Iterator[ExplainedStep]:
    launcher = plan.steps[0]
    assert isinstance(launcher, CloneInit)
    begun, ended = notes["cloned"]
    called = json.dumps([["clone", [launcher.flags()], {}]])
    clone = (type(launcher).__name__, begun, ended, called, [(ended - begun, 0)])
    for step, (name, begun, ended, called, went) in zip(plan.steps, (clone, *notes["steps"]), strict=True):
        if name != type(step).__name__:
            raise ValueError(f"{name} instead of {type(step).__name__}")
        yield ExplainedStep(type(step), step.shown(), called, went, begun < sent, begun - sent, ended - begun)


@lru_cache(maxsize=_REMEMBERED)
def _calls(called: str, errors: tuple[int, ...]) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Return the system calls of each call that `WatchedKernel` noted as JSON, with the errno of its failure or 0."""
    return tuple(
        (tuple(texts[:1] if error == NOTHING else texts), max(error, 0))
        for texts, error in zip((call_text.system_calls(*call) for call in json.loads(called)), errors, strict=True)
    )


def explain_plan(plan: Plan, kernel: Kernel, ahead: int = 0) -> Explanation:
    """Return what a plan does by the calls that its steps make of `kernel`, which is one that only records.

    The first `ahead` steps are those that can be done before the cell. Raises `OSError` if a step fails.
    """
    watched = WatchedKernel(kernel)
    for step in plan:
        watched.begin(type(step).__name__)
        step.apply(watched.as_kernel(), range(_DESCRIPTORS))
        watched.end()
    noted = json.loads(watched.as_json())["steps"]
    steps = [
        ExplainedStep(type(step), step.shown(), called, went, number < ahead)
        for number, (step, (_, _, _, called, went)) in enumerate(zip(plan, noted, strict=True))
    ]
    return Explanation(tuple(steps), ran=False)
