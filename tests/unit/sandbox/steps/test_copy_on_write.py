"""The system calls of the step that mounts a copy-on-write volume."""

from __future__ import annotations

import errno
import os

import pytest

from nbcontainer.linux.files import RESOLVE_NO_SYMLINKS
from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NODEV,
    MS_PRIVATE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.steps.copy_on_write import MountCopyOnWrite

HARMLESS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
# What RecordingKernel says of every path.
UPPER, WORK = "../tmp/s.1/diff", "../tmp/s.1/work"
VOLUME = MountCopyOnWrite(0, "/host/data", "/data", ("l2/diff", "l1/diff"), UPPER, WORK, device=2, inode=1)


def test_the_directory_is_read_only_below_the_layers() -> None:
    """The directory is cloned without what is mounted in it, made read-only and private, and is the lowest layer."""
    kernel = RecordingKernel()
    VOLUME.apply(kernel, ())
    assert (
        call("openat2", AT_FDCWD, "/host/data", os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_NO_SYMLINKS) in kernel.calls
    )
    source, tree = [fd for fd, path in kernel.paths.items() if path == "/host/data"]
    assert kernel.only("open_tree", "mount_setattr", "mount", "umount2") == [
        call("open_tree", source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH),
        call("mount_setattr", tree, "", AT_EMPTY_PATH, attr_set=HARMLESS | MOUNT_ATTR_RDONLY, propagation=MS_PRIVATE),
        call(
            "mount",
            "overlay",
            "../stage/changes-0",
            "overlay",
            MS_NODEV,
            "lowerdir=l2/diff:l1/diff:../stage/below-0,userxattr,index=off,metacopy=off,volatile,"
            f"upperdir={UPPER},workdir={WORK}",
        ),
        call("umount2", "stage/below-0", MNT_DETACH),
        call("mount_setattr", AT_FDCWD, "stage/changes-0", 0, attr_set=HARMLESS),
    ]
    assert not kernel.left_open


def test_it_is_moved_to_its_target_when_nothing_else_shows_the_directory() -> None:
    """The last call attaches the overlay to a descriptor of the target; the directory's own mount is gone before."""
    kernel = RecordingKernel()
    VOLUME.apply(kernel, ())
    names = [one.name for one in kernel.calls]
    assert names.index("umount2") < len(names) - 1 - names[::-1].index("move_mount")
    below, moved = kernel.only("move_mount")
    tree = [fd for fd, path in kernel.paths.items() if path == "/host/data"][-1]
    assert below == call("move_mount", tree, "", AT_FDCWD, "stage/below-0", MOVE_MOUNT_F_EMPTY_PATH)
    assert moved.args[:2] == (AT_FDCWD, "stage/changes-0")
    assert moved.args[-1] == MOVE_MOUNT_T_EMPTY_PATH


def test_an_idmapped_mount_travels_and_noexec_is_set() -> None:
    """A descriptor that came with the plan is used and stays open; `noexec` is that of the overlay."""
    kernel = RecordingKernel()
    MountCopyOnWrite(3, "/host/data", "/data", (), UPPER, WORK, tree=1, noexec=True).apply(kernel, (7, 8))
    assert kernel.only("open_tree", "openat2")[:1] != [call("open_tree", 7, "", OPEN_TREE_CLONE)]
    first, last = kernel.only("mount_setattr")
    assert first.args[0] == 8
    assert last == call("mount_setattr", AT_FDCWD, "stage/changes-3", 0, attr_set=HARMLESS | MOUNT_ATTR_NOEXEC)
    assert call("close", 8) not in kernel.calls


def test_the_upper_directory_gets_owner_and_mode_of_the_topmost_below() -> None:
    """So that /data is what the last cell left, or what the host has; an owner without an id is left out."""
    kernel = RecordingKernel().fail(errno.EINVAL, "chown")
    VOLUME.apply(kernel, ())
    assert kernel.only("stat") == [call("stat", "layers/l2/diff")]
    assert kernel.only("chmod") == [call("chmod", "tmp/s.1/diff", 0o755)]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EACCES, errno.ESTALE, errno.EREMCHG])
def test_a_failure_has_advice(code: int) -> None:
    """Each likely error has the next step."""
    assert MountCopyOnWrite.advice[code]
