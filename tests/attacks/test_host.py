"""What a cell sees and reaches of the host beside files: processes, sockets, memory, keys, users, devices."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.engine import Engine
from nbcontainer.errors import SetupFailed
from nbcontainer.linux.libc import syscall
from nbcontainer.linux.process import capability_mask
from nbcontainer.sandbox.spec import ProcLevel
from nbcontainer.sandbox.steps.devices import DEVICES, MountDevDirectory
from nbcontainer.sandbox.steps.namespaces import CloneInit, NewSessionKeyring
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from nbcontainer.sandbox.userns.idmap import MapKind
from tests.attacks.attacker import PYTHON, Attacker, Node
from tests.attacks.inside import attempt, call, init_number
from tests.attacks.ways import ALL, WAYS, Way
from tests.requirements import require, require_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nbcontainer.sandbox.steps.base import Step


def status() -> object:
    """This process's proc_pid_status(5)."""
    with open("/proc/self/status") as lines:
        return dict(line.rstrip("\n").split(":\t", 1) for line in lines if ":\t" in line)


@pytest.mark.parametrize("way", WAYS)
def test_root_in_a_cell_has_eleven_capabilities_and_a_filter(way: Way, attack: Attacker) -> None:
    """Permitted, effective and bounding sets are podman's, none can be inherited (CVE-2022-29162), and none gained."""
    found = attack(status, **way.options())
    chosen = capability_mask(ALL) if way.powerful else 0x800405FB
    assert [int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")] == [chosen] * 3
    assert [int(found[name], 16) for name in ("CapInh", "CapAmb")] == [0, 0]
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


def test_another_user_in_a_cell_has_no_capability(attack: Attacker) -> None:
    """With -u, every set but the bounding one is empty."""
    if attack.engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("this user's containers have root alone")
    found = attack(status, user="1000")
    assert [int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
    assert found["Uid"].split() == ["1000"] * 4


@pytest.mark.parametrize("way", WAYS)
def test_the_notebooks_groups_are_left(way: Way, attack: Attacker) -> None:
    """A cell is in no group of the notebook's user's, where the kernel lets groups be dropped."""
    if attack.engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("the kernel denies setgroups(2) where one id is mapped")
    assert attack(status, **way.options())["Groups"].split() == []


def descriptors() -> object:
    """What is open here: number and what it leads to."""
    found = {}
    for number in range(256):
        with contextlib.suppress(OSError):
            found[str(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("terminal", [False, True], ids=["", "terminal"])
def test_nothing_but_the_streams_is_open(way: Way, terminal: bool, attack: Attacker) -> None:
    """Descriptors 0, 1 and 2 are all that a cell starts with (CVE-2024-21626), and lead to no file of the host's."""
    found = attack(descriptors, terminal=terminal, **way.options())
    assert sorted(found) == ["0", "1", "2"]
    assert {place.partition(":")[0] for place in found.values()} <= {"pipe", "/dev/null", "/dev/pts/0"}


@pytest.mark.parametrize("number", range(12))
def test_a_descriptor_is_no_working_directory(number: int, attack: Attacker) -> None:
    """`-w /proc/self/fd/N` leads to nothing of the launcher's: a cell does not start there (CVE-2024-21626)."""
    with pytest.raises(SetupFailed, match="cannot enter the working directory"):
        attack(os_getcwd, workdir=f"/proc/self/fd/{number}")


def inits_command_line() -> object:
    with open(f"/proc/{init_number()}/cmdline") as file:
        return file.read().rstrip("\0")


@pytest.mark.parametrize("way", WAYS)
def test_inits_arguments_tell_nothing_of_the_host(way: Way, attack: Attacker) -> None:
    """The command line of init, which anybody in the container may read, has no path of the host's in it."""
    assert attack(inits_command_line, **way.options()) == "nbcontainer"


def os_getcwd() -> object:
    return os.getcwd()


def test_an_image_cannot_lead_the_working_directory_out(attack: Attacker) -> None:
    """A link of the image's to a descriptor, or up and up, is no working directory outside the root."""
    image = attack.image_of(
        "workdirs",
        {"fd": Node(link="/proc/self/fd/7"), "up": Node(link="../../../../.."), "self": Node(link="/proc/self")},
    )
    with pytest.raises(SetupFailed, match="cannot enter the working directory"):
        attack(os_getcwd, image=image, workdir="/fd")
    assert attack(os_getcwd, image=image, workdir="/up") == "/"


def visible_processes() -> object:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and os.path.exists(f"/proc/{name}/stat"))


def signal_everything(limit: int) -> object:
    """Kills all there is to kill, by every pid and by all of them: how many calls found a process."""
    found = 0
    for pid in range(3, limit):
        found += pid != os.getpid() and attempt(os.kill, pid, signal.SIGKILL) is None
    for pid in range(2, limit):
        found += attempt(os.killpg, pid, 0) is None and pid != os.getpgrp()
    attempt(os.kill, -1, signal.SIGKILL)
    attempt(os.kill, 1, signal.SIGKILL)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_no_signal_leaves_the_container(way: Way, attack: Attacker) -> None:
    """A cell sees itself and init; SIGKILL to every pid there may be, to all, and to init, reaches nobody else."""
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        seen = attack(visible_processes, **way.options())
        if attack.engine.launcher.proc == ProcLevel.OUTER:  # it may have some that started after the cell
            assert bystander.pid not in seen
        else:
            assert len(seen) == 2
        assert attack(signal_everything, bystander.pid + 200, **way.options()) == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def connect_to(name: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mine:
        return attempt(mine.connect, b"\0" + name.encode())


def test_abstract_sockets_of_the_host_are_out_of_reach(attack: Attacker) -> None:
    """A server that listens on an abstract socket (CVE-2020-15257) is not there; with the host's network it is."""
    name = f"nbcontainer-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(b"\0" + name.encode())
        server.listen()
        assert attack(connect_to, name) == "ECONNREFUSED"
        assert attack(connect_to, name, network="host") is None


def find_shared_memory(key: int) -> object:
    return call("shmget", key, 4096, 0)


def test_shared_memory_of_the_host_is_not_there(attack: Attacker) -> None:
    """A System V segment of the notebook's user's is not found; without an ipc namespace it is."""
    key = 0x6E620000 + os.getpid() % 0x10000
    identifier = syscall("shmget", ctypes.c_int(key), ctypes.c_size_t(4096), ctypes.c_int(0o1666))

    def share(step: Step) -> Step:
        if isinstance(step, CloneInit):
            return dataclasses.replace(step, namespaces=tuple(set(step.namespaces) - {"ipc"}))
        return step

    try:
        assert attack(find_shared_memory, key) == "ENOENT"
        assert attack(find_shared_memory, key, change=share, without=(MountDevDirectory,)) == identifier
    finally:
        syscall("shmctl", ctypes.c_int(identifier), ctypes.c_int(0), None)


def find_key(name: str) -> object:
    return call("keyctl", 10, -3, b"user", name.encode(), 0)


def test_the_keys_of_the_notebooks_session_are_not_the_cells(attack: Attacker, store_path: Path) -> None:
    """A key of the session's is behind a filter, and not in the keyring that a cell has; without both, it is found."""
    name = f"nbcontainer-test-{os.getpid()}"
    try:
        key = syscall("add_key", b"user", name.encode(), b"secret", ctypes.c_size_t(6), ctypes.c_int(-3))
    except OSError as error:
        require("keyrings", available=False, why=f"this machine has no keyrings: {error.strerror}")
    engine = Engine(store_path)  # of its own: a launcher has the session keyring of the moment it is started
    try:
        fresh = Attacker(engine, attack.folder)
        assert fresh(find_key, name) == "EPERM"
        assert fresh(find_key, name, without=(InstallSeccomp,)) == "ENOKEY"
        assert fresh(find_key, name, without=(InstallSeccomp, NewSessionKeyring)) == key
    finally:
        engine.close()
        syscall("keyctl", ctypes.c_int(9), ctypes.c_int(key), ctypes.c_int(-3))


def run_a_setuid_program() -> object:
    """What runs a program of root's that anybody may run as root: the mode of it, and as whom it ran."""
    program = "/usr/bin/setuid-python"
    facts = os.stat(program)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.execv(program, [program, "-I", "-c", "import os; print(*os.getresuid())"])
    os.waitpid(child, 0)
    return [oct(facts.st_mode), facts.st_uid, os.read(reader, 100).decode().split()]


def test_a_setuid_program_gives_nothing(attack: Attacker) -> None:
    """A program of root's with the setuid bit runs as who starts it."""
    if attack.engine.idmap.kind == MapKind.SINGLE:
        pytest.skip("this user's containers have root alone")
    setuid = dataclasses.replace(attack.nodes[PYTHON.lstrip("/")], mode=0o4755)
    image = attack.image_of("setuid", {"usr/bin/setuid-python": setuid})
    assert attack(run_a_setuid_program, image=image, user="1000") == ["0o104755", 0, ["1000"] * 3]


def spoil_devices(names: list[str]) -> object:
    """Closes devices to everybody, and gives them away, by their paths and by standard input."""
    places = [f"/dev/{name}" for name in names]
    return [
        [attempt(os.chmod, place, 0), attempt(os.chown, place, 1, 1), attempt(os.utime, place, (0, 0))]
        for place in (*places, "/proc/self/fd/0")
    ]


def device_facts() -> list[tuple[int, int, int, int]]:
    return [
        (found.st_mode, found.st_uid, found.st_gid, int(found.st_mtime))
        for found in (Path("/dev", name).stat() for name in DEVICES)
    ]


@pytest.fixture
def devices_restored() -> Iterator[None]:
    """Whatever happens, the machine has its devices as before."""
    before = device_facts()
    yield
    if device_facts() != before:
        for name, (mode, uid, gid, mtime) in zip(DEVICES, before, strict=True):
            os.chmod(f"/dev/{name}", mode & 0o7777)
            os.chown(f"/dev/{name}", uid, gid)
            os.utime(f"/dev/{name}", (mtime, mtime))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("devices_restored")
def test_the_hosts_devices_stay_as_they_are(way: Way, attack: Attacker) -> None:
    """Root in a cell cannot change the mode, owner or times of the machine's devices, standard input among them."""
    before = device_facts()
    answer = attack(spoil_devices, list(DEVICES), **way.options())
    assert device_facts() == before, answer


def as_another_user(path: str) -> tuple[bool, bool]:
    """Whether another user of this machine can list a directory, or look below it."""
    listing = f"import os, json; os.setgroups([]); os.setgid(65534); os.setuid(65534)\npath = {path!r}\n"
    listing += "print(json.dumps([os.access(path, os.R_OK), os.access(path + '/layers', os.F_OK)]))"
    said = subprocess.run(["/usr/bin/env", "python3", "-I", "-c", listing], capture_output=True, check=True, cwd="/")
    can_list, can_enter = json.loads(said.stdout)
    return can_list, can_enter


def test_the_store_is_closed_to_other_users(attack: Attacker) -> None:
    """Another user cannot list or enter the store, whose layers have setuid files and more (CVE-2021-41091)."""
    store = attack.engine.store.path
    mode, group = store.stat().st_mode & 0o777, store.stat().st_gid
    # What containers' root has to itself on this host may enter it.
    assert mode == 0o700 or (mode == 0o710 and group == attack.engine.idmap.root_gid != os.getegid())
    require_root()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # unlike pytest's own
        engine = Engine(folder / "store")
        try:
            assert as_another_user(str(engine.store.path)) == (False, False)
        finally:
            engine.close()


def dump_core() -> object:
    child = os.fork()
    if child == 0:
        os.chdir("/tmp")
        os.abort()
    dumped = os.WCOREDUMP(os.waitpid(child, 0)[1])
    return [dumped, os.listdir("/tmp")]


def test_a_crash_leaves_no_core(attack: Attacker) -> None:
    """A process that aborts dumps nothing, in its directory or to the host's crash handler."""
    assert attack(dump_core) == [False, []]
