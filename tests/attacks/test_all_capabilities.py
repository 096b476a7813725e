"""`--cap-add ALL`: root over all that is the container's own takes its mounts apart, and gets no nearer to the host."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.commands.options.volumes import parse_volume
from nbcontainer.errors import SandboxError
from nbcontainer.linux import mounts
from nbcontainer.linux.libc import int_, libc
from nbcontainer.sandbox.cgroups.group import GroupLimits
from nbcontainer.sandbox.steps.namespaces import CloneInit
from tests import running
from tests.attacks.inside import attempt, call
from tests.attacks.ways import ALL
from tests.requirements import require_linux, require_private_network, require_root

if TYPE_CHECKING:
    from pathlib import Path

    from nbcontainer.sandbox.steps.base import Step
    from tests.attacks.attacker import Attacker

pytestmark = pytest.mark.slow

NAMESPACED = (
    *("net/", "user/", "fs/mqueue/", "kernel/msg", "kernel/auto_msgmni", "kernel/sem", "kernel/shm"),
    *("kernel/ns_last_pid", "kernel/pid_max"),
)
"""Settings of a network, ipc, user or pid namespace's own, below /proc/sys (namespaces(7), Linux 6.14 for pid_max)."""


def settings_of_a_new_proc() -> object:
    """Mounts a /proc without masks, writable: the files in its sys and around that open for writing, and how many."""
    os.makedirs("/mnt/proc")
    mounted = call("mount", b"none", b"/mnt/proc", b"proc", 0, None)
    opened, count = [], 0
    places = [*os.walk("/mnt/proc/sys"), *os.walk("/mnt/proc/irq"), ("/mnt/proc", [], ["sysrq-trigger", "mtrr"])]
    for folder, _, names in places:
        for name in names:
            count += 1
            fd = attempt(os.open, f"{folder}/{name}", os.O_WRONLY)
            if isinstance(fd, int):
                os.close(fd)
                opened.append(f"{folder}/{name}"[len("/mnt/proc/") :])
    return [mounted, opened, count]


def test_only_settings_of_its_own_namespaces_are_open(attack: Attacker) -> None:
    """On a /proc of its own, too, the machine's settings, SysRq and interrupts are closed to every capability."""
    mounted, opened, count = attack(settings_of_a_new_proc, capabilities=ALL)
    assert (mounted, count > 200) == (0, True)
    assert opened
    assert [path for path in opened if not path.removeprefix("sys/").startswith(NAMESPACED)] == []


def read_uncovered(paths: list[str]) -> object:
    """What reading these files says on a /proc without masks."""
    os.makedirs("/mnt/proc")
    call("mount", b"none", b"/mnt/proc", b"proc", 0, None)
    found = {}
    for path in paths:
        fd = attempt(os.open, f"/mnt/proc/{path}", os.O_RDONLY | os.O_NONBLOCK)
        read = fd if isinstance(fd, str) else attempt(os.read, fd, 64)
        found[path] = read if isinstance(read, str) else "read"
    return found


def test_memory_and_timers_stay_closed_without_masks(attack: Attacker) -> None:
    """Without the masks the kernel itself refuses its memory, log, timers and allocations, and init's everything."""
    paths = ["kcore", "kmsg", "timer_list", "slabinfo", "vmallocinfo", "pagetypeinfo"]
    paths += [f"1/{name}" for name in ("exe", "mem", "environ", "maps", "root/etc/passwd", "cwd/store")]
    found = attack(read_uncovered, paths, capabilities=ALL)
    assert set(found.values()) <= {"EACCES", "EPERM", "ENOENT"}, found


def mount_each(kinds: list[str]) -> object:
    found = {}
    for kind in kinds:
        os.makedirs(f"/mnt/{kind}")
        found[kind] = call("mount", b"/dev/vda", f"/mnt/{kind}".encode(), kind.encode(), 0, None)
    return found


