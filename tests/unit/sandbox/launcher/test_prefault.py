"""Prefault goes through a whole start and does nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.idle import idle_kernel
from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.sandbox import plan, protocol
from nbcontainer.sandbox.launcher import prefault
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
