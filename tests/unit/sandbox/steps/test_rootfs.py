"""The system calls of the steps that make the root and switch to it."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from nbcontainer.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS
from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.linux.recording import FIRST_DESCRIPTOR, Call, RecordingKernel, call
from nbcontainer.sandbox.steps.base import advice_for
from nbcontainer.sandbox.steps.overlay import GiveRoot, MountOverlay, ShowHost, escaped
from nbcontainer.sandbox.steps.rootfs import (
    AttachStaged,
    BindRoot,
    MakeWorkdir,
    MountStage,
    PivotRoot,
    ReadOnlyRoot,
    SlaveMounts,
    StoreAsHost,
    make_target,
    open_in_root,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
CONFINED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
FILE = stat.S_IFREG | 0o644
READ_ONLY = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID


def test_mounts_become_slaves() -> None:
    """One call makes every mount a slave: nothing that is mounted here goes out."""
    kernel = RecordingKernel()
    SlaveMounts().apply(kernel, ())
    assert kernel.calls == [call("mount", None, "/", None, MS_REC | MS_SLAVE, None)]


def test_the_stage_is_a_small_tmpfs() -> None:
    """The stage is mounted nosuid and nodev, with a place for each file system."""
    kernel = RecordingKernel()
    MountStage().apply(kernel, ())
    assert kernel.calls == [
        call("mount", "tmpfs", "stage", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m"),
        *(call("mkdir", f"stage/{name}", 0o755) for name in ("root", "proc", "dev", "sys")),
    ]


def test_the_owner_of_a_root_is_that_of_the_layer_below() -> None:
    """The upper directory gets it, and its mode again: chown(2) clears some bits. Both are the store's directories."""
    kernel = RecordingKernel()
    GiveRoot("a/diff", "../tmp/u/diff").apply(kernel, ())
    assert [made[0] for made in kernel.calls] == ["stat", "chown", "chmod"]
    assert [made[1][0] for made in kernel.calls] == ["layers/a/diff", "tmp/u/diff", "tmp/u/diff"]


@pytest.mark.parametrize("refused", [errno.EINVAL, errno.EPERM], ids=["no id", "no right"])
def test_an_owner_that_the_container_cannot_have_is_left(refused: int) -> None:
    """An id that the namespace lacks, and a launcher without CAP_CHOWN, leave the root directory to root."""
    kernel = RecordingKernel(chown=failing(refused))
    GiveRoot("a/diff", "../tmp/u/diff").apply(kernel, ())
    assert kernel.only("chmod") == []


