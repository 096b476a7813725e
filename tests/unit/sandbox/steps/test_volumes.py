"""The system calls of the steps that mount volumes and tmpfs."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat

import pytest

from nbcontainer.linux.files import RESOLVE_NO_SYMLINKS
from nbcontainer.linux.mounts import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from nbcontainer.linux.recording import RecordingKernel, call
from nbcontainer.sandbox.steps.network import BindResolver, ExtendHosts, MakeHosts, MakeResolver, StageHosts
from nbcontainer.sandbox.steps.volumes import BindVolume, MountTmpfs
from nbcontainer.sandbox.userns.idmapped_mounts import CHANGED, STALE

HARMLESS = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
ONTO = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
WHOLE = AT_EMPTY_PATH | AT_RECURSIVE
# What RecordingKernel says of every path.
VOLUME = BindVolume("/host/data", "/data", directory=True, read_only=False, device=2, inode=1)


def test_a_volume_is_cloned_and_moved_onto_a_descriptor() -> None:
    """The source is opened without links; that descriptor is copied with all mounts below it, made harmless, and moved
    onto the target that was found."""
    kernel = RecordingKernel()
    VOLUME.apply(kernel, ())
    source, tree = [fd for fd, path in kernel.paths.items() if path == "/host/data"]
    target = next(fd for fd, path in kernel.paths.items() if path == "stage/root/data")
    assert kernel.calls[:4] == [
        call("openat2", AT_FDCWD, "/host/data", os.O_PATH | os.O_CLOEXEC, resolve=RESOLVE_NO_SYMLINKS),
        call("fstat", source),
        call("open_tree", source, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | WHOLE),
        call("close", source),
    ]
    assert kernel.only("mount_setattr", "move_mount") == [
        call("mount_setattr", tree, "", WHOLE, attr_set=HARMLESS, propagation=MS_PRIVATE),
        call("move_mount", tree, "", target, "", ONTO),
    ]
    assert not kernel.left_open


def test_a_read_only_volume_is_read_only_all_through() -> None:
    """`:ro` covers the mounts below the source too, and is set before the volume can be seen."""
    kernel = RecordingKernel()
    dataclasses.replace(VOLUME, read_only=True).apply(kernel, ())
    assert [made.args[2:] for made in kernel.only("mount_setattr")] == [
        (WHOLE, ("attr_set", HARMLESS | MOUNT_ATTR_RDONLY), ("propagation", MS_PRIVATE))
    ]
    assert kernel.names().index("mount_setattr") < kernel.names().index("move_mount")


@pytest.mark.parametrize(
    ("mode", "number", "expected"),
    [
        (stat.S_IFCHR, os.makedev(1, 3), MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY),  # null
        (stat.S_IFCHR, os.makedev(1, 1), HARMLESS),  # mem
        (stat.S_IFBLK, os.makedev(1, 3), HARMLESS),
        (stat.S_IFREG, 0, HARMLESS),
    ],
)
def test_a_device_that_each_container_has_works_as_a_volume(mode: int, number: int, expected: int) -> None:
    """/dev/null over a file, as Docker has it; no other device opens, and the host's node cannot be changed."""
    facts = _device(mode, number)
    kernel = RecordingKernel(fstat=lambda _: facts)
    dataclasses.replace(VOLUME, directory=False, tree=0).apply(kernel, (77,))
    assert [made.args[2:] for made in kernel.only("mount_setattr")] == [
        (WHOLE, ("attr_set", expected), ("propagation", MS_PRIVATE))
    ]


