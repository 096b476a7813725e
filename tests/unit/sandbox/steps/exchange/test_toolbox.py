"""The system calls that mount the toolbox, and its place in a plan."""

from __future__ import annotations

from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.spec import Mounts, Overlay, Program, Spec
from nbcontainer.sandbox.steps.exchange.toolbox import MountToolbox
from nbcontainer.sandbox.userns.idmap import host_map

READ_ONLY = 1 | 2 | 4  # MS_RDONLY, MS_NOSUID, MS_NODEV


def test_the_tools_are_an_overlay_that_nothing_can_write() -> None:
    """Without an upper directory, not even a remount makes it writable. The mount point is in memory."""
    kernel = RecordingKernel()
    MountToolbox(("1/diff", "2/diff")).apply(kernel, ())
    data = "lowerdir=1/diff:2/diff:../below,userxattr,index=off,metacopy=off"
    place = "stage/root/dev/nbcontainer/toolbox"
    assert kernel.calls == [
        call("mkdir", place, 0o755),
        call("chdir", "layers"),
        call("mount", "overlay", f"../{place}", "overlay", READ_ONLY, data),
        call("chdir", ".."),
    ]


def test_only_a_plan_with_tools_mounts_them_after_dev_is_attached() -> None:
    """An ordinary cell has no such step."""
    steps = [
        *plan.PlanTemplate(Spec(Program(("sh",)), mounts=Mounts(tools=("1/diff",))), host_map()).on(Overlay(("l",)))
    ]
    step = MountToolbox(("1/diff",))
    assert plan.decode(plan.encode([step])) == (step,)
    names = [type(one).__name__ for one in steps]
    assert names.index("AttachStaged") < steps.index(step) < names.index("PivotRoot")
    ordinary = plan.PlanTemplate(Spec(Program(("sh",))), host_map()).on(Overlay(("l",)))
    assert not any(isinstance(one, MountToolbox) for one in ordinary)
