"""The system calls that make an exchange, and where it stands in a plan."""

from __future__ import annotations

import os

from nbcontainer.linux.recording import FIRST_DESCRIPTOR, RecordingKernel, call
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.spec import ControlDirectory, Overlay, Program, Spec
from nbcontainer.sandbox.steps.exchange.control_directory import MakeControlDirectory
from nbcontainer.sandbox.userns.idmap import host_map

TOP = "stage/root/dev/nbcontainer"
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


def test_directories_pipes_and_files_are_made_with_their_modes() -> None:
    """Whatever the mask is; a file is new, and nobody's link."""
    kernel = RecordingKernel()
    MakeControlDirectory((("bin/tool", 0o555, "text"),), ("pipe",), (("bin", 0o755),)).apply(kernel, ())
    assert kernel.calls == [
        call("mkdir", TOP, 0o755),
        call("chmod", TOP, 0o755),
        call("mkdir", f"{TOP}/bin", 0o755),
        call("chmod", f"{TOP}/bin", 0o755),
        call("mkfifo", f"{TOP}/pipe", 0o666),
        call("chmod", f"{TOP}/pipe", 0o666),
        call("open", f"{TOP}/bin/tool", NEW, 0o555),
        call("write", FIRST_DESCRIPTOR, b"text"),
        call("close", FIRST_DESCRIPTOR),
        call("chmod", f"{TOP}/bin/tool", 0o555),
    ]
    assert not kernel.left_open


def test_a_plan_makes_it_before_the_root_is_switched_and_travels() -> None:
    """It is a step like any other, in the container's own /dev; a plan without one has none."""
    made = ControlDirectory((("file", 0o644, "é"),), ("pipe",), (("folder", 0o1777),))
    spec = Spec(Program(("sh",)), control_directory=made)
    root = Overlay(("layer",))
    steps = list(plan.PlanTemplate(spec, host_map()).on(root))
    step = MakeControlDirectory(made.files, made.pipes, made.directories)
    assert plan.decode(plan.encode([step])) == (step,)
    names = [type(one).__name__ for one in steps]
    assert names.index("AttachStaged") < names.index("MakeControlDirectory") < names.index("PivotRoot")
    without = plan.PlanTemplate(Spec(Program(("sh",))), host_map()).on(root)
    assert "MakeControlDirectory" not in [type(one).__name__ for one in without]
