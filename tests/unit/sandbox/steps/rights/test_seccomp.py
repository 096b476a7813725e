"""The filter of system calls, run by an interpreter of its own over every number; its numbers against the headers."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbcontainer.linux.recording import RecordingKernel
from nbcontainer.linux.seccomp import ArgumentCheck, Verdict, assemble, refuse
from nbcontainer.linux.syscalls import NUMBERS
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.launcher.failures import setup_failed
from nbcontainer.sandbox.plan import WORK_CAPABILITIES
from nbcontainer.sandbox.steps.rights.seccomp import ALLOWED, ALLOWED_WITH, InstallSeccomp, program, verdicts
from tests.fuzzing import examples
from tests.requirements import require

# The kernel's numbers, once more and from <linux/seccomp.h>, <linux/audit.h> and <linux/elf-em.h>, so that a slip in
# the code is not a slip here too.
ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
DONE, EPERM, ENOSYS, EAFNOSUPPORT = 0x00050000, 0x00050001, 0x00050026, 0x00050061
X86_64, I386, AARCH64, ARM, RISCV64 = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028, 0xC00000F3
ARCHITECTURES = {"x86_64": X86_64, "aarch64": AARCH64, "riscv64": RISCV64}
X32_BIT = 0x40000000
LONGEST = 4096  # BPF_MAXINSNS

MACHINES = pytest.mark.parametrize("machine", sorted(ARCHITECTURES))

DENIED = """
_sysctl acct add_key afs_syscall bpf clock_settime create_module delete_module fanotify_init fanotify_mark finit_module
fsconfig fsmount fsopen fspick get_kernel_syms get_mempolicy getpmsg init_module io_uring_enter io_uring_register
io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie lsm_get_self_attr lsm_list_modules
lsm_set_self_attr mbind migrate_pages modify_ldt mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at
open_tree open_tree_attr perf_event_open pidfd_getfd pivot_root process_madvise putpmsg query_module quotactl
quotactl_fd reboot request_key security set_mempolicy set_mempolicy_home_node setdomainname sethostname setns
settimeofday swapoff swapon sysfs syslog tuxcall umount2 unshare uselib userfaultfd ustat vhangup vserver
""".split()
"""What is EPERM in every cell with the default capabilities."""

OF_PID = ["prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"]
"""The calls that change the process of their first argument, and may not be for init."""

ARGUMENT_CHECKED = {
    *("clone", "ioctl", "ioprio_set", "personality", "setpriority", "setsockopt", "socket", "socketpair"),
    *OF_PID,
}

WORDS = st.integers(0, 2**64 - 1)
"""Any argument of a system call."""


class Ran(NamedTuple):
    """What a filter returned, and after how many instructions."""

    verdict: int
    steps: int


def run(code: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> Ran:
    """Runs a filter as the kernel would, on struct seccomp_data; what a sound filter has no need of is an error."""
    filled = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, architecture, 0x7FFF_0000_1234, *filled)
    accumulator = at = steps = 0
    while True:
        operation, if_true, if_false, constant = struct.unpack_from("<HBBI", code, 8 * at)
        at += 1
        steps += 1
        match operation:
            case 0x20:  # A = the word at constant
                assert constant % 4 == 0
                (accumulator,) = struct.unpack_from("<I", data, constant)
            case 0x54:
                accumulator &= constant
            case 0x05:
                at += constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x06:
                return Ran(constant, steps)
            case _:
                raise AssertionError(f"operation {operation:#x}")


def verdict(
    name: str,
    *arguments: int,
    machine: str = "x86_64",
    keep: tuple[str, ...] = DEFAULT_CAPABILITIES,
    single_id: bool = False,
) -> int:
    code = program(machine, keep, single_id)
    return run(code, ARCHITECTURES[machine], NUMBERS[machine][name], arguments).verdict


@MACHINES
def test_every_number_has_the_verdict_of_its_name(machine: str) -> None:
    """Of the numbers from 0 to 600, those of denied calls are EPERM, of no known call ENOSYS, the rest allowed."""
    names = {number: name for name, number in NUMBERS[machine].items()}
    code = program(machine, DEFAULT_CAPABILITIES)
    for number in range(601):
        name = names.get(number)
        expected = ENOSYS if name is None or name == "clone3" else EPERM if name in DENIED else ALLOW
        if name not in ARGUMENT_CHECKED:
            assert run(code, ARCHITECTURES[machine], number).verdict == expected, f"{number} {name}"


def test_every_call_is_on_one_list() -> None:
    """No call of the tables is forgotten by this test, and the allow-list has no name that no machine knows."""
    known = set().union(*NUMBERS.values())
    assert known == ALLOWED | set(DENIED) | ARGUMENT_CHECKED | {"chroot", "clone3"}
    assert not ALLOWED & set(DENIED)
    assert set().union(*ALLOWED_WITH.values()) <= known


@MACHINES
def test_another_entry_ends_the_process(machine: str) -> None:
    """A call by the 32-bit entry, or any other architecture's, is never answered, whatever its number."""
    code = program(machine, DEFAULT_CAPABILITIES)
    for architecture in {I386, ARM, X86_64, AARCH64, RISCV64, 0} - {ARCHITECTURES[machine]}:
        for number in (*range(601), X32_BIT, 0xFFFFFFFF):
            assert run(code, architecture, number).verdict == KILL_PROCESS


