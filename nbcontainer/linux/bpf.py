"""Classic BPF: instructions (<linux/bpf_common.h>, struct sock_filter), and a program as the kernel takes it."""

from __future__ import annotations

import ctypes
import struct
from ctypes import c_char_p, c_ushort

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
LOAD_HALF = 0x28  # BPF_LD | BPF_H | BPF_ABS
LOAD_BYTE = 0x30  # BPF_LD | BPF_B | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_FROM = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

NEAR = 255
"""The farthest that a conditional jump reaches."""

LENGTH_LIMIT = 4096
"""The most instructions that a program may have (BPF_MAXINSNS)."""

Code = list[tuple[int, int, int, int]]
"""Instructions: code, jump if true, jump if false, constant (struct sock_filter)."""


def pack(code: Code) -> bytes:
    """The program as an array of struct sock_filter. Raises `ValueError` for one longer than the kernel takes."""
    if len(code) > LENGTH_LIMIT:
        raise ValueError(f"a filter of {len(code)} instructions is too long")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class BpfProgram(ctypes.Structure):
    """struct sock_fprog, for what `pack` returned."""

    _fields_ = (("len", c_ushort), ("filter", c_char_p))

    def __init__(self, packed: bytes) -> None:
        super().__init__(len(packed) // 8, packed)