def _device(mode: int, number: int) -> os.stat_result:
    facts = os.stat_result((mode | 0o666, 2, 1, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": number})
    assert facts.st_rdev == number
    return facts


def test_later_mounts_of_the_host_come_in_if_they_are_asked_for() -> None:
    """With `rslave`, the mount receives them, and gives none (mount_namespaces(7))."""
    kernel = RecordingKernel()
    dataclasses.replace(VOLUME, slave=True).apply(kernel, ())
    assert [made.args[-1] for made in kernel.only("mount_setattr")] == [("propagation", MS_SLAVE)]


def test_a_volume_that_came_as_a_mount_is_not_looked_up() -> None:
    """Root's volumes come as descriptors of idmapped mounts: their source's path is not used again."""
    kernel = RecordingKernel()
    dataclasses.replace(VOLUME, tree=1).apply(kernel, (77, 88))
    assert not kernel.only("open_tree")
    assert kernel.only("move_mount")[0].args[0] == 88
    assert call("close", 88) not in kernel.calls


@pytest.mark.parametrize(
    "step", [dataclasses.replace(VOLUME, device=3), dataclasses.replace(VOLUME, inode=2)], ids=["device", "inode"]
)
def test_a_source_that_is_not_what_the_notebook_saw_is_stale(step: BindVolume) -> None:
    """Another device or inode at the source's path means that the launcher's mounts are older than the notebook's."""
    kernel = RecordingKernel()
    with pytest.raises(OSError, match=os.strerror(STALE)) as raised:
        step.apply(kernel, ())
    assert (raised.value.errno, raised.value.filename) == (STALE, "/host/data")
    assert not kernel.only("move_mount")
    assert not kernel.left_open


def test_a_source_that_is_not_there_is_stale() -> None:
    """The notebook saw it, and so it is there: in mounts that the launcher does not see."""
    kernel = RecordingKernel(missing=("/host/data",))
    with pytest.raises(OSError, match=os.strerror(STALE)):
        VOLUME.apply(kernel, ())


@pytest.mark.parametrize("code", [errno.ELOOP, errno.ENOTDIR])
def test_a_link_in_the_place_of_a_directory_is_a_change(code: int) -> None:
    """The notebook saw no link: what is there now was put there by a container, and no new launcher helps."""
    kernel = RecordingKernel().fail(code, "openat2")
    with pytest.raises(OSError, match="changed after it was checked") as raised:
        VOLUME.apply(kernel, ())
    assert (raised.value.errno, raised.value.filename) == (CHANGED, "/host/data")
    assert "end that container" in BindVolume.advice[CHANGED]
    assert not kernel.left_open


def test_a_source_that_may_not_be_entered_is_no_stale_one() -> None:
    """EACCES stays what it is, with advice about the path."""
    kernel = RecordingKernel().fail(errno.EACCES, "openat2")
    with pytest.raises(PermissionError):
        VOLUME.apply(kernel, ())
    assert "read by this user" in BindVolume.advice[errno.EACCES]


def test_a_file_lands_on_a_file() -> None:
    """A file's mount point is a file, made where there is none."""
    kernel = RecordingKernel(missing=("stage/root/data",))
    dataclasses.replace(VOLUME, directory=False).apply(kernel, ())
    assert not kernel.only("mkdir")
    assert len(kernel.only("move_mount")) == 1
    assert not kernel.left_open


@pytest.mark.parametrize("step", [VOLUME, MountTmpfs("/data")], ids=["volume", "tmpfs"])
@pytest.mark.parametrize(
    "place",
    [
        "/store/stage/root/proc",
        "/store/stage/root/proc/1/attr",
        "/store/stage/root/dev/shm",
        "/store/stage/root",
        "/etc",
    ],
)
def test_a_link_to_where_the_container_has_its_own_is_refused(step: BindVolume | MountTmpfs, place: str) -> None:
    """Where the target's descriptor really is decides: nothing is mounted on /proc, /sys, /dev or the root itself."""
    kernel = RecordingKernel(leads={"stage/root/data": place})
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)) as raised:
        step.apply(kernel, ())
    assert (raised.value.errno, raised.value.filename) == (errno.ELOOP, "/data")
    assert not kernel.only("move_mount")
    assert "link" in type(step).advice[errno.ELOOP]


@pytest.mark.parametrize("place", ["/store/stage/root/process", "/store/stage/root/data/proc", "/store/stage/root/x"])
def test_a_link_to_elsewhere_in_the_image_is_followed(place: str) -> None:
    """A link in the image that stays among the image's files is no reason to refuse."""
    kernel = RecordingKernel(leads={"stage/root/data": place})
    VOLUME.apply(kernel, ())
    assert len(kernel.only("move_mount")) == 1


@pytest.mark.parametrize(("size", "options"), [(None, "mode=1777"), (4096, "mode=1777,size=4096")])
def test_a_tmpfs_is_mounted_on_the_stage_and_moved(size: int | None, options: str) -> None:
    """Memory is mounted aside, and moved onto the target's descriptor: no path in the image is mounted on."""
    kernel = RecordingKernel()
    MountTmpfs("/scratch", size).apply(kernel, ())
    target = next(fd for fd, path in kernel.paths.items() if path == "stage/root/scratch")
    assert kernel.calls[:2] == [
        call("mkdir", "stage/tmpfs", 0o755),
        call("mount", "tmpfs", "stage/tmpfs", "tmpfs", MS_NOSUID | MS_NODEV, options),
    ]
    assert kernel.only("move_mount") == [
        call("move_mount", AT_FDCWD, "stage/tmpfs", target, "", MOVE_MOUNT_T_EMPTY_PATH)
    ]
    assert not kernel.left_open


