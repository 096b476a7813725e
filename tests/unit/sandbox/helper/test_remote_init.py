"""What is sent to an init that is the compiled helper, and what follows from its reports."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.helper import blanks
from nbcontainer.sandbox.helper.expectations import Batch, Encoded, Expectations
from nbcontainer.sandbox.helper.operations import Outcome, Report
from nbcontainer.sandbox.helper.remote_init import RemoteInit
from nbcontainer.sandbox.networking import Networking
from nbcontainer.sandbox.plan import PlanTemplate, ahead
from nbcontainer.sandbox.spec import Overlay, Program, Spec
from nbcontainer.sandbox.steps.base import Step
from nbcontainer.sandbox.steps.mounted_root import AttachRoot
from nbcontainer.sandbox.steps.namespaces import SetHostname
from nbcontainer.sandbox.steps.overlay import MountOverlay
from nbcontainer.sandbox.steps.program import Execute, WriteScript
from nbcontainer.sandbox.userns.idmap import host_map

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    made: list[str] = []

    @dataclass(frozen=True)
    class Watched(Execute):
        def start(self, kernel: Kernel, spawn: Callable[..., int] | None = None) -> int:
            made.append(self.argv[0])
            return super().start(kernel, spawn)

    for name in (A, B):
        started(Watched(("/bin/sh",), ("HOME=/", f"HOSTNAME={name}")), shared)
    assert made == ["/bin/sh"]


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


SCRIPT = (WriteScript(0), Execute(("/bin/sh",), ()))


@contextlib.contextmanager
def bodies(*sizes: int) -> Iterator[list[int]]:
    """Memory files of these sizes."""
    with contextlib.ExitStack() as stack:
        found = [protocol.memory_file("body", bytes(size)) for size in sizes]
        for fd in found:
            stack.callback(os.close, fd)
        yield found


def waiting(shared: Expectations, *steps: Step) -> RemoteInit:
    """An init that waits for its cell, where another cell with a body of a byte has begun before."""
    with bodies(1) as files:
        before = RemoteInit(shared)
        before.prepare(steps)
        before.start((), SCRIPT, files, None)
    remote = RemoteInit(shared)
    remote.prepare(steps)
    return remote


def test_a_start_like_the_last_one_is_made_before_it_is_asked_for() -> None:
    """Then no step is looked at for the cell."""

    class Watched(Expectations):
        asked = 0

        def batch(self, key: object) -> Batch | None:
            self.asked += 1
            return super().batch(key)

    shared = Watched()
    remote = waiting(shared)
    remote.expect((), SCRIPT)
    before = shared.asked
    with bodies(2000) as files:
        packet = remote.start((), SCRIPT, files, None)
        assert shared.asked == before
        assert packet == waiting(Expectations()).start((), SCRIPT, files, None)


@pytest.mark.parametrize(
    ("sizes", "limit", "argv"),
    [
        pytest.param((7,), None, ("/bin/sh",), id="like the last one"),
        pytest.param((0,), None, ("/bin/sh",), id="an empty body"),
        pytest.param((1, 1), None, ("/bin/sh",), id="another file"),
        pytest.param((1,), 2.5, ("/bin/sh",), id="a time limit"),
        pytest.param((1,), None, ("/bin/ls",), id="another program"),
    ],
)
def test_what_was_expected_changes_no_start(sizes: tuple[int, ...], limit: float | None, argv: tuple[str, ...]) -> None:
    """An init that expected another cell is sent the same, and answers a report in the same way."""
    shared, enter = Expectations(), (WriteScript(0), Execute(argv, ()))
    expecting, other = waiting(shared), waiting(shared)
    expecting.expect((), SCRIPT)
    with bodies(*sizes) as files:
        assert expecting.start((), enter, files, limit) == other.start((), enter, files, limit)
    for number in range(4):
        report = Report(number, Outcome(-errno.ENOENT))
        assert expecting.answer(report) == other.answer(report)
        assert expecting.failed == other.failed


@pytest.mark.parametrize("again", [False, True])
def test_what_is_learned_after_that_is_in_the_start(again: bool) -> None:
    """A batch that was made before another init reported is made anew: by the next call, or when it is needed."""
    shared, setup, enter = Expectations(), (Tolerant(),), (Execute(("/bin/sh",), ()),)
    before = RemoteInit(shared)
    before.prepare(())
    before.start(setup, enter, (), None)
    expecting = RemoteInit(shared)
    expecting.prepare(())
    expecting.expect(setup, enter)
    before.answer(Report(0, Outcome(-errno.EEXIST)))
    if again:
        expecting.expect(setup, enter)
    assert expecting.start(setup, enter, (), None).count(b"/first\0") == 2


@pytest.mark.parametrize("result", [errno.EROFS, errno.EEXIST])
def test_an_init_that_expects_a_cell_still_answers_for_its_own_steps(result: int) -> None:
    """What was made ahead is put aside: a late report leads to the step that made the call."""
    shared = Expectations()
    expecting, other = waiting(shared, Tolerant()), waiting(shared, Tolerant())
    expecting.expect((), SCRIPT)
    report = Report(own_calls(), Outcome(-result))
    assert expecting.answer(report) == other.answer(report)
    assert expecting.failed == other.failed
    if expecting.failed is None:
        with bodies(1) as files:
            assert expecting.start((), SCRIPT, files, None) == other.start((), SCRIPT, files, None)


def test_an_interrupt_while_a_start_is_expected_changes_nothing() -> None:
    """The init is as if no start had been expected: it does not wait for a report that never comes."""

    @dataclass(frozen=True)
    class Interrupted(Step):
        """The person who waits interrupts it."""

        phrase: ClassVar[str] = "be interrupted"

        def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
            raise KeyboardInterrupt

    shared = Expectations()
    expecting, other = waiting(shared), waiting(shared)
    for init in (expecting, other):
        assert init.answer(Report(99, Outcome(0))) is None
    shared.note_start(((Interrupted(),), SCRIPT), (), None)
    with pytest.raises(KeyboardInterrupt):
        expecting.expect((Interrupted(),), SCRIPT)
    assert expecting.settled
    with bodies(1) as files:
        assert expecting.start((), SCRIPT, files, None) == other.start((), SCRIPT, files, None)


NAMES = ["7d9ffc81faa7", "0123456789ab", "production-db-1", "dev"]


def sent(name: str, expectations: Expectations) -> bytes:
    """What an init with that name, and a write layer named after it, gets before there is a cell, and after that."""
    spec = Spec(
        Program(("/bin/sh",), (f"HOSTNAME={name}", f"X={NAMES[0]}")),
        name,
        networking=Networking(hosts=(("db", "10.0.0.1"),)),
    )
    root = Overlay(("layer",), f"../tmp/{name}/upper", f"../tmp/{name}/work")
    plan = PlanTemplate(spec, host_map(), compiled=True).on(root)
    remote = RemoteInit(expectations)
    first = remote.prepare(ahead(plan)[1:])
    rest = [*plan.setup, *plan.enter][len(ahead(plan)) - len(plan.prepare) :]
    return first + remote.start((), rest, (), None)


@pytest.mark.parametrize("name", NAMES)
def test_an_init_gets_its_own_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of other containers has this one's name and directories, as if no blank had ever been filled."""
    shared = Expectations()
    for other in NAMES:
        sent(other, shared)
    kept, fresh = sent(name, shared), sent(name, Expectations())
    monkeypatch.setattr(blanks, "_SHORTEST", 1 << 30)
    assert kept == fresh == sent(name, Expectations())


