"""seccomp(2): assembles filters in classic BPF from a table of verdicts, and installs them in this thread."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbcontainer.linux.bpf import AND, JUMP, JUMP_EQUAL, JUMP_FROM, LOAD, NEAR, RETURN, BpfProgram, Code, pack
from nbcontainer.linux.libc import syscall, unsigned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# <linux/seccomp.h>
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_MODE_FILTER = 2
KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

# <linux/audit.h>: the ELF machine, __AUDIT_ARCH_64BIT and __AUDIT_ARCH_LE
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}

# struct seccomp_data
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16


def refuse(error: int) -> int:
    """Return the verdict that skips a call and returns this errno, or success for 0 (SECCOMP_RET_ERRNO)."""
    return _ERRNO | error


@dataclass(frozen=True)
class ArgumentCheck:
    """A verdict that depends on the low 32 bits of argument `argument`, which the kernel takes as an int.

    If these bits, under `mask`, are one of `values`, the verdict is `then`, which may check another argument; otherwise
    it is `otherwise`. The high 32 bits are ignored, as the kernel ignores them, so that setting them evades nothing.
    """

    argument: int
    values: tuple[int, ...]
    then: Verdict
    otherwise: int
    mask: int = 0xFFFFFFFF


Verdict = int | ArgumentCheck


def assemble(architecture: int, verdicts: Mapping[int, Verdict], unknown: Verdict) -> bytes:
    """Return the filter for one architecture, as an array of struct sock_filter.

    `verdicts` are by the number of the call; `unknown` is for all other numbers, which include those with the x32 bit.
    A call through another architecture's entry, such as the 32-bit one, kills the process. The filter is a binary
    search, so that a call costs about ten instructions. Raises `ValueError` if it is longer than the kernel accepts.
    """
    code: Code = [
        (LOAD, 0, 0, _ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, _NUMBER),
        *_tree(_ranges(verdicts, unknown)),
    ]
    return pack(code)


def _ranges(verdicts: Mapping[int, Verdict], unknown: Verdict) -> list[tuple[int, Verdict]]:
    """Return the ranges of calls with one verdict: the first number and the verdict of each, in order."""
    ranges: list[tuple[int, Verdict]] = []
    for number in range(max(verdicts, default=-1) + 2):
        verdict = verdicts.get(number, unknown)
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((number, verdict))
    return ranges


def _tree(ranges: Sequence[tuple[int, Verdict]]) -> Code:
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    below, above = _tree(ranges[:middle]), _tree(ranges[middle:])
    first = ranges[middle][0]
    if len(below) <= NEAR:
        return [(JUMP_FROM, len(below), 0, first), *below, *above]
    return [(JUMP_FROM, 0, 1, first), (JUMP, 0, 0, len(below)), *below, *above]


def _leaf(verdict: Verdict) -> Code:
    if isinstance(verdict, int):
        return [(RETURN, 0, 0, verdict)]
    code: Code = [(LOAD, 0, 0, _ARGUMENTS + 8 * verdict.argument)]
    if verdict.mask != 0xFFFFFFFF:
        code.append((AND, 0, 0, verdict.mask))
    for left, value in zip(range(len(verdict.values), 0, -1), verdict.values, strict=True):
        code.append((JUMP_EQUAL, left, 0, value))
    return [*code, (RETURN, 0, 0, verdict.otherwise), *_leaf(verdict.then)]


def seccomp_set_mode_filter(program: bytes, flags: int = 0) -> None:
    """seccomp(2) with SECCOMP_SET_MODE_FILTER: filter the calls of this thread and all that it starts, for good.

    `program` is what `assemble` returned. Raises `OSError`: EINVAL if the kernel has no filters, EACCES without
    no_new_privs.
    """
    syscall("seccomp", unsigned(SECCOMP_SET_MODE_FILTER), unsigned(flags), ctypes.byref(BpfProgram(program)))
