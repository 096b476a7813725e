"""The step that shows a container its limits."""

from __future__ import annotations

import errno

import pytest

from nbcontainer.linux.mounts import AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, MS_NODEV, MS_NOEXEC, MS_NOSUID
from nbcontainer.linux.namespaces import CLONE_NEWCGROUP
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.steps.limits_view import PLACE, ShowLimits, own_groups

FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC
V1 = "5:name=systemd:/\n4:pids:/\n3:cpu,cpuacct:/a/nbcontainer-1-2-3\n2:memory:/nbcontainer-1-2-3\n0::/\n"
READ_ONLY = call("mount_setattr", AT_FDCWD, PLACE, AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (V1, ["cpu,cpuacct", "memory"]),
        ("0::/../../nbcontainer-1-2-3\n", [""]),
        ("0::/\n", []),
        ("1:memory:/nbcontainer-1-2-3/below\n", []),
        ("", []),
        ("garbage\n", []),
    ],
)
def test_only_own_groups_are_found(text: str, found: list[str]) -> None:
    """A hierarchy in which the container has no group of its own is left out: its root could be the host's."""
    assert own_groups(text, "nbcontainer-") == found


def applied(text: str) -> RecordingKernel:
    """Return the kernel that the step was applied to, in a process with this /proc/self/cgroup."""
    kernel = RecordingKernel(read_text=lambda path: text)
    ShowLimits("nbcontainer-").apply(kernel, ())
    return kernel


def test_version_2_is_one_mount() -> None:
    """A cgroup2 in a new cgroup namespace, read-only."""
    assert applied("0::/nbcontainer-1-2-3\n").calls[1:] == [
        call("unshare", CLONE_NEWCGROUP),
        call("mount", "cgroup2", PLACE, "cgroup2", FLAGS, None),
        READ_ONLY,
    ]


def test_version_1_is_a_mount_for_each_hierarchy() -> None:
    """Each is named by its controllers; all are read-only with the tmpfs that holds them."""
    kernel = applied(V1)
    assert [made.args[1] for made in kernel.only("mount")] == [PLACE, f"{PLACE}/cpu,cpuacct", f"{PLACE}/memory"]
    assert [made.args for made in kernel.only("symlink")] == [
        ("cpu,cpuacct", f"{PLACE}/cpu"),
        ("cpu,cpuacct", f"{PLACE}/cpuacct"),
    ]
    assert kernel.calls[-1] == READ_ONLY


def test_without_an_own_group_nothing_is_mounted() -> None:
    """The host's groups are never shown."""
    assert [made.name for made in applied("4:memory:/\n0::/\n").calls] == ["read_text", "unshare"]


def test_a_refused_mount_ends_no_cell() -> None:
    """In an outer container that refuses the mount, the limits hold all the same."""
    kernel = RecordingKernel(read_text=lambda path: V1).fail(errno.EPERM, "mount")
    ShowLimits("nbcontainer-").apply(kernel, ())
    assert not kernel.only("mount_setattr")
