"""Which system calls a container may make: an allow-list, and the step that installs it as a filter.

It follows Docker's default profile. Denied calls give EPERM; a call that is newer than the table of numbers, and
clone3(2), whose flags no filter can see, are ENOSYS, so that programs fall back on an older one.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nbcontainer.linux.libc import machine
from nbcontainer.linux.process import PR_GET_SECCOMP
from nbcontainer.linux.seccomp import (
    ALLOW,
    ARCHITECTURES,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_MODE_FILTER,
    ArgumentCheck,
    Verdict,
    assemble,
    refuse,
)
from nbcontainer.linux.syscalls import NUMBERS
from nbcontainer.sandbox.defaults import DEFAULT_CAPABILITIES
from nbcontainer.sandbox.steps.base import Chinese, Step, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nbcontainer.linux.kernel import Kernel

_DENIED = refuse(errno.EPERM)
_UNKNOWN = refuse(errno.ENOSYS)

_FILES = """
access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 fallocate
fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr file_getattr file_setattr flistxattr flock
fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listmount listxattr
listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
removexattr removexattrat rename renameat renameat2 rmdir sendfile setxattr setxattrat splice stat statfs statmount
statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice
write writev
"""
_EVENTS = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit poll ppoll pselect6 select signalfd signalfd4
timerfd_create timerfd_gettime timerfd_settime
"""
_MEMORY = """
brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid geteuid
getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid
getuid ioprio_get kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause pidfd_open
pidfd_send_signal prctl process_mrelease process_vm_readv process_vm_writev ptrace restart_syscall riscv_flush_icache
riscv_hwprobe rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid
setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo
tgkill times tkill uname uprobe uretprobe vfork wait4 waitid
"""
_TIME = """
adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep
setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
"""
_BETWEEN_PROCESSES = """
accept accept4 bind connect futex futex_requeue futex_wait futex_waitv futex_wake getpeername getsockname getsockopt
listen mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom
recvmmsg recvmsg semctl semget semop semtimedop sendmmsg sendmsg sendto shmat shmctl shmdt shmget shutdown
"""

ALLOWED = frozenset(" ".join((_FILES, _EVENTS, _MEMORY, _PROCESSES, _TIME, _BETWEEN_PROCESSES)).split())
"""What every container may call, whatever the arguments. On a machine without one of them it is nothing."""

ALLOWED_WITH: Mapping[str, frozenset[str]] = {
    capability: frozenset(names.split())
    for capability, names in {
        "BPF": "bpf",
        "DAC_READ_SEARCH": "open_by_handle_at",
        "PERFMON": "perf_event_open",
        "SYSLOG": "syslog",
        "SYS_ADMIN": "bpf clone clone3 fanotify_init fanotify_mark fsconfig fsmount fsopen fspick lookup_dcookie "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree open_tree_attr "
        "perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare",
        "SYS_BOOT": "reboot",
        "SYS_CHROOT": "chroot",
        "SYS_MODULE": "delete_module finit_module init_module",
        "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
        "SYS_PACCT": "acct",
        "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
        "SYS_RAWIO": "ioperm iopl",
        "SYS_TIME": "clock_settime settimeofday",
        "SYS_TTY_CONFIG": "vhangup",
    }.items()
}
"""What a container may call once it has the capability."""

