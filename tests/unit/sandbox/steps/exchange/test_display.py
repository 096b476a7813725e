"""The system calls of the steps for `display`."""

from __future__ import annotations

import os

from nbcontainer.linux.recording import FIRST_DESCRIPTOR, RecordingKernel, call
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.steps.exchange.display import OfferDisplay, WriteDriver

TOP = "stage/dev/nbcontainer"
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


def test_the_program_its_pipe_and_a_place_for_data_are_made() -> None:
    """Every user of the container may write to the pipe and make files; the program is one that every user may run."""
    kernel = RecordingKernel()
    OfferDisplay().apply(kernel, ())
    program = next(one for one in kernel.calls if one.name == "write")
    assert [one for one in kernel.calls if one.name != "write"] == [
        call("mkdir", TOP, 0o755),
        call("mkdir", f"{TOP}/bin", 0o755),
        call("mkdir", f"{TOP}/shown", 0o1777),
        call("chmod", f"{TOP}/shown", 0o1777),
        call("mkfifo", f"{TOP}/channel", 0o666),
        call("chmod", f"{TOP}/channel", 0o666),
        call("open", f"{TOP}/bin/display", NEW, 0o555),
        call("close", FIRST_DESCRIPTOR),
    ]
    assert b"usage: display" in program.args[1]
    assert not kernel.left_open


def test_a_driver_is_a_new_file_and_travels() -> None:
    """The text of the driver is in the plan, and only its size is shown."""
    kernel = RecordingKernel()
    step = WriteDriver("text")
    step.apply(kernel, ())
    assert kernel.calls == [
        call("open", "stage/root/dev/nbcontainer/python", NEW, 0o444),
        call("write", FIRST_DESCRIPTOR, b"text"),
        call("close", FIRST_DESCRIPTOR),
    ]
    assert plan.decode(plan.encode([step])) == (step,)
    assert step.shown() == {"bytes": 4}
