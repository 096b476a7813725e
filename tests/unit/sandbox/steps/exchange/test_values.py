"""The system calls that make /in and /out, and where they stand in a plan."""

from __future__ import annotations

import os

from nbcontainer.linux.mounts import AT_EMPTY_PATH, AT_FDCWD, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox import plan
from nbcontainer.sandbox.spec import Overlay, Program, Spec, Values
from nbcontainer.sandbox.steps.exchange.values import MountValues
from nbcontainer.sandbox.userns.idmap import host_map

FLAGS = 2 | 4  # MS_NOSUID, MS_NODEV
READ_ONLY = 1 | 2 | 4  # MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV


def test_the_cell_sees_its_input_by_a_read_only_mount_of_its_own() -> None:
    """The notebook writes by the mount on the stage, which goes with the old root."""
    kernel = RecordingKernel()
    MountValues(("a.txt",)).apply(kernel, ())
    made = call("mount", "tmpfs", "stage/in", "tmpfs", FLAGS, "mode=755")
    clone = call("open_tree", AT_FDCWD, "stage/in", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    assert kernel.calls.index(made) < kernel.calls.index(clone)
    names = [one.name for one in kernel.calls]
    assert names.index("mount_setattr") < names.index("move_mount")
    sealed = next(one for one in kernel.calls if one.name == "mount_setattr")
    assert sealed.args[2:] == (AT_EMPTY_PATH, ("attr_set", READ_ONLY))
    assert not kernel.left_open


def test_the_output_has_the_size_of_the_storage_limit() -> None:
    """Every user of the container may write there."""
    for size, options in ((None, "mode=1777"), (4096, "mode=1777,size=4096")):
        kernel = RecordingKernel()
        MountValues((), True, size).apply(kernel, ())
        assert call("mount", "tmpfs", "stage/out", "tmpfs", FLAGS, options) in kernel.calls
        assert not kernel.left_open


def test_the_notebook_gets_new_files_in_order_and_the_output_last() -> None:
    """A file is new, and nobody's link."""
    kernel = RecordingKernel()
    found = MountValues(("b.json", "a.txt"), True).open_values(kernel)
    new = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    assert kernel.calls == [
        call("open", "stage/in/b.json", new, 0o644),
        call("open", "stage/in/a.txt", new, 0o644),
        call("open", "stage/out", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
    ]
    assert len(found) == 3


def test_a_plan_with_values_mounts_them_before_the_root_is_switched_and_another_does_not() -> None:
    """An ordinary cell has no such step."""
    values = Values(("a.txt",), True)
    steps = list(plan.PlanTemplate(Spec(Program(("sh",)), values=values), host_map()).on(Overlay(("layer",))))
    step = MountValues(("a.txt",), True, None)
    assert plan.decode(plan.encode([step])) == (step,)
    names = [type(one).__name__ for one in steps]
    assert names.index("AttachStaged") < names.index("MountValues") < names.index("PivotRoot")
    without = plan.PlanTemplate(Spec(Program(("sh",))), host_map()).on(Overlay(("layer",)))
    assert "MountValues" not in [type(one).__name__ for one in without]