def test_a_second_tmpfs_finds_the_place_already_made() -> None:
    """The directory on the stage is made once and used for each."""
    kernel = RecordingKernel().fail(errno.EEXIST, "mkdir")
    MountTmpfs("/scratch").apply(kernel, ())
    assert len(kernel.only("move_mount")) == 1


def test_the_hosts_resolver_is_bound_read_only() -> None:
    """A container in the host's network reads the host's resolv.conf, and cannot write it."""
    kernel = RecordingKernel(nodes={"stage/root/etc/resolv.conf": stat.S_IFREG | 0o644})
    BindResolver().apply(kernel, ())
    tree = next(fd for fd, path in kernel.paths.items() if path == "/etc/resolv.conf")
    assert kernel.only("mount_setattr") == [
        call("mount_setattr", tree, "", AT_EMPTY_PATH, attr_set=HARMLESS | MOUNT_ATTR_RDONLY)
    ]
    assert len(kernel.only("move_mount")) == 1
    assert not kernel.left_open


def test_a_host_without_a_resolver_has_none_to_give() -> None:
    """A host without /etc/resolv.conf is no error."""
    kernel = RecordingKernel(missing=("/etc/resolv.conf",))
    BindResolver().apply(kernel, ())
    assert kernel.names() == ["open_tree"]


def test_a_private_networks_resolver_is_the_containers_own_and_read_only() -> None:
    """It is written on the stage, and mounted over the image's file, which keeps what it says."""
    kernel = RecordingKernel(nodes={"stage/root/etc/resolv.conf": stat.S_IFREG | 0o644})
    MakeResolver("nameserver 10.0.2.3\n").apply(kernel, ())
    (written,) = kernel.only("write")
    assert (kernel.paths[written.args[0]], written.args[1]) == ("stage/resolv.conf", b"nameserver 10.0.2.3\n")
    tree = kernel.only("open_tree")[0]
    assert tree.args[1] == "stage/resolv.conf"
    (attributes,) = kernel.only("mount_setattr")
    assert attributes.args[-1] == ("attr_set", HARMLESS | MOUNT_ATTR_RDONLY)
    assert len(kernel.only("move_mount")) == 1
    assert not kernel.left_open


def test_hosts_are_the_containers_own_and_in_a_lower_above_the_layers() -> None:
    """The file is staged before the root is mounted, and written with the name that the container has."""
    kernel = RecordingKernel(nodes={"layers/a/diff/etc": stat.S_IFDIR | 0o750})
    StageHosts(("a/diff/etc",)).apply(kernel, ())
    assert call("mkdir", "stage/names/etc", 0o755) in kernel.calls
    assert call("chmod", "stage/names/etc", 0o750) in kernel.calls
    MakeHosts((("db", "10.0.0.7"), ("v6", "fd00::7"))).apply(kernel, ())
    assert {kernel.paths[made.args[0]] for made in kernel.only("write")} == {"stage/names/etc/hosts"}
    assert b"".join(made.args[1] for made in kernel.only("write")) == (
        b"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\thost\n10.0.0.7\tdb\nfd00::7\tv6\n"
    )
    assert not kernel.only("move_mount")
    assert not kernel.left_open


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFREG, stat.S_IFCHR])
def test_an_image_whose_etc_is_no_directory_has_no_hosts(kind: int) -> None:
    """A link, a file or a deletion stays what it is; names that were asked for are an error then."""
    kernel = RecordingKernel(nodes={"layers/a/diff/etc": kind | 0o644}, missing=("stage/names/etc/hosts",))
    StageHosts(("a/diff/etc", "b/diff/etc")).apply(kernel, ())
    assert call("mkdir", "stage/names/etc", 0o755) not in kernel.calls
    MakeHosts().apply(kernel, ())
    with pytest.raises(FileNotFoundError):
        MakeHosts((("db", "10.0.0.7"),)).apply(kernel, ())
    assert not kernel.left_open


@pytest.mark.parametrize("there", [True, False])
def test_the_hosts_own_names_come_first_in_its_network(there: bool) -> None:
    """In the host's network the host's own file is the beginning of it, where the host has one."""
    nodes = {"stage/root/etc/hosts": stat.S_IFREG | 0o644}
    kernel = RecordingKernel(nodes=nodes, missing=() if there else ("/etc/hosts",))
    ExtendHosts((("db", "10.0.0.7"),)).apply(kernel, ())
    assert len(kernel.only("sendfile")) == there
    written = b"".join(made.args[1] for made in kernel.only("write"))
    assert written == b"\n" * there + b"127.0.0.1\thost\n10.0.0.7\tdb\n"
    assert not kernel.left_open
