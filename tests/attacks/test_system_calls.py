"""System calls that reach the kernel or the host: each is refused, and works without the steps that are against it."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.outcome import Reason
from nbcontainer.sandbox.steps.rights.capabilities import DropBounding, DropCapabilities
from nbcontainer.sandbox.steps.rights.seccomp import InstallSeccomp
from tests.attacks.attacker import attack_script
from tests.attacks.inside import NUMBERS, attempt, call
from tests.attacks.ways import WAYS, Way
from tests.requirements import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbcontainer.sandbox.steps.base import Step
    from tests.attacks.attacker import Attacker

FILTER = (InstallSeccomp,)
POWER = (InstallSeccomp, DropCapabilities, DropBounding)
CAPABILITIES = (DropCapabilities, DropBounding)


# What runs in the cell.


def just(name: str, *arguments: Any) -> object:
    """One call, its texts as bytes."""
    return call(name, *(word.encode() if isinstance(word, str) else word for word in arguments))


def with_buffer(name: str, content: str, *places: Any) -> object:
    """One call with the buffer (in hexadecimal) where a place is "buffer"."""
    buffer = ctypes.create_string_buffer(bytes.fromhex(content))
    return call(name, *(buffer if place == "buffer" else place for place in places))


def fork_into(flags: int) -> object:
    pid = call("clone", flags | signal.SIGCHLD, None, None, None, None)
    if pid == 0:
        os._exit(0)
    return pid if isinstance(pid, str) else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork3_into(flags: int) -> object:
    arguments = ctypes.create_string_buffer(struct.pack("8Q", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64)
    pid = call("clone3", arguments, 64)
    if pid == 0:
        os._exit(0)
    return pid if isinstance(pid, str) else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def enter(name: str) -> object:
    return call("setns", os.open(f"/proc/self/ns/{name}", os.O_RDONLY), 0)


def open_socket(family: int, kind: int, protocol: int) -> object:
    opened = attempt(socket.socket, family, kind, protocol)
    return opened if isinstance(opened, str) else opened.fileno()


def open_by_handle() -> object:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    mount = ctypes.create_string_buffer(4)
    call("name_to_handle_at", -100, b"/", handle, mount, 0)
    return call("open_by_handle_at", os.open("/", os.O_RDONLY), handle, 0)


def make_device(kind: int, major: int, minor: int) -> object:
    return attempt(os.mknod, "/tmp/device", kind | 0o666, os.makedev(major, minor))


def take_descriptor_of_init() -> object:
    return call("pidfd_getfd", os.pidfd_open(1), 0, 0)


NEW_NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}


@dataclass(frozen=True)
class Case:
    """An attack: what it is, what it gets, and the steps without which it would be let through (none: never).

    `with_all` is what it may get where root has every capability, if that is another answer.
    """

    name: str
    attack: Callable[..., object]
    arguments: tuple[Any, ...]
    answer: str = "EPERM"
    let_in_without: tuple[type[Step], ...] = ()
    with_all: tuple[str, ...] = ()

    def answers(self, way: Way) -> tuple[str, ...]:
        """What it may get, in one way to run a cell."""
        return self.with_all if way.powerful and self.with_all else (self.answer,)


PERF = struct.pack("IIQQQQQ", 1, 64, 0, 0, 0, 0, 1 << 5 | 1 << 6).ljust(64, b"\0").hex()
IOVEC = struct.pack("QQ", 0x1000, 8).hex()
BPF_ARRAY = struct.pack("IIII", 2, 4, 4, 1).ljust(72, b"\0").hex()

LET_IN = "let in"
OWN = (LET_IN,)
"""With every capability: what is reached then is the container's own; test_all_capabilities.py goes on from there."""