def test_the_x32_entry_is_closed() -> None:
    """With the x32 bit, every number is unknown, the harmless ones and those from 512 among them."""
    code = program("x86_64", DEFAULT_CAPABILITIES)
    for number in (*range(601), 0x3FFFFFFF):
        assert run(code, X86_64, number | X32_BIT).verdict == ENOSYS


@MACHINES
@examples(100)
@given(number=st.integers(601, 2**32 - 1))
def test_what_is_newer_than_the_table_is_unknown(machine: str, number: int) -> None:
    """Any higher number is ENOSYS, so that programs fall back on what they know."""
    assert run(program(machine, DEFAULT_CAPABILITIES), ARCHITECTURES[machine], number).verdict == ENOSYS


@MACHINES
@examples(100)
@given(owner=WORDS, group=WORDS)
def test_with_a_single_id_no_change_of_owner_fails(machine: str, owner: int, group: int) -> None:
    """Ids that are there, root's and -1, are the kernel's to set; all others are answered with success."""
    own = {owner & 0xFFFFFFFF, group & 0xFFFFFFFF} <= {0, 0xFFFFFFFF}
    for arguments, verdict_ in (((owner, group), ALLOW if own else DONE), ((0, -1 % 2**64), ALLOW), ((0, 1), DONE)):
        for name in {"chown", "fchown", "lchown"} & set(NUMBERS[machine]):
            assert verdict(name, 7, *arguments, machine=machine, single_id=True) == verdict_
            assert verdict(name, 7, *arguments, machine=machine) == ALLOW
        assert verdict("fchownat", 7, 7, *arguments, machine=machine, single_id=True) == verdict_


@MACHINES
def test_with_a_single_id_all_else_is_as_ever(machine: str) -> None:
    """No other call has another verdict for it."""
    usual, single = (verdicts(machine, DEFAULT_CAPABILITIES, single_id=single_id) for single_id in (False, True))
    assert {number for number in usual if usual[number] != single[number]} == {
        NUMBERS[machine][name] for name in ("chown", "fchown", "lchown", "fchownat") if name in NUMBERS[machine]
    }
    assert usual.keys() == single.keys()
    fewer = tuple(name for name in DEFAULT_CAPABILITIES if name != "CHOWN")
    assert verdicts(machine, fewer, single_id=True) == verdicts(machine, fewer)


@MACHINES
@examples(100)
@given(flags=WORDS)
def test_clone_makes_no_namespace(machine: str, flags: int) -> None:
    """clone(2) is allowed exactly without a CLONE_NEW* flag in the low 32 bits, which are all that the kernel reads."""
    assert verdict("clone", flags, machine=machine) == (EPERM if flags & 0x7E020000 else ALLOW)