@pytest.mark.parametrize("refused", [errno.ENOENT, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_an_owner_that_cannot_be_set_for_another_reason_is_an_error(refused: int) -> None:
    """The cell does not run on a root directory whose owner could not be set."""
    with pytest.raises(OSError, match=re.escape(os.strerror(refused))):
        GiveRoot("a/diff", "../tmp/u/diff").apply(RecordingKernel(chown=failing(refused)), ())


def failing(code: int) -> Callable[..., None]:
    """A call that fails with an errno."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_an_overlay_is_one_mount_from_inside_the_layers() -> None:
    """Layers, upper and work go in one option string of relative paths, with the options of user namespaces."""
    kernel = RecordingKernel()
    MountOverlay(("b/diff", "a/diff"), "../tmp/u/diff", "../tmp/u/work").apply(kernel, ())
    options = (
        "lowerdir=b/diff:a/diff,userxattr,index=off,metacopy=off,volatile,upperdir=../tmp/u/diff,workdir=../tmp/u/work"
    )
    assert kernel.calls == [
        call("chdir", "layers"),
        call("mount", "overlay", "../stage/root", "overlay", MS_NODEV, options),
        call("chdir", ".."),
    ]


def test_an_overlay_without_an_upper_is_read_only() -> None:
    """A view of layers has no upper, no work directory, and is mounted read-only."""
    kernel = RecordingKernel()
    MountOverlay(("b/diff", "a/diff")).apply(kernel, ())
    options = "lowerdir=b/diff:a/diff,userxattr,index=off,metacopy=off"
    assert kernel.only("mount") == [call("mount", "overlay", "../stage/root", "overlay", MS_NODEV | MS_RDONLY, options)]


def test_one_layer_alone_is_bound_read_only() -> None:
    """The kernel refuses an overlay of one lower and no upper, so that the layer itself is bound."""
    kernel = RecordingKernel()
    MountOverlay(("a/diff",)).apply(kernel, ())
    assert kernel.calls == [
        call("chdir", "layers"),
        call("mount", "a/diff", "../stage/root", None, MS_BIND, None),
        call("mount_setattr", AT_FDCWD, "../stage/root", 0, attr_set=READ_ONLY),
        call("chdir", ".."),
    ]


def test_many_layers_are_added_one_by_one() -> None:
    """Where the option string would pass a page, which the kernel cuts it at, the layers are configured singly."""
    lowers = tuple(f"{number:06x}.1/diff" for number in range(400))
    kernel = RecordingKernel()
    MountOverlay(lowers, "../tmp/u/diff", "../tmp/u/work").apply(kernel, ())
    context = FIRST_DESCRIPTOR
    assert kernel.only("mount") == []
    assert [made.args[2] for made in kernel.only("fsconfig") if made.args[1] == "lowerdir+"] == list(lowers)
    assert call("fsconfig", context, "upperdir", "../tmp/u/diff") in kernel.calls
    assert call("fsconfig", context, "userxattr", None) in kernel.calls
    assert kernel.names()[-6:] == ["fsconfig_create", "fsmount", "close", "move_mount", "close", "chdir"]
    moved = call("move_mount", context + 1, "", AT_FDCWD, "../stage/root", MOVE_MOUNT_F_EMPTY_PATH)
    assert kernel.only("move_mount") == [moved]
    assert not kernel.left_open


def test_many_layers_are_too_many_before_linux_6_5() -> None:
    """Such a kernel knows no `lowerdir+`: that is not taken for a file system that cannot hold an upper."""

    def unknown(_context: int, key: str, _value: str | None) -> None:
        if key == "lowerdir+":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    lowers = tuple(f"{number:06x}.1/diff" for number in range(400))
    kernel = RecordingKernel(fsconfig=unknown)
    with pytest.raises(OSError, match="too long") as raised:
        MountOverlay(lowers, "../tmp/u/diff", "../tmp/u/work").apply(kernel, ())
    assert raised.value.errno == errno.E2BIG
    assert "as one, or use Linux 6.5" in advice_for(MountOverlay, errno.E2BIG)
    assert not kernel.left_open


def test_a_part_is_moved_to_a_real_directory() -> None:
    """An overlay for a part of the root is mounted beside it, and attached where no link of the image's can lead."""
    kernel = RecordingKernel()
    MountOverlay(("a/diff/usr", "/usr"), "../tmp/u/diff.0", "../tmp/u/work.0", "/usr").apply(kernel, ())
    (mounted,) = kernel.only("mount")
    assert mounted.args[1] == "../stage/part-usr"
    assert mounted.args[4].startswith("lowerdir=a/diff/usr:/usr,userxattr")
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
    root = FIRST_DESCRIPTOR
    assert call("openat2", root, "/usr", flags, resolve=resolve) in kernel.calls
    moved = call("move_mount", AT_FDCWD, "stage/part-usr", root + 1, "", MOVE_MOUNT_T_EMPTY_PATH)
    assert kernel.only("move_mount") == [moved]
    assert not kernel.left_open


def test_the_machine_is_shown_apart_from_the_layers() -> None:
    """A directory that the store lies in becomes a read-only file system of its own, over an empty one."""
    kernel = RecordingKernel()
    ShowHost("../host/0", "host0").apply(kernel, ())
    data = "lowerdir=../host/0:../stage/host0-empty,userxattr,index=off,metacopy=off"
    flags = MS_NODEV | MS_NOSUID | MS_RDONLY
    assert kernel.calls == [
        call("mkdir", "stage/host0-empty", 0o755),
        call("mkdir", "stage/host0", 0o755),
        call("chdir", "layers"),
        call("mount", "overlay", "../stage/host0", "overlay", flags, data),
        call("chdir", ".."),
    ]


@pytest.mark.parametrize(
    ("path", "written"), [("/a:b", r"/a\:b"), ("/a,b", r"/a\,b"), (r"/a\b", r"/a\\b"), ("/plain", "/plain")]
)
def test_separators_in_a_path_are_escaped(path: str, written: str) -> None:
    """What separates options and layers is a part of a host's path where a backslash is before it."""
    assert escaped(path) == written


@pytest.mark.parametrize("count", [2, 60, 200, 400])
def test_no_option_string_reaches_a_page(count: int) -> None:
    """However many layers there are, no mount(2) is given more than the kernel reads."""
    kernel = RecordingKernel()
    MountOverlay(tuple(f"{number:06x}.1/diff" for number in range(count)), "u", "w").apply(kernel, ())
    for made in kernel.only("mount"):
        assert len(made.args[4]) < 4096


def test_a_directory_as_the_root_is_bound() -> None:
    """A work sandbox's root is its directory, writable or not."""
    kernel = RecordingKernel()
    BindRoot("tmp/x/diff").apply(kernel, ())
    assert kernel.calls == [call("mount", "tmp/x/diff", "stage/root", None, MS_BIND, None)]
    BindRoot("tmp/x/diff", read_only=True).apply(kernel, ())
    assert kernel.calls[-1] == call("mount_setattr", AT_FDCWD, "stage/root", 0, attr_set=READ_ONLY)


def test_the_lookup_never_leaves_the_root() -> None:
    """Every path of the container's is resolved in its root, without magic links, and the root's descriptor closed."""
    kernel = RecordingKernel()
    found = open_in_root(kernel, "/a/b", os.O_PATH)
    root = FIRST_DESCRIPTOR
    assert kernel.calls == [
        call("open", "stage/root", DIRECTORY),
        call("openat2", root, "/a/b", os.O_PATH | os.O_CLOEXEC, resolve=CONFINED),
        call("close", root),
    ]
    assert kernel.left_open == {found}


def test_a_disturbed_lookup_is_tried_again() -> None:
    """EAGAIN, which openat2(2) answers while something is being renamed, is not the end of it."""
    kernel = RecordingKernel().fail(errno.EAGAIN, "openat2").fail(errno.EAGAIN, "openat2")
    open_in_root(kernel, "/a", os.O_PATH)
    assert len(kernel.only("openat2")) == 3


def test_a_lookup_that_is_always_disturbed_ends() -> None:
    """Somebody who renames without end gets an error and no endless loop, and no descriptor stays open."""
    kernel = RecordingKernel()
    for _ in range(500):
        kernel.fail(errno.EAGAIN, "openat2")
    with pytest.raises(BlockingIOError):
        open_in_root(kernel, "/a", os.O_PATH)
    assert not kernel.left_open


def test_a_target_that_is_there_is_found_part_by_part() -> None:
    """Nothing is made where everything exists; only the target's own descriptor stays."""
    kernel = RecordingKernel()
    found = make_target(kernel, "/a/b", directory=True)
    assert [made.args[1] for made in kernel.only("openat2")] == ["/a", "/a/b"]
    assert not kernel.only("mkdir")
    assert kernel.paths[found] == "stage/root/a/b"
    assert kernel.left_open == {found}


def test_missing_directories_are_made_by_descriptor() -> None:
    """What is missing of a target is made below the directory that was found, not by a path that a link could bend."""
    kernel = RecordingKernel(missing=("stage/root/a", "stage/root/a/b"))
    found = make_target(kernel, "/a/b", directory=True)
    made = kernel.only("mkdir")
    assert [(each.args[0], each.args[1]) for each in made] == [("a", 0o755), ("b", 0o755)]
    assert [kernel.paths[each.args[2][1]] for each in made] == ["stage/root", "stage/root/a"]
    assert kernel.left_open == {found}


def test_a_missing_file_is_made_without_following() -> None:
    """The mount point of a file is a new, empty file: never one that a link leads to."""
    kernel = RecordingKernel(missing=("stage/root/etc/x",))
    found = make_target(kernel, "/etc/x", directory=False)
    opened = [made for made in kernel.only("open") if made.args[0] == "x"]
    assert len(opened) == 1
    assert opened[0].args[1] == os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    assert kernel.left_open == {found}


@pytest.mark.parametrize(
    ("nodes", "directory", "code"),
    [({"stage/root/x": FILE}, True, errno.ENOTDIR), ({}, False, errno.EISDIR)],
)
def test_a_target_of_the_other_kind_is_refused(nodes: dict[str, int], directory: bool, code: int) -> None:
    """A directory is not mounted on a file, nor a file on a directory; the error names the target."""
    kernel = RecordingKernel(nodes=nodes)
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        make_target(kernel, "/x", directory=directory)
    assert (raised.value.errno, raised.value.filename) == (code, "/x")
    assert not kernel.left_open


def test_a_target_that_cannot_be_made_is_named_whole() -> None:
    """The error of a mkdir by descriptor names the container's path, not its last word."""
    kernel = RecordingKernel(missing=("stage/root/a/b",)).fail(errno.EROFS, "mkdir")
    with pytest.raises(OSError, match="Read-only") as raised:
        make_target(kernel, "/a/b", directory=True)
    assert raised.value.filename == "/a/b"
    assert not kernel.left_open


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_what_was_staged_is_moved_onto_a_real_directory(name: str) -> None:
    """The directory is opened without following any link, and the mount moved onto that very descriptor."""
    kernel = RecordingKernel()
    AttachStaged(name).apply(kernel, ())
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    root, target = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1
    assert kernel.calls == [
        call("open", "stage/root", DIRECTORY),
        call("openat2", root, f"/{name}", flags, resolve=CONFINED | RESOLVE_NO_SYMLINKS),
        call("close", root),
        call("move_mount", AT_FDCWD, f"stage/{name}", target, "", MOVE_MOUNT_T_EMPTY_PATH),
        call("close", target),
    ]


def test_a_missing_place_for_proc_is_made() -> None:
    """An image without /proc gets one."""
    kernel = RecordingKernel(missing=("stage/root/proc",))
    AttachStaged("proc").apply(kernel, ())
    assert kernel.only("mkdir") == [call("mkdir", "stage/root/proc", 0o755)]
    assert len(kernel.only("move_mount")) == 1
    assert not kernel.left_open


def test_a_read_only_root_is_the_mount_alone() -> None:
    """Volumes below the root keep their own flags: the attribute is not set recursively."""
    kernel = RecordingKernel()
    ReadOnlyRoot().apply(kernel, ())
    assert kernel.calls == [call("mount_setattr", AT_FDCWD, "stage/root", 0, attr_set=MOUNT_ATTR_RDONLY)]


def test_the_old_root_is_stacked_and_detached() -> None:
    """pivot_root(2) with twice the same directory, and the old root is gone before the working directory is /."""
    kernel = RecordingKernel()
    PivotRoot().apply(kernel, ())
    assert kernel.calls == [
        Call("chdir", ("stage/root",)),
        Call("pivot_root", (".", ".")),
        Call("umount2", (".", MNT_DETACH)),
        Call("chdir", ("/",)),
    ]


def test_a_working_directory_is_made_inside() -> None:
    """It is looked up as a volume's target is, made where it is missing, and no descriptor of it stays."""
    kernel = RecordingKernel(missing=("stage/root/new",))
    MakeWorkdir("/new/").apply(kernel, ())
    assert [made.args[0] for made in kernel.only("mkdir")] == ["new"]
    assert all((made.args[3][1] & CONFINED) == CONFINED for made in kernel.only("openat2"))
    assert not kernel.left_open


def test_the_store_is_shown_with_the_hosts_ids() -> None:
    """For --userns=host a copy of the directory's mount is idmapped, and laid over the directory."""
    kernel = RecordingKernel()
    StoreAsHost(((1000, 0, 500),), "layers").apply(kernel, ())
    tree, namespace = FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 1
    assert kernel.calls == [
        call("open_tree", AT_FDCWD, "layers", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
        call("user_namespace", ((1000, 0, 500),)),
        call("mount_setattr", tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=namespace),
        call("move_mount", tree, "", AT_FDCWD, "layers", MOVE_MOUNT_F_EMPTY_PATH),
        call("close", namespace),
        call("close", tree),
    ]


def test_layers_are_nodev() -> None:
    """No device file that an image might bring can be opened."""
    kernel = RecordingKernel()
    MountOverlay(tuple(f"{number:06x}.1/diff" for number in range(400)), "u", "w").apply(kernel, ())
    assert kernel.only("fsmount") == [call("fsmount", FIRST_DESCRIPTOR, MOUNT_ATTR_NODEV)]
