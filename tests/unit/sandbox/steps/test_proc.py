"""The system calls of the steps that mount /proc and cover an outer one."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from nbcontainer.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
)
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.proc import CoverProcesses, MountProc

NOTHING_GOES = MS_NOSUID | MS_NODEV | MS_NOEXEC
EMPTY = "size=0k,nr_inodes=1"


def test_processes_only_is_a_new_proc_with_a_subset() -> None:
    """The kernel leaves out what is not about processes (proc(5), subset=pid)."""
    kernel = RecordingKernel()
    MountProc(ProcLevel.PROCESSES.value).apply(kernel, ())
    assert kernel.calls == [call("mount", "proc", "stage/proc", "proc", NOTHING_GOES, "subset=pid")]


def test_the_mount_of_the_notebook_is_attached() -> None:
    """It is the one descriptor that is sent."""
    kernel = RecordingKernel()
    MountProc(ProcLevel.NOTEBOOK.value).apply(kernel, (7,))
    assert kernel.calls == [call("move_mount", 7, "", AT_FDCWD, "stage/proc", MOVE_MOUNT_F_EMPTY_PATH)]


def test_without_the_mount_of_the_notebook_the_step_fails() -> None:
    """EPERM is what leads to the next level."""
    with pytest.raises(PermissionError) as raised:
        MountProc(ProcLevel.NOTEBOOK.value).apply(RecordingKernel(), ())
    assert raised.value.errno == errno.EPERM


def test_the_outer_proc_is_read_only_with_all_mounts_below() -> None:
    """A mount that is not read-only lets a cell write to a process of its uid outside, oom_score_adj for one."""
    kernel = RecordingKernel()
    MountProc(ProcLevel.OUTER.value).apply(kernel, ())
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    assert kernel.calls == [
        call("mount", "/proc", "stage/proc", None, MS_BIND | MS_REC, None),
        call("mount_setattr", AT_FDCWD, "stage/proc", AT_RECURSIVE, attr_set=attributes, propagation=MS_PRIVATE),
    ]


def _facts(device: int) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | 0o555, 1, device, 1, 0, 0, 0, 0, 0, 0))


def _proc(tasks: dict[str, list[str]], own: str = "20", covered: tuple[str, ...] = ()) -> RecordingKernel:
    """A /proc with these processes and their threads; `covered` have a mount."""

    def listdir(path: str) -> list[str]:
        if path == "/proc":
            return ["cpuinfo", *tasks, "sys"]
        return tasks[path.split("/")[2]]

    return RecordingKernel(
        listdir=listdir,
        readlink=lambda _: own,
        stat=lambda path: _facts(9 if path.rpartition("/")[2] in covered else 5),
    )


def test_each_process_outside_is_covered_with_its_threads() -> None:
    """One empty file system is made, and bound over the rest; init itself stays."""
    kernel = _proc({"1": ["1"], "7": ["7", "8"], "20": ["20"]})
    CoverProcesses("/proc").apply(kernel, ())
    assert [made for made in kernel.calls if made.name == "mount"] == [
        call("mount", "tmpfs", "/proc/1", "tmpfs", NOTHING_GOES | MS_RDONLY, EMPTY),
        call("mount", "/proc/1", "/proc/8", None, MS_BIND, None),
        call("mount", "/proc/1", "/proc/7", None, MS_BIND, None),
    ]


def test_what_is_covered_is_not_covered_again() -> None:
    """The second time, as the cell begins, costs only what has started since."""
    kernel = _proc({"1": ["1"], "7": ["7"], "20": ["20"]}, covered=("1",))
    CoverProcesses("/proc").apply(kernel, ())
    assert [made.args[1] for made in kernel.calls if made.name == "mount"] == ["/proc/7"]


def test_the_end_of_the_first_process_leaves_no_other_uncovered() -> None:
    """If the source of the binds is gone with its process, a new one is made."""
    kernel = _proc({"1": ["1"], "7": ["7"], "8": ["8"], "20": ["20"]})
    kernel.fail(errno.ENOENT, lambda made: made == call("mount", "/proc/1", "/proc/7", None, MS_BIND, None))
    CoverProcesses("/proc").apply(kernel, ())
    mounts = [made.args[:2] for made in kernel.calls if made.name == "mount"]
    assert mounts == [("tmpfs", "/proc/1"), ("/proc/1", "/proc/7"), ("tmpfs", "/proc/7"), ("/proc/7", "/proc/8")]


def test_a_process_that_ends_meanwhile_stops_nothing() -> None:
    """Its directory is gone, and needs no cover."""
    kernel = _proc({"1": ["1"], "7": ["7"], "20": ["20"]})
    kernel.fail(errno.ENOENT, lambda made: made.name == "mount" and made.args[1] == "/proc/1")
    CoverProcesses("/proc").apply(kernel, ())
    assert [made.args[1] for made in kernel.calls if made.name == "mount"][-1] == "/proc/7"


@pytest.mark.parametrize("level", list(ProcLevel)[1:])
def test_an_explanation_has_the_name_of_the_level(level: ProcLevel) -> None:
    """It is the name that doctor and inspect show."""
    assert MountProc.describe({"level": level.value}).endswith(f"({level})")