@MACHINES
@pytest.mark.parametrize("flag", [0x00020000, *(1 << bit for bit in range(25, 31))])
def test_each_namespace_flag_is_denied(machine: str, flag: int) -> None:
    """Each of the seven CLONE_NEW* flags of clone(2) alone, and beside those of a thread, is denied."""
    thread = 0x003D0F00
    assert verdict("clone", flag | 17, machine=machine) == EPERM
    assert verdict("clone", flag | thread, machine=machine) == EPERM
    assert verdict("clone", thread, machine=machine) == ALLOW


@MACHINES
@examples(100)
@given(descriptor=WORDS, high=st.integers(0, 2**32 - 1), low=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("request_", [0x5412, 0x541C], ids=["TIOCSTI", "TIOCLINUX"])
def test_nothing_is_typed_into_a_terminal(machine: str, request_: int, descriptor: int, high: int, low: int) -> None:
    """TIOCSTI and TIOCLINUX are denied whatever the high 32 bits, on every descriptor; other requests pass."""
    assert verdict("ioctl", descriptor, high << 32 | request_, machine=machine) == EPERM
    assert verdict("ioctl", descriptor, high << 32 | low, machine=machine) == (
        EPERM if low in (0x5412, 0x541C) else ALLOW
    )


@MACHINES
@examples(100)
@given(asked=st.one_of(WORDS, st.sampled_from([0, 8, 0x20000, 0x20008, 0xFFFFFFFF])))
def test_a_personality_is_one_of_five(machine: str, asked: int) -> None:
    """personality(2) may ask, and set Linux, 32-bit and the old release's name; nothing that disables protections."""
    allowed = asked & 0xFFFFFFFF in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
    assert verdict("personality", asked, machine=machine) == (ALLOW if allowed else EPERM)


@MACHINES
@pytest.mark.parametrize("name", OF_PID)
@examples(100)
@given(pid=st.one_of(WORDS, st.integers(0, 3)), new=WORDS)
def test_inits_limits_and_scheduling_are_not_the_cells(machine: str, name: str, pid: int, new: int) -> None:
    """Each of these calls is denied for pid 1 whatever the high 32 bits, and for no other."""
    assert verdict(name, pid, 7, new, machine=machine) == (EPERM if pid & 0xFFFFFFFF == 1 else ALLOW)


@MACHINES
@pytest.mark.parametrize(("name", "first"), [("setpriority", 0), ("ioprio_set", 1)])
@examples(100)
@given(which=st.one_of(WORDS, st.integers(0, 3)), who=st.one_of(WORDS, st.integers(0, 3)))
def test_inits_priority_is_not_the_cells(machine: str, name: str, first: int, which: int, who: int) -> None:
    """Priorities of processes and of their groups are the cell's, except those of pid 1; those of a user are not."""
    allowed = which & 0xFFFFFFFF in (first, first + 1) and who & 0xFFFFFFFF != 1
    assert verdict(name, which, who, machine=machine) == (ALLOW if allowed else EPERM)


@MACHINES
@examples(100)
@given(level=st.one_of(WORDS, st.just(263)), option=st.one_of(WORDS, st.integers(0, 30)))
def test_no_frame_is_sent_from_shared_memory(machine: str, level: int, option: int) -> None:
    """Of all options of sockets, PACKET_TX_RING (13) of SOL_PACKET (263) alone is denied."""
    denied = (level & 0xFFFFFFFF, option & 0xFFFFFFFF) == (263, 13)
    assert verdict("setsockopt", 3, level, option, machine=machine) == (EPERM if denied else ALLOW)


@MACHINES
@examples(100)
@given(family=st.one_of(WORDS, st.integers(0, 50)))
@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_sockets_are_of_five_families(machine: str, call: str, family: int) -> None:
    """unix, inet, inet6, netlink and packet sockets pass; AF_ALG (38), AF_VSOCK (40) and the others do not exist."""
    allowed = family & 0xFFFFFFFF in (1, 2, 10, 16, 17)
    assert verdict(call, family, machine=machine) == (ALLOW if allowed else EAFNOSUPPORT)


@MACHINES
@pytest.mark.parametrize(("capability", "names"), sorted(ALLOWED_WITH.items()))
def test_a_capability_allows_its_calls_and_no_others(machine: str, capability: str, names: frozenset[str]) -> None:
    """Against no capability at all, one more allows the calls it is for, and changes no other."""
    numbers, architecture = NUMBERS[machine], ARCHITECTURES[machine]
    without, having = program(machine, ()), program(machine, (capability,))
    flags = (0x10000000, 0x5412)  # CLONE_NEWUSER, TIOCSTI
    for name, number in numbers.items():
        before, after = (run(code, architecture, number, flags).verdict for code in (without, having))
        assert (before == after) != (name in names), name
        if name in names:
            assert (before, after) == (ENOSYS if name == "clone3" else EPERM, ALLOW)


def test_chroot_needs_its_capability() -> None:
    """A cell may chroot, having SYS_CHROOT by default; the work of unpacking, which has not, may not."""
    assert verdict("chroot") == ALLOW
    assert verdict("chroot", keep=WORK_CAPABILITIES) == EPERM


@pytest.mark.parametrize(
    "name",
    "mknodat fchownat fsetxattr lsetxattr linkat symlinkat renameat2 utimensat copy_file_range sendfile splice "
    "fallocate syncfs fsync clone wait4 pipe2 seccomp memfd_create futex".split(),
)
@MACHINES
def test_unpacking_has_what_it_needs(machine: str, name: str) -> None:
    """The filter of work sandboxes allows devices, owners, attributes, links and a child to decompress in."""
    assert verdict(name, machine=machine, keep=WORK_CAPABILITIES) == ALLOW


@MACHINES
def test_the_filter_is_short(machine: str) -> None:
    """No call takes more than 20 instructions, and the whole is under 250."""
    code = program(machine, DEFAULT_CAPABILITIES)
    assert len(code) // 8 < 250
    assert max(run(code, ARCHITECTURES[machine], number).steps for number in range(601)) <= 20


@MACHINES
def test_the_filter_is_made_once(machine: str) -> None:
    """The same capabilities give the same object, ready to load."""
    assert program(machine, ("KILL",)) is program(machine, ("KILL",))


CHECKS = st.builds(
    ArgumentCheck,
    argument=st.integers(0, 5),
    values=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(tuple),
    then=st.sampled_from([ALLOW, EPERM]),
    otherwise=st.sampled_from([ENOSYS, KILL_PROCESS]),
    mask=st.sampled_from([0xFFFFFFFF, 0x3, 0x80000001]),
)
TABLES = st.dictionaries(st.integers(0, 400), st.one_of(st.sampled_from([ALLOW, EPERM]), CHECKS), max_size=200)


@examples(60)
@given(table=TABLES, arguments=st.tuples(*[st.integers(0, 4) | WORDS] * 6))
def test_any_table_is_assembled_faithfully(table: dict[int, Verdict], arguments: tuple[int, ...]) -> None:
    """Whatever the table of verdicts, the filter returns for every number what the table says, past far jumps too."""
    code = assemble(X86_64, table, ENOSYS)
    for number in range(403):
        expected = table.get(number, ENOSYS)
        if isinstance(expected, ArgumentCheck):
            looked_at = arguments[expected.argument] & 0xFFFFFFFF & expected.mask
            expected = expected.then if looked_at in expected.values else expected.otherwise
        assert run(code, X86_64, number, arguments).verdict == expected


def test_a_far_jump_is_far() -> None:
    """A table of many checks, whose halves are longer than a conditional jump reaches, is assembled faithfully."""
    table: dict[int, Verdict] = {number: ArgumentCheck(0, (number,), ALLOW, EPERM) for number in range(300)}
    code = assemble(AARCH64, table, ENOSYS)
    assert len(code) // 8 > 1000
    for number in range(300):
        assert run(code, AARCH64, number, (number,)).verdict == ALLOW
        assert run(code, AARCH64, number, (number + 1,)).verdict == EPERM


def test_a_filter_that_no_kernel_takes_is_refused() -> None:
    """More than 4096 instructions are an error here, and not an EINVAL of the kernel's."""
    table: dict[int, Verdict] = {number: ArgumentCheck(0, (number,), ALLOW, EPERM) for number in range(900)}
    with pytest.raises(ValueError, match="a filter can have 4096 instructions"):
        assemble(X86_64, table, ENOSYS)


def header(*places: str) -> str:
    """The text of a kernel header, wherever the distribution has it."""
    found = next((Path(place) for place in places if Path(place).exists()), None)
    require("linux-libc-dev", available=found is not None, why=f"no {places[0]}: install linux-libc-dev")
    assert found is not None
    return found.read_text()


def test_x86_64_numbers_are_the_headers() -> None:
    """Every call in this machine's <asm/unistd_64.h> has its number in the table."""
    text = header("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h")
    listed = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+)[ \t]+(\d+)", text)}
    assert len(listed) > 300
    for name, number in listed.items():
        if number <= 469:  # the newest of the table
            assert NUMBERS["x86_64"].get(name) == number, name