CASES = [
    *(Case(f"unshare-{name}", just, ("unshare", flag), "EPERM", POWER, OWN) for name, flag in NEW_NAMESPACES.items()),
    *(Case(f"clone-{name}", fork_into, (flag,), "EPERM", POWER, OWN) for name, flag in NEW_NAMESPACES.items()),
    Case("unshare-user-unprivileged", just, ("unshare", NEW_NAMESPACES["user"]), "EPERM", FILTER, with_all=OWN),
    Case("clone-user-unprivileged", fork_into, (NEW_NAMESPACES["user"],), "EPERM", FILTER, with_all=OWN),
    Case("clone3-user", fork3_into, (NEW_NAMESPACES["user"],), "ENOSYS", FILTER, with_all=OWN),
    Case("setns", enter, ("uts",), "EPERM", POWER, with_all=OWN),
    Case("mount", just, ("mount", "none", "/mnt", "tmpfs", 0, None), "EPERM", POWER, with_all=OWN),
    Case("mount-proc", just, ("mount", "none", "/mnt", "proc", 0, None), "EPERM", POWER, with_all=OWN),
    Case("remount-proc-sys", just, ("mount", None, "/proc/sys", None, 32 | 4096, None), "EPERM", POWER, with_all=OWN),
    Case("uncover-a-mask", just, ("umount2", "/proc/timer_list", 2), "EPERM", POWER, with_all=OWN),
    Case("fsopen", just, ("fsopen", "tmpfs", 0), "EPERM", POWER, with_all=OWN),
    Case("open_tree", just, ("open_tree", -100, "/", 1), "EPERM", POWER, with_all=OWN),
    Case("move_mount", just, ("move_mount", -100, "/proc", -100, "/mnt", 0), "EPERM", POWER, with_all=OWN),
    Case("mount_setattr", with_buffer, ("mount_setattr", "00" * 32, -100, b"/proc/sys", 0, "buffer", 32), with_all=OWN),
    Case("pivot_root", just, ("pivot_root", "/", "/mnt")),
    Case("keyctl", just, ("keyctl", 0, -3, 0), "EPERM", FILTER),
    Case("add_key", just, ("add_key", "user", "planted", "x", 1, -3), "EPERM", FILTER),
    Case("request_key", just, ("request_key", "user", "absent", None, 0)),
    Case("bpf", with_buffer, ("bpf", BPF_ARRAY, 0, "buffer", 72)),
    Case("io_uring", with_buffer, ("io_uring_setup", "00" * 120, 1, "buffer"), "EPERM", FILTER),
    Case("userfaultfd", just, ("userfaultfd", 1), "EPERM", FILTER),
    Case("perf_event_open", with_buffer, ("perf_event_open", PERF, "buffer", 0, -1, -1, 0), "EPERM", FILTER, OWN),
    Case("raw-socket", open_socket, (2, 3, 1), "EPERM", CAPABILITIES, with_all=OWN),
    Case("packet-socket", open_socket, (17, 3, 0), "EPERM", CAPABILITIES, with_all=OWN),
    Case("vsock", open_socket, (40, 1, 0), "EAFNOSUPPORT", FILTER),
    Case("alg-socket", open_socket, (38, 5, 0), "EAFNOSUPPORT"),
    Case("device-mem", make_device, (stat.S_IFCHR, 1, 1)),
    Case("device-disk", make_device, (stat.S_IFBLK, 8, 0)),
    Case("open_by_handle_at", open_by_handle, ()),
    Case("sethostname", just, ("sethostname", "taken", 5), "EPERM", POWER, with_all=OWN),
    Case("setdomainname", just, ("setdomainname", "taken", 5), "EPERM", POWER, with_all=OWN),
    Case("clock_settime", with_buffer, ("clock_settime", "00" * 16, 0, "buffer")),
    Case("reboot", just, ("reboot", 0xFEE1DEAD, 672274793, 0, None), with_all=("EINVAL",)),
    Case("kexec_load", just, ("kexec_load", 0, 0, None, 0)),
    Case("init_module", just, ("init_module", "", 0, ""), with_all=("EPERM", "ENOSYS")),
    Case("finit_module", just, ("finit_module", 0, "", 0), with_all=("EPERM", "ENOSYS")),
    Case("swapoff", just, ("swapoff", "/none")),
    Case("acct", just, ("acct", None)),
    Case("quotactl", just, ("quotactl", 0x800001, None, 0, None), with_all=("EPERM", "ENODEV", "ENOSYS")),
    Case("syslog", just, ("syslog", 10, None, 0)),
    Case("personality", just, ("personality", 0x0040000), "EPERM", FILTER),
    Case("ptrace-init", just, ("ptrace", 16, 1, 0, 0)),
    Case("seize-init", just, ("ptrace", 0x4206, 1, 0, 0)),
    Case("read-init", with_buffer, ("process_vm_readv", IOVEC, 1, "buffer", 1, "buffer", 1, 0)),
    Case("write-init", with_buffer, ("process_vm_writev", IOVEC, 1, "buffer", 1, "buffer", 1, 0)),
    Case("descriptor-of-init", take_descriptor_of_init, ()),
    Case("kcmp", just, ("kcmp", 1, 1, 0, 0, 0)),
]
BY_NAME = [pytest.param(case, id=case.name) for case in CASES]
GETS_IN = [pytest.param(case, id=case.name) for case in CASES if case.let_in_without]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", BY_NAME)
def test_a_call_that_reaches_out_is_refused(case: Case, way: Way, attack: Attacker) -> None:
    """Root in a cell gets the error of the list, in a default cell and under each relaxation; who has every capability
    is let in where nothing but the container's own is reached."""
    answer = attack(case.attack, *case.arguments, **way.options())
    assert (answer if isinstance(answer, str) else LET_IN) in case.answers(way)


@pytest.mark.parametrize("case", GETS_IN)
def test_it_is_the_steps_that_refuse(case: Case, attack: Attacker) -> None:
    """The same call, in the same cell without the steps against it, gets through."""
    if case.name == "vsock":
        require("vsock", available=has_family(40), why="this kernel has no AF_VSOCK")
    answer = attack(case.attack, *case.arguments, without=case.let_in_without)
    assert isinstance(answer, int)
    assert answer >= 0


