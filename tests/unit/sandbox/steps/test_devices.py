"""The system calls of the steps that make /proc, /sys and /dev."""

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
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
)
from nbcontainer.linux.recording import FIRST_DESCRIPTOR, RecordingKernel, call
from nbcontainer.sandbox.steps.devices import (
    DEVICES,
    MASKED,
    BindDevice,
    LinkStreams,
    MaskPaths,
    MountDev,
    MountDevDirectory,
    MountSys,
    ReadOnlyPaths,
    ReserveScript,
    device_steps,
)
from nbcontainer.sandbox.steps.network import AllowPing, RaiseLoopback
from nbcontainer.sandbox.steps.proc import MountProc

NOTHING_GOES = MS_NOSUID | MS_NODEV | MS_NOEXEC
FILE = stat.S_IFREG | 0o444


def test_proc_is_a_new_one() -> None:
    """/proc is mounted, not bound: it shows the pid namespace of whoever mounts it."""
    kernel = RecordingKernel()
    MountProc().apply(kernel, ())
    assert kernel.calls == [call("mount", "proc", "stage/proc", "proc", NOTHING_GOES, None)]


def test_sys_is_a_new_one_and_read_only() -> None:
    """/sys is mounted read-only, of the container's own network namespace."""
    kernel = RecordingKernel()
    MountSys().apply(kernel, ())
    assert kernel.calls == [call("mount", "sysfs", "stage/sys", "sysfs", NOTHING_GOES | MS_RDONLY, None)]


def test_sys_with_the_hosts_network_is_bound_read_only() -> None:
    """A sysfs belongs to a network namespace: with the host's network, the host's is bound, read-only all through."""
    kernel = RecordingKernel()
    MountSys(host_network=True).apply(kernel, ())
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
    assert kernel.calls == [
        call("mount", "/sys", "stage/sys", None, MS_BIND | MS_REC, None),
        call("mount_setattr", AT_FDCWD, "stage/sys", AT_RECURSIVE, attr_set=attributes, propagation=MS_PRIVATE),
    ]


def test_dev_is_empty_but_for_links() -> None:
    """/dev is a tmpfs that every user may look into, with the links that programs expect."""
    kernel = RecordingKernel()
    MountDev().apply(kernel, ())
    assert kernel.calls == [
        call("mount", "tmpfs", "stage/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k"),
        call("symlink", "/proc/self/fd", "stage/dev/fd"),
        call("symlink", "/proc/self/fd/0", "stage/dev/stdin"),
        call("symlink", "/proc/self/fd/1", "stage/dev/stdout"),
        call("symlink", "/proc/self/fd/2", "stage/dev/stderr"),
        call("symlink", "/proc/kcore", "stage/dev/core"),
        call("symlink", "pts/ptmx", "stage/dev/ptmx"),
    ]


def test_the_body_has_a_place() -> None:
    """An empty file that only its owner can write, made where nothing of the image's is."""
    kernel = RecordingKernel()
    ReserveScript().apply(kernel, ())
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    assert kernel.calls == [call("open", "stage/dev/cell", flags, 0o755), call("close", FIRST_DESCRIPTOR)]


@pytest.mark.parametrize(("name", "numbers"), DEVICES.items())
def test_a_device_is_bound_on_a_new_file(name: str, numbers: tuple[int, int]) -> None:
    """The host's device is looked at, without following a link, and bound on a file made for it."""
    kernel = RecordingKernel(devices={f"/dev/{name}": numbers})
    BindDevice(name, *numbers).apply(kernel, ())
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    assert kernel.calls == [
        call("stat", f"/dev/{name}", follow_symlinks=False),
        call("open", f"stage/dev/{name}", flags, 0o666),
        call("close", FIRST_DESCRIPTOR),
        call("mount", f"/dev/{name}", f"stage/dev/{name}", None, MS_BIND, None),
        call("mount_setattr", AT_FDCWD, f"stage/dev/{name}", 0, attr_set=MOUNT_ATTR_RDONLY),
    ]