def test_no_file_system_of_the_machines_is_mounted(attack: Attacker) -> None:
    """Neither its disks, by each kind of file system, nor its devices, nor what the kernel shows to administrators."""
    disks = ["ext4", "xfs", "btrfs", "vfat", "squashfs", "iso9660", "erofs", "f2fs"]
    shown = ["devtmpfs", "debugfs", "tracefs", "securityfs", "configfs", "efivarfs", "pstore", "hugetlbfs", "bpf"]
    found = attack(mount_each, [*disks, *shown, "sysfs"], capabilities=ALL)
    assert set(found.values()) <= {"EPERM", "ENODEV", "EINVAL"}, found
    assert attack(mount_each, ["tmpfs"], capabilities=ALL) == {"tmpfs": 0}


def handle_of(path: Path) -> bytes:
    """The handle of a file of the host's, by which it can be opened without a path: name_to_handle_at(2)."""
    buffer = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
    mount = int_()
    found = libc.name_to_handle_at(int_(-100), os.fsencode(path), buffer, ctypes.byref(mount), int_(0))
    if found:
        pytest.skip("this file system has no handles")
    return buffer.raw


def open_handles(handles: list[str]) -> object:
    """What opening each handle (in hexadecimal), by way of the volume, gives."""
    volume = os.open("/data", os.O_RDONLY)
    found = []
    for handle in handles:
        opened = call("open_by_handle_at", volume, bytes.fromhex(handle), os.O_RDONLY)
        found.append(opened if isinstance(opened, str) else os.readlink(f"/proc/self/fd/{opened}"))
    return found


def test_no_file_beside_a_volume_is_opened_by_its_handle(attack: Attacker, tmp_path: Path) -> None:
    """Who knows the handle of a file on the volume's disk gets at it with no capability of a container's (the attack
    named Shocker): Linux 6.11 lets in, but to the volume's own files alone."""
    inside, secret = tmp_path / "volume", tmp_path / "secret"
    inside.mkdir()
    (inside / "file").write_text("the container's")
    secret.write_text("the host's")
    handles = [handle_of(path).hex() for path in (secret, tmp_path, inside / "file")]
    volumes = (parse_volume(f"{inside}:/data"),)
    outside = {"EPERM", "ESTALE", "EACCES", "EOPNOTSUPP"}
    refused = attack(open_handles, handles, volumes=volumes)
    assert set(refused) == {"EPERM"}
    found = attack(open_handles, handles, volumes=volumes, capabilities=ALL)
    assert set(found[:2]) <= outside, found
    assert found[2] in {*outside, "/data/file"}, found


def lift_limits() -> object:
    """Mounts the control groups, writable, and tries to lift the limits of this group and to leave it."""
    tried = {}
    for kind, options in (("cgroup", b"memory"), ("cgroup2", None)):
        folder = f"/mnt/{kind}"
        os.makedirs(folder)
        if call("mount", b"none", folder.encode(), kind.encode(), 0, options) != 0:
            continue
        for name in ("memory.limit_in_bytes", "memory.max", "memory.high", "cgroup.procs", "../cgroup.procs", "new"):
            if name == "new":
                tried[f"{kind}/{name}"] = attempt(os.mkdir, f"{folder}/{name}")
            elif os.path.exists(f"{folder}/{name}"):
                fd = attempt(os.open, f"{folder}/{name}", os.O_WRONLY)
                written = fd if isinstance(fd, str) else attempt(os.write, fd, b"-1" if "limit" in name else b"max")
                tried[f"{kind}/{name}"] = written
    return tried


def test_limits_of_roots_are_not_lifted(attack: Attacker) -> None:
    """A group's files belong to the machine's root, who is nobody in the container, on whichever mount."""
    if os.geteuid() != 0:
        pytest.skip("a plain user's groups are that user's: SECURITY.md says so")
    found = attack(lift_limits, capabilities=ALL, cgroup_limits=GroupLimits(memory=1 << 28))
    assert found
    assert set(found.values()) <= {"EACCES", "EPERM", "EROFS", "EINVAL"}, found