_NAMESPACE_FLAGS = 0x7E020000  # every CLONE_NEW* that clone(2) takes, <linux/sched.h>
_PERSONALITIES = (0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, UNAME26 of both; to ask for it
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # <asm-generic/ioctls.h>
_SOL_PACKET, _PACKET_TX_RING = 263, 13  # <linux/socket.h>, <linux/if_packet.h>
_INIT = 1
_IOPRIO_WHO = (1, 2)  # a process, a process group, <linux/ioprio.h>

_BUT_INIT = ArgumentCheck(0, (_INIT,), _DENIED, ALLOW)
_PROCESS_OR_GROUP_BUT_INIT = ArgumentCheck(1, (_INIT,), _DENIED, ALLOW)
_FAMILY = ArgumentCheck(0, tuple(int(family) for family in _FAMILIES), ALLOW, refuse(errno.EAFNOSUPPORT))

CHECKED: Mapping[str, Verdict] = {
    "clone": ArgumentCheck(0, (0,), ALLOW, _DENIED, mask=_NAMESPACE_FLAGS),
    "clone3": _UNKNOWN,
    # Both push characters into a terminal, as if typed (CVE-2017-5226, CVE-2019-10063).
    "ioctl": ArgumentCheck(1, (_TIOCSTI, _TIOCLINUX), _DENIED, ALLOW),
    "personality": ArgumentCheck(0, _PERSONALITIES, ALLOW, _DENIED),
    # The kernel asks for no more than the same user, whom init may be: with a limit that it exceeds, it is killed.
    "prlimit64": _BUT_INIT,
    # Likewise, init would get no time to end the cell. A user's processes (PRIO_USER, IOPRIO_WHO_USER) are init, too.
    "sched_setaffinity": _BUT_INIT,
    "sched_setattr": _BUT_INIT,
    "sched_setparam": _BUT_INIT,
    "sched_setscheduler": _BUT_INIT,
    "setpriority": ArgumentCheck(0, (os.PRIO_PROCESS, os.PRIO_PGRP), _PROCESS_OR_GROUP_BUT_INIT, _DENIED),
    "ioprio_set": ArgumentCheck(0, _IOPRIO_WHO, _PROCESS_OR_GROUP_BUT_INIT, _DENIED),
    # Frames of such a ring stay in the sender's memory until they are read, past every filter (see `loopback_filter`).
    "setsockopt": ArgumentCheck(1, (_SOL_PACKET,), ArgumentCheck(2, (_PACKET_TX_RING,), _DENIED, ALLOW), ALLOW),
    # The others are much code in the kernel that few programs use, AF_ALG and AF_VSOCK among them.
    "socket": _FAMILY,
    "socketpair": _FAMILY,
}
"""What hangs on the arguments, or is answered in another way, where no capability allows it."""

_OWN = (0, 0xFFFFFFFF)  # root's id, and -1 for "leave it"


def _chown(owner: int) -> ArgumentCheck:
    """A change of owner, the argument `owner`, and of group, the next: made for ids that are there, else answered."""
    done = refuse(0)
    return ArgumentCheck(owner, _OWN, ArgumentCheck(owner + 1, _OWN, ALLOW, done), done)


CHOWN = {"chown": _chown(1), "fchown": _chown(1), "lchown": _chown(1), "fchownat": _chown(2)}
"""With a single id in a container, the kernel refuses all others (EINVAL, user_namespaces(7)): programs that unpack
packages stop for it. The answer is that it is done, as every file is root's there in any case."""


COPIES = dict.fromkeys(("sendfile", "splice"), refuse(errno.EINVAL))
"""Copies within the kernel, which lock a pipe while they wait for input (fs/splice.c). Where the input is a person at a
terminal, the notebook could not read the pipe until an answer, and could not ask for one. Programs that get
this error read and write instead (sendfile(2), "NOTES")."""


def verdicts(
    machine: str, capabilities: tuple[str, ...], *, single_id: bool = False, terminal_input: bool = False
) -> dict[int, Verdict]:
    """The verdict on every call of the table, by its number, for a container with these capabilities.

    `machine` is as uname(2) names it; `single_id` says that root's is the only id, `terminal_input` that standard input
    is a terminal and the output is a pipe. Raises `OSError` (ENOSYS) for a machine that has no table.
    """
    try:
        numbers = NUMBERS[machine]
    except KeyError:
        raise OSError(errno.ENOSYS, f"no table of the system calls of {machine}") from None
    allowed = ALLOWED.union(*(ALLOWED_WITH.get(capability, ()) for capability in capabilities))
    found = {number: ALLOW if name in allowed else CHECKED.get(name, _DENIED) for name, number in numbers.items()}
    answers: dict[str, Verdict] = {}
    answers |= CHOWN if single_id and "CHOWN" in capabilities else {}
    answers |= COPIES if terminal_input else {}
    return found | {numbers[name]: check for name, check in answers.items() if name in numbers}


@functools.cache
def program(
    machine: str, capabilities: tuple[str, ...], single_id: bool = False, terminal_input: bool = False
) -> bytes:
    """The filter for a container with these capabilities, made once. Raises `OSError` as `verdicts` does."""
    known = verdicts(machine, capabilities, single_id=single_id, terminal_input=terminal_input)
    return assemble(ARCHITECTURES[machine], known, _UNKNOWN)


@dataclass(frozen=True)
class InstallSeccomp(Step):
    """The filter of system calls. It is the last to come before the program: the steps need calls that it takes away.

    `capabilities` are those of the container, some of which allow more calls (`ALLOWED_WITH`). With `single_id`,
    changes of owner that the kernel would refuse are answered as done (`CHOWN`), unless the right to was dropped. With
    `terminal_input`, copies within the kernel are refused (`COPIES`).
    """

    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    single_id: bool = False
    terminal_input: bool = False

    phrase: ClassVar[str] = "install the filter of system calls"
    why: ClassVar[str] = "system calls that no program in a container needs are blocked, so they cannot be attacked"
    risk: ClassVar[str] = "it could make any system call, and use any fault in the kernel's rarely used parts"
    chinese: ClassVar[Chinese] = Chinese(
        "安装系统调用过滤器",
        "容器中的程序用不到的内核功能既不能调用，也不能攻击",
        "容器可以进行任何系统调用，利用内核中很少使用的部分的漏洞",
    )
    ahead: ClassVar[bool] = True
    advice: ClassVar[Mapping[int, str]] = {
        errno.EINVAL: "this kernel has no filters of system calls: use one built with CONFIG_SECCOMP_FILTER",
        errno.ENOSYS: "filters of system calls are known for x86_64, aarch64 and riscv64, and need a kernel built with "
        "CONFIG_SECCOMP_FILTER",
    }

    @classmethod
    def describe(cls, arguments: Mapping[str, Any]) -> str:
        """Return what the step does with these arguments."""
        answers = "; answer changes of owner as done" if arguments["single_id"] else ""
        copies = "; refuse copies within the kernel" if arguments.get("terminal_input") else ""
        return f"filter system calls, for these capabilities: {listed(arguments['capabilities'])}{answers}{copies}"

    def apply(self, kernel: Kernel, files: Sequence[int]) -> None:
        """seccomp(2), once no_new_privs is on; then asks the kernel whether it filters (PR_GET_SECCOMP, prctl(2))."""
        code = program(machine(), self.capabilities, self.single_id, self.terminal_input)
        # Without the flag a kernel before 5.16 slows the whole program down against a fault that browsers fear.
        kernel.seccomp_set_mode_filter(code, SECCOMP_FILTER_FLAG_SPEC_ALLOW)
        if kernel.prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER:
            raise OSError(errno.EINVAL, "the kernel took the filter of system calls and does not use it")
