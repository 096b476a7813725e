"""Classic BPF: instructions (<linux/bpf_common.h>, struct sock_filter) and programs for the kernel."""

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
"""The most instructions that a conditional jump can skip."""

LENGTH_LIMIT = 4096
"""The most instructions of a program (BPF_MAXINSNS)."""

Code = list[tuple[int, int, int, int]]
"""Instructions: code, jump if true, jump if false, constant (struct sock_filter)."""


def pack(code: Code) -> bytes:
    """Return the program as an array of struct sock_filter. Raises `ValueError` if it exceeds LENGTH_LIMIT."""
    if len(code) > LENGTH_LIMIT:
        raise ValueError(f"a filter can have {LENGTH_LIMIT} instructions, and this one has {len(code)}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class BpfProgram(ctypes.Structure):
    """struct sock_fprog of a program that `pack` returned."""

    _fields_ = (("len", c_ushort), ("filter", c_char_p))

    def __init__(self, packed: bytes) -> None:
        super().__init__(len(packed) // 8, packed)