def take_mounts_apart() -> object:
    """What comes of making a read-only volume writable, and the root."""
    bind_writable = 0x1020  # MS_REMOUNT | MS_BIND
    found = [call("mount", None, path, None, bind_writable, None) for path in (b"/data", b"/")]
    return [*found, attempt(os.open, "/data/made", os.O_WRONLY | os.O_CREAT), attempt(os.mkdir, "/made")]


def test_what_rests_on_mounts_needs_the_default_capabilities(attack: Attacker, tmp_path: Path) -> None:
    """A read-only volume and a read-only root are so for who has no SYS_ADMIN; with it, they are not, as SECURITY.md
    says."""
    volumes = (parse_volume(f"{tmp_path}:/data:ro"),)
    assert attack(take_mounts_apart, volumes=volumes, read_only=True) == ["EPERM", "EPERM", "EROFS", "EROFS"]
    but_one = tuple(name for name in ALL if name != "SYS_ADMIN")
    found = attack(take_mounts_apart, volumes=volumes, read_only=True, capabilities=but_one)
    assert found == ["EPERM", "EPERM", "EROFS", "EROFS"]
    assert list(tmp_path.iterdir()) == []
    *remounted, _, made = attack(take_mounts_apart, volumes=volumes, read_only=True, capabilities=ALL)
    assert (remounted, made) == ([0, 0], None)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def mount_in_a_volume() -> object:
    """What comes of a mount in a volume, and of a file in that mount."""
    mounted = call("mount", b"none", b"/data/sub", b"tmpfs", 0, None)
    return [mounted, attempt(os.mkdir, "/data/sub/made")]


def test_a_mount_in_a_volume_stays_in_the_container(attack: Attacker, tmp_path: Path) -> None:
    """Mounts of systemd's are shared: a copy of one for a container is no peer, so no mount goes out by it."""
    require_root()
    (tmp_path / "shared").mkdir()
    shared = str(tmp_path / "shared")
    mounts.mount("none", shared, "tmpfs", 0, None)
    try:
        mounts.mount(None, shared, None, 1 << 20, None)  # MS_SHARED
        os.mkdir(f"{shared}/sub")
        assert attack(mount_in_a_volume, volumes=(parse_volume(f"{shared}:/data"),), capabilities=ALL) == [0, None]
        assert [line for line in running.mounts() if f"{shared}/sub" in line] == []
        assert os.listdir(f"{shared}/sub") == []
    finally:
        mounts.umount2(shared, mounts.MNT_DETACH)


def run_for_every_program() -> object:
    """Has the kernel run a file of the container's for each program (binfmt_misc), and waits for the end of input.

    The file is busybox with another byte in its header, so that the rule is not for itself; by its name it is echo.
    """
    with open("/bin/busybox", "rb") as program:
        content = bytearray(program.read())
    content[9] = 1
    with open("/tmp/echo", "wb") as file:
        file.write(content)
    os.chmod("/tmp/echo", 0o755)
    os.makedirs("/mnt/rules")
    done = call("mount", b"none", b"/mnt/rules", b"binfmt_misc", 0, None)
    if done == 0:
        begin = "\\x7fELF\\x02\\x01\\x01" + "\\x00" * 9
        mask = "\\xff" * 7 + "\\x00" + "\\xff" * 8
        with open("/mnt/rules/register", "wb", buffering=0) as register:
            done = attempt(register.write, f":x:M::{begin}:{mask}:/tmp/echo:F".encode())
    os.write(1, b"ready\n")
    os.read(0, 1)
    return done


def in_the_launchers(step: Step) -> Step:
    """Return the step, or one that leaves init in the user namespace of the launcher and of the other containers."""
    return CloneInit() if isinstance(step, CloneInit) else step