@pytest.mark.parametrize("machine", ["aarch64", "riscv64"])
def test_generic_numbers_are_the_headers(machine: str) -> None:
    """Every call of <asm-generic/unistd.h> that a 64-bit machine has is in the table under its number."""
    text = header("/usr/include/asm-generic/unistd.h")
    numbers = {name: int(number) for name, number in re.findall(r"#define (__NR(?:3264)?_\w+)[ \t]+(\d+)", text)}
    aliases = re.findall(r"#define (__NR_\w+)[ \t]+(__NR3264_\w+)", text)
    numbers |= {name: numbers[original] for name, original in aliases if original in numbers}
    names: dict[int, set[str]] = {}
    for name, number in numbers.items():
        if name.startswith("__NR_"):
            names.setdefault(number, set()).add(name.removeprefix("__NR_"))
    table = {number: name for name, number in NUMBERS[machine].items()}
    newest = min(numbers["__NR_syscalls"], 470)  # the first that the header, or the table, does not have
    for number, candidates in names.items():
        if number == 244 or 403 <= number <= 423:  # where a machine's own begin; for 32-bit machines
            assert number not in table
        elif number < newest:
            assert table.get(number) in candidates
    own = {"riscv_hwprobe", "riscv_flush_icache"}
    assert {name for number, name in table.items() if number < newest and number not in names} <= own