@pytest.mark.parametrize(
    ("devices", "nodes"),
    [({"/dev/null": (1, 5)}, {}), ({}, {"/dev/null": FILE}), ({}, {"/dev/null": stat.S_IFLNK | 0o777})],
    ids=["another device", "a file", "a link"],
)
def test_a_device_that_is_something_else_is_refused(devices: dict[str, tuple[int, int]], nodes: dict[str, int]) -> None:
    """A /dev/null that is none is not bound, since it would be the mask of /proc/kcore too (CVE-2025-31133)."""
    kernel = RecordingKernel(devices=devices, nodes=nodes)
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)) as raised:
        BindDevice("null", 1, 3).apply(kernel, ())
    assert raised.value.filename == "/dev/null"
    assert kernel.names() == ["stat"]


@pytest.mark.parametrize(
    ("step", "flags"),
    [
        (MountDevDirectory("pts", "devpts", "newinstance"), MS_NOSUID | MS_NOEXEC),
        (MountDevDirectory("shm", "tmpfs", "mode=1777"), NOTHING_GOES),
        (MountDevDirectory("mqueue", "mqueue", ""), NOTHING_GOES),
    ],
    ids=lambda value: value.name if isinstance(value, MountDevDirectory) else "",
)
def test_a_file_system_below_dev(step: MountDevDirectory, flags: int) -> None:
    """Terminals, shared memory and message queues are new ones; only devpts has devices, and none has programs."""
    kernel = RecordingKernel()
    step.apply(kernel, ())
    target = f"stage/dev/{step.name}"
    assert kernel.calls == [
        call("mkdir", target, 0o755),
        call("mount", step.fstype, target, step.fstype, flags, step.options),
    ]


def test_a_masked_file_is_the_null_device() -> None:
    """A file is covered by the staged null device, which was checked, not by one of the image's."""
    kernel = RecordingKernel(nodes={"stage/proc/kcore": FILE})
    MaskPaths(("proc/kcore",)).apply(kernel, ())
    assert kernel.calls == [
        call("stat", "stage/proc/kcore"),
        call("mount", "stage/dev/null", "stage/proc/kcore", None, MS_BIND, None),
    ]


def test_a_masked_directory_is_an_empty_one() -> None:
    """A directory is covered by an empty tmpfs that nobody can write."""
    kernel = RecordingKernel()
    MaskPaths(("proc/acpi",)).apply(kernel, ())
    flags = MS_RDONLY | NOTHING_GOES
    assert kernel.only("mount") == [call("mount", "tmpfs", "stage/proc/acpi", "tmpfs", flags, "size=0k,nr_inodes=1")]


def test_masked_directories_are_one() -> None:
    """The second and every further directory is covered by the same tmpfs, which is cheaper than one more."""
    kernel = RecordingKernel()
    MaskPaths(("proc/acpi", "proc/scsi", "sys/firmware")).apply(kernel, ())
    assert kernel.only("mount")[1:] == [
        call("mount", "stage/proc/acpi", "stage/proc/scsi", None, MS_BIND, None),
        call("mount", "stage/proc/acpi", "stage/sys/firmware", None, MS_BIND, None),
    ]


def test_a_mask_may_be_for_every_processor() -> None:
    """A star in a masked path is the rest of a name: every directory that begins so, and has the rest, is covered."""
    cpus = "stage/sys/devices/system/cpu"
    names = ("cpu0", "cpu1", "cpufreq", "online")
    kernel = RecordingKernel(nodes={f"{cpus}/{name}/x": FILE for name in names}, missing=(f"{cpus}/cpufreq/throttle",))
    MaskPaths(("sys/devices/system/cpu/cpu*/throttle",)).apply(kernel, ())
    assert [made.args[1] for made in kernel.only("mount")] == [f"{cpus}/cpu0/throttle", f"{cpus}/cpu1/throttle"]