def has_family(family: int) -> bool:
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


# What takes more than a call.


def number_by_int80(number: int) -> object:
    """Calls by the 32-bit entry: mov eax, NUMBER; int 0x80; ret."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8" + struct.pack("<I", number) + b"\xcd\x80\xc3")
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


def require_x86_64() -> None:
    require("x86_64", available=platform.machine() == "x86_64", why="is about x86_64")


def test_the_32_bit_entry_ends_the_process(attack: Attacker) -> None:
    """A call by int 0x80, whose numbers the filter does not know, ends the process; without the filter it is made."""
    require_x86_64()
    getpid = 20
    if not isinstance(attack(number_by_int80, getpid, without=FILTER), int):
        require("ia32", available=False, why="this kernel has no 32-bit entry")
    ended = attack.run(attack_script(number_by_int80, (getpid,))).outcome
    assert (ended.reason, ended.signal) == (Reason.SIGNAL, signal.SIGSYS)


def change_a_call_after_the_filter() -> object:
    """A tracer has its child call getpid(2), and makes unshare(CLONE_NEWUSER) of it when the call is under way."""
    child = os.fork()
    if child == 0:
        call("ptrace", 0, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0 if call("getpid", 0x10000000) == 0 else 1)
    os.waitpid(child, 0)
    peek, poke, until_call = 3, 6, 24
    register = ctypes.create_string_buffer(8)
    original, first_argument = 15 * 8, 14 * 8  # of struct user_regs_struct
    while True:
        call("ptrace", until_call, child, 0, 0)
        if not os.WIFSTOPPED(status := os.waitpid(child, 0)[1]):
            return os.waitstatus_to_exitcode(status)
        call("ptrace", peek, child, original, register)
        if register.raw == struct.pack("Q", NUMBERS["getpid"]):
            call("ptrace", peek, child, first_argument, register)
            if register.raw == struct.pack("Q", 0x10000000):
                call("ptrace", poke, child, original, NUMBERS["unshare"])


def test_a_tracer_cannot_change_a_call_behind_the_filter(attack: Attacker) -> None:
    """A call that a tracer changes is filtered as what it has become (Linux 4.8)."""
    require_x86_64()
    assert attack(change_a_call_after_the_filter) == 1
    assert attack(change_a_call_after_the_filter, without=FILTER) == 0


@pytest.mark.parametrize("high", [0, 1 << 40], ids=["", "high bits"])
def test_nothing_is_typed_into_the_cells_terminal(high: int, attack: Attacker) -> None:
    """TIOCSTI on the cell's own terminal is refused, also with bits that the kernel does not look at."""
    asked = ("ioctl", 0, high | 0x5412, "x")
    assert attack(just, *asked, terminal=True) == "EPERM"
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if not legacy.exists() or legacy.read_text().strip() == "1":
        assert attack(just, *asked, terminal=True, without=FILTER) == 0


def test_no_console_function_is_reached(attack: Attacker) -> None:
    """TIOCLINUX, which pastes into a virtual console, is refused before the kernel looks at the terminal."""
    assert attack(just, "ioctl", 0, 0x541C, "\x03", terminal=True) == "EPERM"
    assert attack(just, "ioctl", 0, 0x541C, "\x03", terminal=True, without=FILTER) == "ENOTTY"


def terminals() -> object:
    return {
        "tty": attempt(os.open, "/dev/tty", os.O_RDWR),
        "session": os.getsid(0) == os.getpid(),
        "terminals": os.listdir("/dev/pts"),
        "stdin": os.isatty(0),
    }


def test_a_cell_has_no_terminal_of_the_notebooks(attack: Attacker) -> None:
    """A cell leads a session without a terminal, so that /dev/tty, the notebook's for its own children, is nothing."""
    assert attack(terminals) == {"tty": "ENXIO", "session": True, "terminals": ["ptmx"], "stdin": False}


def escape_from_a_chroot() -> object:
    """Keeps a descriptor above a chroot, goes back to it, and up from there as far as it goes."""
    root = os.stat("/")
    above = os.open("/", os.O_RDONLY)
    os.makedirs("/tmp/jail", exist_ok=True)
    os.chroot("/tmp/jail")
    os.fchdir(above)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    now = os.stat("/")
    return {"same": (root.st_dev, root.st_ino) == (now.st_dev, now.st_ino), "files": sorted(os.listdir("/"))}


@pytest.mark.parametrize("way", WAYS)
def test_a_chroot_is_left_for_the_cells_root_alone(way: Way, attack: Attacker) -> None:
    """The classic escape by a kept descriptor ends at the container's own root: the host's is not above it."""
    found = attack(escape_from_a_chroot, **way.options())
    assert found["same"]
    assert set(found["files"]) == set(attack(os_listing, **way.options()))


def os_listing() -> object:
    return sorted(os.listdir("/"))
