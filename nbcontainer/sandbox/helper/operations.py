"""The packets that the notebook and the compiled helper exchange. `helper.c` has the other side of these formats.

A batch is a list of operations: system calls with constants, and with the outcome that the notebook expects. All
numbers have the byte order of this machine. Data is at multiples of eight bytes, as the kernel's structures need.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OUTPUT_LIMIT = 1 << 15
"""The most bytes that a call may write for the notebook."""

_MAGIC = 0x3163626E
_BATCH = struct.Struct("=II")  # struct batch
_ORDER = struct.Struct("=IIQ")  # struct order
_OPERATION = struct.Struct("=I4B4HIIq6Q")  # struct operation
_RELOCATION = struct.Struct("=II")
_REGION = struct.Struct("=III")
_ANSWER = struct.Struct("=Ii")
_REPORT = struct.Struct("=IIq")
_ENDED = struct.Struct("=IIqqq")
_LEFT = 1 << 31


class Kind(enum.IntEnum):
    """What an operation does."""

    CALL = 1
    """One system call."""
    SPAWN = 2
    """A child that makes calls, of which the last is execve(2), as vfork(2) does. The result is its pid."""
    OUTLIVE = 3
    """The supervision of the program to its end. It is the last operation of a container."""


class Flag:
    """How the outcome of a call is compared. Plain numbers: each call of a cell looks at them."""

    ANY_RESULT = 1
    """Every outcome is the expected one."""
    REPORTED = 2
    """No outcome is: it is not known, and is reported."""
    PRELOADED = 4
    """The output begins as the operation's data (ioctl(2))."""
    BY_RESULT = 8
    """The result is the size of the output (read(2))."""


@dataclass(frozen=True)
class Block:
    """Memory of a call: bytes, and the blocks whose addresses are put at places in them.

    `inner` are places at which the address of another place of the same bytes is put.
    """

    content: bytes
    pointers: tuple[tuple[int, Block], ...] = ()
    inner: tuple[tuple[int, int], ...] = ()


def text_block(text: str | bytes) -> Block:
    """Return a path or another string as the kernel takes it."""
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return Block(raw + b"\0")


def array_block(texts: Iterable[str | bytes]) -> Block:
    """Return an array of strings that ends with a null pointer, as execve(2) takes it."""
    raws = [text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text for text in texts]
    pointers = 8 * len(raws) + 8
    place, inner = pointers, []
    for number, raw in enumerate(raws):
        inner.append((8 * number, place))
        place += len(raw) + 1
    return Block(bytes(pointers) + b"\0".join([*raws, b""]), inner=tuple(inner))


class Outcome(NamedTuple):
    """The outcome of a call: the kernel's result, negative for an errno, and what it has written."""

    result: int
    output: bytes = b""


SUCCESS = Outcome(0)


@dataclass
class Operation:
    """One operation. `arguments` are numbers and memory; `output` is the argument that the kernel writes to.

    `looked` are the parts of the output, as (place, size), that the step has looked at: they must be the same.
    """

    kind: Kind
    number: int = 0
    arguments: Sequence[int | Block] = ()
    expected: Outcome = SUCCESS
    flags: int = 0
    output: int | None = None
    output_size: int = 0
    looked: set[tuple[int, int]] = field(default_factory=set)
    preload: bytes = b""
    children: bytes = b""

    def pack(self) -> bytes:
        """Return its bytes."""
        data = _Data()
        if self.preload or self.children:
            data.add(self.preload)
            data.add(self.children)
        numbers, pointers = [0] * 6, 0
        for position, argument in enumerate(self.arguments):
            if isinstance(argument, int):
                numbers[position] = argument & 0xFFFFFFFFFFFFFFFF
            else:
                numbers[position] = data.place(argument)
                pointers |= 1 << position
        looked = () if self.flags & Flag.REPORTED else self.looked
        # What is expected may end before the part: the step was given zeros there.
        parts = [(place, size, self.expected.output[place : place + size].ljust(size, b"\0")) for place, size in looked]
        regions = [(place, size, data.add(content)) for place, size, content in parts]
        head = b""
        if data.relocations or regions:
            after = [_RELOCATION.pack(*pair) for pair in data.relocations]
            after += [_REGION.pack(*region) for region in regions]
            head = b"".join(after)
            head += bytes(-(len(head) + _OPERATION.size) % 8)
        size = _OPERATION.size + len(head) + len(data.content)
        output = 255 if self.output is None else self.output
        counts = (self.number, len(data.relocations), len(regions), 0)
        first = (size, self.kind, pointers, self.flags, output, *counts, self.output_size, 0, self.expected.result)
        return _OPERATION.pack(*first, *numbers) + head + data.content


class _Data:
    """The memory of one operation, as it grows."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.relocations: list[tuple[int, int]] = []

    def add(self, raw: bytes) -> int:
        place = len(self.content)
        self.content += raw
        self.content += bytes(-len(self.content) % 8)
        return place

    def place(self, block: Block) -> int:
        where = self.add(block.content or b"\0")
        if block.inner:
            self.relocations += [(where + offset, where + below) for offset, below in block.inner]
        for offset, below in block.pointers:
            self.relocations.append((where + offset, self.place(below)))
        return where


def batch(count: int, operations: bytes) -> bytes:
    """Return the packet with `count` operations; one of none only wakes an init up."""
    return _BATCH.pack(_MAGIC, count) + operations


def order(number: int, flags: int, first: bytes) -> bytes:
    """Return the order of an init: its namespaces (CLONE_NEW*), and its first batch."""
    return _ORDER.pack(_MAGIC, number, flags) + first


def read_answer(packet: bytes) -> tuple[int, int]:
    """Return the server's answer: the number of the order, and the pid, or a negative errno. Raises `OSError`."""
    if len(packet) != _ANSWER.size:
        raise OSError("an answer of the helper has another size")
    number, pid = _ANSWER.unpack(packet)
    return number, pid


class Report(NamedTuple):
    """Init's report of the operation `sequence`, whose outcome was not the expected one; or all were, if it is last."""

    sequence: int
    outcome: Outcome


class Ended(NamedTuple):
    """Init's report of the end: the wait status, how many processes were left, µs of processor time, KiB of memory.

    `left` says that some run until init has ended, which could not kill them. `counters` is the kernel's text about the
    network (proc_pid_net(5), snmp); empty if it was not read.
    """

    status: int
    killed: int
    time: int
    memory: int
    counters: bytes
    left: bool = False


class Display:
    """A program shows data for the first time: the directory comes with the message."""


def read_message(packet: bytes) -> Report | Ended | Display:
    """Return a message of an init. Raises `OSError` for anything else."""
    kind = int.from_bytes(packet[:4], "little") if len(packet) >= 8 else 0
    if kind == 1 and len(packet) >= _REPORT.size:
        _, sequence, result = _REPORT.unpack_from(packet)
        return Report(sequence, Outcome(result, packet[_REPORT.size :]))
    if kind == 2 and len(packet) >= _ENDED.size:
        _, killed, status, time, memory = _ENDED.unpack_from(packet)
        return Ended(status, killed & ~_LEFT, time, memory, packet[_ENDED.size :], bool(killed & _LEFT))
    if kind == 3:
        return Display()
    raise OSError("a message of the helper has another form")
