"""The base of all steps of a plan, the plan itself, and the advice for a step that failed.

A step is a small frozen dataclass. Its fields are all it needs; `apply` makes the system calls through the kernel that
it is given; `describe` says what it does with its fields; `why` states its purpose; `risk` says what an
attacker could do without it; `advice` says what to do if the kernel refuses. Fields are strings, numbers, booleans,
None and tuples of these, so that a list of steps is also JSON.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import functools
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nbcontainer.errors import ERRNO_ADVICE
from nbcontainer.sandbox.diagnosis import Machine, call_advice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel
    from nbcontainer.sandbox.diagnosis import Diagnosis


class Language(enum.StrEnum):
    """A language in which steps are explained."""

    ENGLISH = "en"
    CHINESE = "zh"


class Words(NamedTuple):
    """What a step does, its purpose, and what an attacker could do without it."""

    description: str
    why: str
    risk: str


class Chinese(NamedTuple):
    """The explanation of a step in Chinese. `phrase` names the step's fields in braces."""

    phrase: str
    why: str
    risk: str


class Step:
    """One operation of a plan."""

    phrase: ClassVar[str] = ""
    """What it does, as a verb phrase that can follow "cannot" in an error."""

    why: ClassVar[str] = ""
    """Its purpose, in one clause."""

    risk: ClassVar[str] = ""
    """What an attacker in the container could do without it, in one clause; "nothing; …" if it is not for safety."""

    chinese: ClassVar[Chinese] = Chinese(
        "",
        "",
        "",
    )
    """The same in Chinese."""

    advice: ClassVar[Mapping[int, str]] = {}
    """By errno: the one thing to do about it."""

    diagnose: ClassVar[Mapping[int, Diagnosis]] = {}
    """By errno: the function that finds the one thing to do, if that depends on the machine."""

    ahead: ClassVar[bool] = False
    """Whether it can be applied before there is a cell: it uses nothing of a cell, and holds nothing of the host."""

    by_name: ClassVar[dict[str, type[Step]]] = {}
    """Every class of step, by the name under which it is sent."""

    def __init_subclass__(cls) -> None:
        """Add the class to `by_name`."""
        Step.by_name[cls.__name__] = cls

    def shown(self) -> dict[str, Any]:
        """Return its fields, as `inspect` shows them."""
        return dict(vars(self))

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return in one line what a step of this class does with `arguments`.

        These are its fields as `shown` returns them, or as JSON from a record has them.
        """
        details = ", ".join(f"{name} {value!r}" for name, value in arguments.items())
        return f"{cls.phrase} ({details})" if details else cls.phrase

    @classmethod
    def words(cls, arguments: Mapping[str, Any], language: Language = Language.ENGLISH) -> Words:
        """Return the explanation of a step with `arguments`, which are as in `describe`."""
        if language == Language.ENGLISH:
            return Words(cls.describe(arguments), cls.why, cls.risk)
        values = {name: _in_chinese(value) for name, value in arguments.items()}
        return Words(cls.chinese.phrase.format_map(values), cls.chinese.why, cls.chinese.risk)

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """Make the step's system calls. `files` are the descriptors that were sent with the plan. Raises `OSError`."""
        raise TypeError(f"{type(self).__name__} is not applied")


def _in_chinese(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "、".join(map(str, value)) or "无"
    return str(value) or "root"


def quoted(text: str) -> str:
    """Return a text in quotes, in one line."""
    return repr(text)


def listed(texts: Iterable[str]) -> str:
    """Return texts in one line, separated by commas; `none` for no texts."""
    return ", ".join(text if text.isprintable() else repr(text) for text in texts) or "none"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_ADVICE = {
    **ERRNO_ADVICE,
    errno.EAGAIN: "too many processes are running: end some, or raise the limit (ulimit -u)",
}


def advice_for(step: type[Step], code: int, machine: Machine | None = None) -> str:
    """Return what a person can do if a step of this class failed with errno `code`; empty if nothing is known.

    `machine` is the one on which it failed, this one by default.
    """
    if code in step.advice:
        return step.advice[code]
    diagnosis = step.diagnose.get(code) or (call_advice if code == errno.ENOSYS else None)
    if diagnosis is not None:
        return diagnosis(machine or Machine(), code)
    return _ADVICE.get(code, "")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All steps of a container, in order.

    `prepare` makes a container with a root, for any cell on the same layers. `setup` adds what this cell needs there.
    `enter` gives the process its limits and its user, and its last step starts the cell. A spare applies all steps that
    come before the first one that is not `ahead`, as soon as it is ordered.
    """

    prepare: tuple[Step, ...]
    setup: tuple[Step, ...]
    enter: tuple[Step, ...]
    compiled: bool = dataclasses.field(default=False, kw_only=True)
    """Whether the compiled helper can be its init."""

    @functools.cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they are applied."""
        return (*self.prepare, *self.setup, *self.enter)

    @functools.cached_property
    def encoded(self) -> dict[int, bytes]:
        """By the number of the first steps that are applied: the message with the others, if it was made before."""
        return {}

    def __iter__(self) -> Iterator[Step]:
        """Iterate over all steps, in the order in which they are applied."""
        return iter(self.steps)

    def calling(self, last: Step) -> Plan:
        """Return this plan with another last step, which calls a function: its init is an interpreter."""
        return dataclasses.replace(self, enter=(*self.enter[:-1], last), compiled=False)

    def rest(self, done: int) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
        """Return the rest of `setup` and of `enter` after the first `done` steps, which contain all of `prepare`."""
        done -= len(self.prepare)
        return self.setup[done:], self.enter[max(0, done - len(self.setup)) :]

    def begins_with(self, done: tuple[Step, ...]) -> bool:
        """Return whether `done` are the first steps, and contain all of `prepare`."""
        return len(done) >= len(self.prepare) and self.steps[: len(done)] == done
