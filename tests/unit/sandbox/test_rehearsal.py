"""The rehearsal of a start: it reaches the end, and does nothing."""

from __future__ import annotations

import os

from nbcontainer.sandbox import plan, rehearsal, wire
from nbcontainer.sandbox.process import Execute
from tests.recording import RecordingKernel


def test_every_step_of_a_plain_cell_is_gone_through() -> None:
    """No step takes the idle kernel's answers for a failure, which would end the rehearsal there."""
    files: list[int] = []
    with rehearsal.plain_request() as channel:
        request = wire.receive(channel, files)
    assert request is not None
    try:
        steps = (*plan.decode(request["setup"]), *plan.decode(request["enter"]))
        for step in steps:
            step.apply(rehearsal.idle_kernel(), files)
        assert isinstance(steps[-1], Execute)
        assert {os.fstat(fd).st_rdev for fd in files} == {os.makedev(1, 3)}
    finally:
        wire.close(files)


def test_what_is_looked_up_is_closed_again() -> None:
    """The likely files are looked up inside the root and let go again; one that is missing is no error."""
    kernel = RecordingKernel(missing=("stage/root/etc/group",))
    rehearsal.look_up_likely(kernel)
    assert [made.args[1] for made in kernel.only("openat2")] == ["/bin/sh", "/etc/passwd", "/etc/group"]
    assert kernel.left_open == set()
