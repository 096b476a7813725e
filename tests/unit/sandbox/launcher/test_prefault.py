"""Prefault goes through a whole start and does nothing."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.idle import idle_kernel
from nbcontainer.linux.libc import check, libc
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher import applying, init, joining, prefault
from nbcontainer.sandbox.spec import Overlay, Program, Spec
from nbcontainer.sandbox.steps.program import Execute
from nbcontainer.sandbox.userns.idmap import host_map

if TYPE_CHECKING:
    from nbcontainer.sandbox.steps.base import Step


PLAIN = plan.PlanTemplate(Spec(Program(("true",)), script=3), host_map()).on(Overlay(("a/diff",)))


@pytest.mark.parametrize("done", [PLAIN.prepare, plan.ahead(PLAIN)], ids=["root", "ahead"])
def test_every_step_of_a_plain_cell_is_gone_through(done: tuple[Step, ...]) -> None:
    """Every step after `done` runs, and none takes the idle kernel's answers for a failure."""
    files: list[int] = []
    with prefault.plain_request(done) as channel:
        request = protocol.receive(channel, files)
    assert request is not None
    try:
        steps = (*plan.decode(request["setup"]), *plan.decode(request["enter"]))
        assert [type(step) for step in steps] == [type(step) for step in tuple(PLAIN)[len(done) :]]
        for step in steps:
            step.apply(idle_kernel(), files)
        assert isinstance(steps[-1], Execute)
        assert {os.fstat(fd).st_rdev for fd in files} == {os.makedev(1, 3)}
    finally:
        protocol.close(files)


def test_what_is_looked_up_is_closed_again() -> None:
    """The likely files are looked up inside the root and closed; a missing file is not an error."""
    likely = ["/bin/sh", "/etc/passwd", "/etc/group"]
    staged = RecordingKernel(missing=("stage/root/etc/group",))
    prefault.look_up_likely(staged, PLAIN.prepare)
    assert [made.args[1] for made in staged.only("openat2")] == likely
    switched = RecordingKernel(missing=("/etc/group",))
    prefault.look_up_likely(switched, plan.ahead(PLAIN))
    assert [made.args[0] for made in switched.only("open")] == likely
    assert staged.left_open | switched.left_open == set()


def test_what_an_init_does_ahead_is_gone_through() -> None:
    """Every step before the cell, but the clone, runs to its end on the idle kernel."""
    steps = plan.decode(prefault.PREPARE)
    assert [type(step) for step in steps] == [type(step) for step in plan.ahead(PLAIN)[1:]]
    assert applying.apply_steps(idle_kernel(), steps, ()) is None


def test_going_through_an_init_changes_nothing_of_its_process() -> None:
    """A process that goes through the code of an init keeps its directory, its descriptors and its death signal."""

    def state() -> tuple[object, ...]:
        return os.getcwd(), sorted(os.listdir("/proc/self/fd")), _death_signal(), os.umask(os.umask(0o22))  # noqa: PTH109, PTH208

    os.umask(0o22)
    itself = os.pidfd_open(os.getpid())
    try:
        before = state()
        init.specialize(itself)
        assert state() == before
    finally:
        os.close(itself)


def _death_signal() -> int:
    """The signal that this process gets when its parent thread ends (PR_GET_PDEATHSIG, prctl(2))."""
    found = ctypes.c_int()
    check(libc.prctl(2, ctypes.addressof(found), 0, 0, 0), "prctl")
    return found.value


def test_going_through_an_init_reads_no_file_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher's memory has, each init has: going through its code does not even read /etc/passwd."""
    read: list[str] = []
    monkeypatch.setattr("nbcontainer.linux.idle.read_text", read.append)
    itself = os.pidfd_open(os.getpid())
    try:
        init.specialize(itself)
    finally:
        os.close(itself)
    assert read == []


def test_a_message_that_waits_and_a_closed_end_are_seen() -> None:
    """An init looks whether a cell waits before it goes through one: a message and the end of the notebook count."""
    ours, theirs = protocol.pair()
    with ours:
        assert not joining.is_readable(ours.fileno())
        theirs.close()
        assert joining.is_readable(ours.fileno())