@pytest.mark.parametrize("network", ["none", "private"])
def test_a_rule_for_programs_is_for_the_container_alone(network: str, attack: Attacker) -> None:
    """With SYS_ADMIN a cell may say what runs in the place of every program of its user namespace (Linux 6.7). To that,
    no other container belongs, nor the program that the launcher runs on the host for a private network."""
    require_linux(6, 7, "binfmt_misc in user namespaces")
    if network == "private":
        require_private_network()
    with attack.meanwhile(run_for_every_program, capabilities=ALL) as answers:
        assert running.run_script(attack.engine, "echo mine", network=network).text == "mine"
    assert isinstance(answers[0], int) or answers == ["ENODEV"]


@pytest.mark.parametrize("network", ["none", "private"])
def test_in_the_launchers_namespace_a_rule_is_for_all(network: str, attack: Attacker) -> None:
    """There the file takes the place of another container's shell, and of the program for a private network."""
    require_linux(6, 7, "binfmt_misc in user namespaces")
    if network == "private":
        require_private_network()
    with attack.meanwhile(run_for_every_program, capabilities=ALL, change=in_the_launchers) as answers:
        if network == "private":
            with pytest.raises(SandboxError, match="network"):
                running.run_script(attack.engine, "echo mine", network=network)
        else:
            assert running.run_script(attack.engine, "echo mine").text.startswith("/bin/sh ")
    assert isinstance(answers[0], int)


def listen() -> object:
    """Has a file open and listens at a socket of the common volume, until the end of input."""
    secret = os.open("/tmp/secret", os.O_RDWR | os.O_CREAT)
    os.write(secret, b"secret")
    server = socket.socket(socket.AF_UNIX)
    server.bind("/shared/socket")
    server.listen()
    os.write(1, f"ready {secret}\n".encode())
    os.read(0, 1)
    return "not ended"


def take_by_a_socket() -> object:
    """What comes of each way into the process that listens at the socket, by a descriptor of it (Linux 6.5)."""
    client = socket.socket(socket.AF_UNIX)
    client.connect("/shared/socket")
    (process,) = struct.unpack("i", client.getsockopt(socket.SOL_SOCKET, 77, 4))  # SO_PEERPIDFD
    found: dict[str, Any] = {}
    for number in range(3, 64):
        taken = call("pidfd_getfd", process, number, 0)
        content = attempt(os.pread, taken, 6, 0) if isinstance(taken, int) else taken
        found["files"] = "taken" if content == b"secret" else found.get("files", taken)
    found["mounts"] = call("setns", process, 0x00020000)
    found["root"] = os.path.exists("/tmp/secret")
    return found


@pytest.mark.parametrize("where", ["its own", "the launcher's"])
def test_a_common_socket_opens_no_other_container(where: str, attack: Attacker, tmp_path: Path) -> None:
    """A socket gives a descriptor of the process at its other end. With SYS_PTRACE a cell has the files of a process of
    its user namespace by it, and with SYS_ADMIN its mounts: it has one of its own, or it would succeed."""
    require_linux(6, 5, "descriptors of a socket's peer")
    tmp_path.chmod(0o777)
    volumes = (parse_volume(f"{tmp_path}:/shared"),)
    change = in_the_launchers if where == "the launcher's" else lambda step: step
    with attack.meanwhile(listen, volumes=volumes) as victim:
        found = attack(take_by_a_socket, volumes=volumes, capabilities=ALL, change=change, remove=True)
    assert victim == ["not ended"]
    if where == "its own":
        assert found == {"files": "EPERM", "mounts": "EPERM", "root": False}
    else:
        assert found == {"files": "taken", "mounts": 0, "root": True}


def go_down() -> object:
    """Goes into a user namespace below with all else new, names the host, and makes a device."""
    made = call("unshare", 0x10000000 | 0x00020000 | 0x40000000 | 0x04000000 | 0x08000000)
    return [made, attempt(socket.sethostname, "taken"), attempt(os.mknod, "/tmp/d", 0o20666, os.makedev(1, 1))]


def test_namespaces_below_lead_nowhere(attack: Attacker) -> None:
    """With namespaces of its own below, a cell names a host of its own, and makes no device of the machine's."""
    before = socket.gethostname()
    assert attack(go_down, capabilities=ALL) == [0, None, "EPERM"]
    assert socket.gethostname() == before