def test_what_is_reported_later_finds_the_name_of_the_container() -> None:
    """A step that is done again has the outcomes of its first calls with this container's words, not with blanks."""

    @dataclass(frozen=True)
    class Named(Step):
        """Makes a directory that may be there, and one that has the container's name."""

        phrase: ClassVar[str] = "make directories"

        def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
            name = kernel.nodename()
            with contextlib.suppress(FileExistsError):
                kernel.mkdir("/first", 0o755)
            kernel.mkdir(f"/{name}", 0o755)

    shared = Expectations()
    for name in (B, A, A, B):  # what was kept of one is used for the next, until one reports
        assert f"/{name}\0".encode() in RemoteInit(shared).prepare((SetHostname(name), Named()))
        remote = RemoteInit(shared)
        packet = remote.prepare((SetHostname(name), Named()))
        assert f"/{name}\0".encode() in packet
        again = remote.answer(Report(own_calls() + 2, Outcome(-errno.EEXIST)))
        assert again is not None
        assert f"/{name}\0".encode() in again


def test_the_next_container_with_the_same_plan_is_sent_the_same_packet() -> None:
    """No step is looked at again: only the blanks in the packet are filled. After a report, all of them are."""

    class Watched(Expectations):
        asked = 0

        def encoded(self, place: object, key: object) -> Encoded | None:
            self.asked += 1
            return super().encoded(place, key)

    shared = Watched()
    first = RemoteInit(shared).prepare((SetHostname(A), Tolerant()))
    before = shared.asked
    remote = RemoteInit(shared)
    assert remote.prepare((SetHostname(B), Tolerant())) == first.replace(A.encode(), B.encode())
    assert shared.asked == before
    remote.answer(Report(own_calls() + 1, Outcome(-errno.EEXIST)))
    after = shared.asked
    assert RemoteInit(shared).prepare((SetHostname(A), Tolerant())) != first
    assert shared.asked > after


def test_one_blank_with_two_texts_is_filled_in_each_step() -> None:
    """A plan that names its container twice, with names of one length, is not sent as a kept packet."""
    shared = Expectations()
    for names in ((A, B), (B, A), (A, A), (A, B)):
        steps = [SetHostname(name) for name in names]
        assert RemoteInit(shared).prepare(steps) == RemoteInit(Expectations()).prepare(steps)


def test_blanks_are_as_long_as_words_and_in_no_other_text() -> None:
    """They are random: those of another process are others."""
    step = MountOverlay(("layer",), "../tmp/0123/upper", "../tmp/0123/work")
    general, filling = blanks.with_blanks(step)
    assert isinstance(general, MountOverlay)
    assert [(len(blank), word) for blank, word in filling] == [(17, b"../tmp/0123/upper"), (16, b"../tmp/0123/work")]
    assert [general.upper, general.work] == [blank.decode() for blank, _ in filling]
    assert len({blank for blank, _ in filling}) == 2
    program = "from nbcontainer.sandbox.helper import blanks; print(blanks._blank('upper', 17))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert other != general.upper


def test_what_travels_with_an_order_has_the_first_free_numbers() -> None:
    """A step of the order gets them, and the files of the cell get their numbers when they are closed."""
    remote = RemoteInit(Expectations())
    packet = remote.prepare((AttachRoot(("a/diff",), "../tmp/s.1/diff"),), 2)
    opened = RemoteInit(Expectations())
    assert packet == opened.prepare((AttachRoot(("a/diff",), "../tmp/s.2/diff"),), 2)
    with Path(os.devnull).open("rb") as null:
        with_root = remote.start((), (Execute(("/bin/true",), ()),), [null.fileno()] * 3, None)
        remote = RemoteInit(Expectations())
        remote.prepare(())
        assert with_root == remote.start((), (Execute(("/bin/true",), ()),), [null.fileno()] * 3, None)