def test_the_step_loads_the_filter_and_asks_for_it() -> None:
    """The step's calls are seccomp(2) with this machine's program, and the question whether it filters."""
    kernel = RecordingKernel()
    InstallSeccomp(("KILL",)).apply(kernel, ())
    assert kernel.names() == ["seccomp_set_mode_filter", "prctl"]
    assert kernel.calls[0].args == (program(os.uname().machine, ("KILL",)), 4)


def test_a_kernel_that_does_not_filter_is_noticed() -> None:
    """A kernel that took the program and says that it filters nothing fails the step."""
    kernel = RecordingKernel(prctl=lambda *_: 0)
    with pytest.raises(OSError, match="does not use it"):
        InstallSeccomp().apply(kernel, ())


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_kernel_without_filters_is_said_clearly(code: int) -> None:
    """Where the kernel has no filters, the error says what failed and what kernel it takes."""
    kernel = RecordingKernel().fail(code, "seccomp_set_mode_filter")
    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        InstallSeccomp().apply(kernel, ())
    error = setup_failed({"step": "InstallSeccomp", "errno": code, "error": raised.value.strerror, "path": ""})
    assert str(error).startswith("cannot install the filter of system calls")
    assert "CONFIG_SECCOMP_FILTER" in error.hint


def test_a_machine_without_a_table_is_said_clearly() -> None:
    """No container runs unfiltered on a machine whose numbers are not known."""
    with pytest.raises(OSError, match="no table of the system calls of m68k") as raised:
        program("m68k", DEFAULT_CAPABILITIES)
    assert raised.value.errno == errno.ENOSYS


@MACHINES
def test_with_an_input_terminal_nothing_is_copied_in_the_kernel(machine: str) -> None:
    """sendfile(2) and splice(2) lock a pipe while they wait for a person; all else is as ever."""
    usual, asking = (verdicts(machine, DEFAULT_CAPABILITIES, terminal_input=on) for on in (False, True))
    changed = {number: verdict_ for number, verdict_ in asking.items() if usual[number] != verdict_}
    assert changed == {NUMBERS[machine][name]: refuse(errno.EINVAL) for name in ("sendfile", "splice")}
