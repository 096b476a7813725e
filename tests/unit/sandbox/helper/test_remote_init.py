"""What is sent to an init that is the compiled helper, and what follows from its reports."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pytest

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.helper.operations import Outcome, Report
from nbcontainer.sandbox.helper.remote_init import Expectations, RemoteInit
from nbcontainer.sandbox.steps.base import Step
from nbcontainer.sandbox.steps.program import Execute, WriteScript

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


A, B = "7d9ffc81faa7", "0123456789ab"


def started(step: Execute, expectations: Expectations) -> bytes:
    remote = RemoteInit(expectations)
    remote.prepare(())
    return remote.start((), (step,), (), None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((("sh",), (f"HOSTNAME={A}",)), (("sh",), (f"HOSTNAME={B}",)), id="another container"),
        pytest.param((("sh",), (f"HOSTNAME={A}",)), (("sh",), (f"HOSTNAME={B}0",)), id="a longer name"),
        pytest.param((("sh",), (f"HOSTNAME={A}",)), (("sh",), ("HOSTNAME=dev",)), id="a short name"),
        pytest.param((("sh", A), (f"HOSTNAME={A}",)), (("sh", A), (f"HOSTNAME={B}",)), id="an argument like it"),
        pytest.param(
            (("sh", B), (f"HOSTNAME={A}",)), (("sh", B), (f"HOSTNAME={B}",)), id="an argument like the second"
        ),
        pytest.param(
            (("sh",), (f"HOSTNAME={A}", f"X={A}")), (("sh",), (f"HOSTNAME={B}", f"X={A}")), id="a variable like it"
        ),
        pytest.param(
            (("sh",), (f"HOSTNAME={A}", "X=1")), (("sh",), ("X=1", f"HOSTNAME={B}")), id="variables in another order"
        ),
        pytest.param((("sh",), (f"HOSTNAME={A}",)), (("ls",), (f"HOSTNAME={B}",)), id="another program"),
        pytest.param((("sh",), (f"HOSTNAME={A}",)), (("sh",), ()), id="no name"),
        pytest.param((("sh",), ("HOSTNAME=" + "é" * 12,)), (("sh",), (f"HOSTNAME={A}",)), id="as many letters"),
        pytest.param(
            (("sh",), (f"HOSTNAME={A}", "".join(("HOSTNAME=", A)))),
            (("sh",), (f"HOSTNAME={B}", f"HOSTNAME={A}")),
            id="two names",
        ),
    ],
)
def test_a_program_is_sent_as_if_none_had_been_sent_before(
    first: tuple[tuple[str, ...], tuple[str, ...]], second: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """The operations that are kept for the next container have that one's name, and all else is as it is given."""
    shared = Expectations()
    for argv, env in (first, second, first, second):
        step = Execute((f"/bin/{argv[0]}", *argv[1:]), ("HOME=/", *env))
        assert started(step, shared) == started(step, Expectations())


def test_a_program_in_the_next_container_takes_no_steps_again() -> None:
    """Only its name differs, so the operations are not made a second time."""
    shared = Expectations()
    started(Execute(("/bin/sh",), ("HOME=/", f"HOSTNAME={A}")), shared)
    made: list[str] = []

    @dataclass(frozen=True)
    class Watched(Execute):
        def start(self, kernel: Kernel) -> int:
            made.append(self.argv[0])
            return super().start(kernel)

    for name in (A, B):
        started(Watched(("/bin/sh",), ("HOME=/", f"HOSTNAME={name}")), shared)
    assert made == []


def test_bodies_of_all_sizes_are_sent_by_the_same_operations() -> None:
    """The next cell has another body: its operations are those of the last one, unless one of the two is empty."""
    shared = Expectations()
    packets = []
    for size in (5, 5000, 1, 0):
        body = protocol.memory_file("body", bytes(size))
        try:
            remote = RemoteInit(shared)
            remote.prepare(())
            packets.append(remote.start((), (WriteScript(0), Execute(("/bin/sh",), ())), [body], None))
        finally:
            os.close(body)
    assert packets[0] == packets[1] == packets[2] != packets[3]


def test_a_body_that_is_not_copied_whole_fails_as_its_step() -> None:
    """The second call says so, whatever the first one copied."""
    body = protocol.memory_file("body", bytes(500))
    try:
        remote = RemoteInit(Expectations())
        remote.prepare(())
        remote.start((), (WriteScript(0), Execute(("/bin/sh",), ())), [body], None)
        remote.answer(Report(2, Outcome(-errno.ENOSPC)))
    finally:
        os.close(body)
    assert remote.failed is not None
    assert (remote.failed["step"], remote.failed["errno"]) == ("WriteScript", errno.ENOSPC)