def test_read_only_paths_are_bound_on_themselves() -> None:
    """A part of /proc is bound on itself and then made read-only, keeping the flags that are locked."""
    kernel = RecordingKernel()
    ReadOnlyPaths(("proc/sys",)).apply(kernel, ())
    assert kernel.calls == [
        call("mount", "stage/proc/sys", "stage/proc/sys", None, MS_BIND | MS_REC, None),
        call("mount", None, "stage/proc/sys", None, MS_REMOUNT | MS_BIND | MS_RDONLY | NOTHING_GOES, None),
    ]


def test_what_the_kernel_does_not_have_needs_no_cover() -> None:
    """A path that is not there is left out, and the next one is not."""
    masks = RecordingKernel(missing=("stage/proc/acpi",))
    MaskPaths(("proc/acpi", "proc/scsi")).apply(masks, ())
    assert [made.args[1] for made in masks.only("mount")] == ["stage/proc/scsi"]
    covers = RecordingKernel(missing=("stage/proc/bus",))
    ReadOnlyPaths(("proc/bus", "proc/irq")).apply(covers, ())
    assert [made.args[1] for made in covers.only("mount")] == ["stage/proc/bus", "stage/proc/irq", "stage/proc/irq"]


def test_a_mask_that_fails_is_not_left_out() -> None:
    """Only what is missing is skipped: any other error ends the container before it begins."""
    kernel = RecordingKernel().fail(errno.EPERM, "mount")
    with pytest.raises(PermissionError):
        MaskPaths(MASKED).apply(kernel, ())
    kernel = RecordingKernel().fail(errno.EPERM, "mount")
    with pytest.raises(PermissionError):
        ReadOnlyPaths(("proc/sys",)).apply(kernel, ())


def test_the_loopback_interface_is_raised() -> None:
    """`lo` is set up, and nothing else."""
    kernel = RecordingKernel()
    RaiseLoopback().apply(kernel, ())
    assert kernel.calls == [call("raise_interface", "lo")]


def test_covers_come_after_what_they_cover() -> None:
    """The masks are laid when /proc, /sys and the null device are there; the read-only binds come before them.

    A recursive bind of /proc/sys made after a mask would be a second way to what is below it.
    """
    names = [type(step).__name__ for step in device_steps(host_network=False, tty_group=5, shm_size=1 << 20)]
    assert (
        names.index("MountProc") < names.index("BindDevice") < names.index("ReadOnlyPaths") < names.index("MaskPaths")
    )


def test_every_program_finds_its_devices() -> None:
    """Null, zero, full, random, urandom and tty are there with the kernel's numbers, and no other device."""
    found = [
        step
        for step in device_steps(host_network=False, tty_group=None, shm_size=1 << 20)
        if isinstance(step, BindDevice)
    ]
    assert {step.name: (step.major, step.minor) for step in found} == {
        "null": (1, 3),
        "zero": (1, 5),
        "full": (1, 7),
        "random": (1, 8),
        "urandom": (1, 9),
        "tty": (5, 0),
    }


def test_the_streams_of_process_1_are_links_to_the_cells() -> None:
    """/proc/1/fd is a tmpfs of three links to process 2, which is read-only as soon as they are there."""
    kernel = RecordingKernel()
    LinkStreams().apply(kernel, ())
    target = "stage/proc/1/fd"
    assert kernel.calls == [
        call("mount", "tmpfs", target, "tmpfs", NOTHING_GOES, "mode=555,size=4k,nr_inodes=4"),
        *(call("symlink", f"/proc/2/fd/{number}", f"{target}/{number}") for number in (0, 1, 2)),
        call("mount_setattr", AT_FDCWD, target, 0, attr_set=MOUNT_ATTR_RDONLY),
    ]


@pytest.mark.parametrize("failing", [False, True])
def test_ping_is_allowed_to_every_group(failing: bool) -> None:
    """The range is written in the staged /proc; where the kernel refuses that, the container is made all the same."""
    kernel = RecordingKernel()
    if failing:
        kernel.fail(errno.EROFS, "open")
    AllowPing(65535).apply(kernel, ())
    assert [made.args[1] for made in kernel.only("write")] == ([] if failing else [b"0 65535"])
    assert not kernel.left_open
