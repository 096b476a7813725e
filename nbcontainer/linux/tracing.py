"""ptrace(2): holds threads still. The kernel continues them when the thread that holds them ends, however it ends."""

from __future__ import annotations

from ctypes import c_int, c_long, c_void_p

from nbcontainer.linux.libc import check, libc

# <linux/ptrace.h>
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207

libc.ptrace.argtypes = (c_long, c_int, c_void_p, c_void_p)
libc.ptrace.restype = c_long


def seize(tid: int) -> None:
    """Make the calling thread the tracer of `tid`, which runs on (PTRACE_SEIZE, Linux 3.4).

    EPERM: it is dead, has a tracer already, or is not ours to trace.
    """
    check(libc.ptrace(PTRACE_SEIZE, tid, None, None), "ptrace")


def interrupt(tid: int) -> None:
    """Stop a thread that was seized; it stops a moment later (PTRACE_INTERRUPT)."""
    check(libc.ptrace(PTRACE_INTERRUPT, tid, None, None), "ptrace")


def detach(tid: int) -> None:
    """Let a thread continue that has been seized and has stopped (PTRACE_DETACH)."""
    check(libc.ptrace(PTRACE_DETACH, tid, None, None), "ptrace")
