"""What is sent to an init that is the compiled helper, and what follows from its reports."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nbcontainer.sandbox.helper.operations import Outcome, Report
from nbcontainer.sandbox.helper.remote_init import Expectations, RemoteInit
from nbcontainer.sandbox.steps.base import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nbcontainer.linux.kernel import Kernel


@dataclass(frozen=True)
class Tolerant(Step):
    """Makes a directory that may be there, and then another one."""

    phrase: ClassVar[str] = "make directories"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        try:
            kernel.mkdir("/first", 0o755)
        except FileExistsError:
            kernel.chmod("/first", 0o755)
        kernel.mkdir("/second", 0o755)


def begun(step: Step, expectations: Expectations | None = None) -> tuple[RemoteInit, bytes]:
    remote = RemoteInit(expectations or Expectations())
    packet = remote.prepare((step,))
    return remote, packet


def own_calls() -> int:
    """Return how many calls an init makes of its own before its first step."""
    return int.from_bytes(RemoteInit(Expectations()).prepare(())[4:8], "little") - 3  # and three as it is closed


def test_all_went_as_expected() -> None:
    """Nothing follows the report that says so."""
    remote, packet = begun(Tolerant())
    count = int.from_bytes(packet[4:8], "little")
    assert remote.answer(Report(count, Outcome(0))) is None
    assert (remote.settled, remote.failed) == (True, None)


def test_an_error_that_the_step_allows_leads_to_its_other_branch() -> None:
    """The step runs again from its start, and what it calls after the error is what follows."""
    remote, _ = begun(Tolerant())
    packet = remote.answer(Report(own_calls(), Outcome(-errno.EEXIST)))
    assert packet is not None
    assert b"/first\0" in packet  # the mode
    assert b"/second\0" in packet
    assert remote.failed is None


def test_an_error_that_the_step_does_not_allow_is_its_failure() -> None:
    """It is reported in the words of an interpreted init."""
    remote, _ = begun(Tolerant())
    assert remote.answer(Report(own_calls(), Outcome(-errno.EROFS))) is not None
    assert remote.failed == {
        "step": "Tolerant",
        "errno": errno.EROFS,
        "error": "Read-only file system",
        "path": "/first",
    }


def test_the_same_is_expected_of_the_next_init() -> None:
    """What one init has reported costs the next one no message."""
    expectations = Expectations()
    remote, _ = begun(Tolerant(), expectations)
    remote.answer(Report(own_calls(), Outcome(-errno.EEXIST)))
    _, packet = begun(Tolerant(), expectations)
    assert packet.count(b"/first\0") == 2


def test_a_wrong_expectation_is_given_up() -> None:
    """The step runs again by what init reports now."""
    expectations = Expectations()
    remote, _ = begun(Tolerant(), expectations)
    remote.answer(Report(own_calls(), Outcome(-errno.EEXIST)))
    second, _ = begun(Tolerant(), expectations)
    packet = second.answer(Report(own_calls(), Outcome(0)))
    assert packet is not None
    assert b"/first\0" not in packet
    assert b"/second\0" in packet
