"""The calls of a step as operations for the compiled helper."""

from __future__ import annotations

import os
import struct

import pytest

from nbcontainer.linux.kernel import Kernel
from nbcontainer.linux.libc import number
from nbcontainer.sandbox.helper.operations import Flag, Operation, Outcome
from nbcontainer.sandbox.helper.remote_calls import FIRST_FREE, Origin, Place, State, Stop
from nbcontainer.sandbox.helper.remote_kernel import RemoteKernel

WITHOUT = {
    "add_ipv6": "the launcher makes it, for private networks",
    "clone": "the server makes it",
    "fsconfig_fd": "the notebook makes it, for /proc",
    "user_namespace": "only for --userns=host, whose init is interpreted",
    "write_id_maps": "the launcher makes it, for an outer /proc",
}
"""The methods of `Kernel` that a plan for the helper does not use."""


def test_every_call_of_a_step_is_an_operation() -> None:
    """A new method of `Kernel` has an operation, or a reason why no plan for the helper needs one."""
    methods = {name for name in dir(Kernel) if not name.startswith("_")}
    assert methods == {name for name in methods if hasattr(RemoteKernel, name)} | set(WITHOUT)


def test_descriptors_have_the_lowest_free_numbers() -> None:
    """The numbers are those that the kernel gives in init, which compares them."""
    kernel = RemoteKernel(State())
    first, second = kernel.open("/a", os.O_RDONLY), kernel.open("/b", os.O_RDONLY)
    kernel.close(first)
    assert (first, second, kernel.open("/c", os.O_RDONLY)) == (FIRST_FREE, FIRST_FREE + 1, FIRST_FREE)
    assert [one.expected.result for one in kernel.operations] == [first, second, 0, first]


def test_what_is_not_known_ends_the_step() -> None:
    """Nothing that depends on it is sent: what a step tidies up on its way out is not an operation."""
    kernel = RemoteKernel(State())

    def step() -> None:
        fd = kernel.open("/etc/passwd", os.O_RDONLY)
        try:
            kernel.fstat(fd)
        finally:
            kernel.close(fd)

    with pytest.raises(Stop):
        step()
    assert [one.flags & Flag.REPORTED for one in kernel.operations] == [0, Flag.REPORTED]


def test_a_known_outcome_is_given_and_not_asked_for_again() -> None:
    """A step that runs again gets what init has reported, errors too."""
    kernel = RemoteKernel(State(), [Outcome(-2), Outcome(9)])
    with pytest.raises(FileNotFoundError) as caught:
        kernel.open("/none", os.O_RDONLY)
    assert caught.value.filename == "/none"
    assert kernel.open("/other", os.O_RDONLY) == 9
    assert kernel.operations == []


def test_init_compares_what_the_step_has_looked_at() -> None:
    """A file whose owner does not matter to a step may have any."""
    facts = bytearray(256)
    struct.pack_into("=H", facts, 28, 0o20666)
    kernel = RemoteKernel(State(), likely={Place(0, number("statx")): Outcome(0, bytes(facts))})
    assert kernel.stat("/dev/null").st_mode == 0o20666
    assert kernel.operations[0].looked == {(28, 2)}


def test_what_is_expected_may_end_before_what_is_looked_at() -> None:
    """The rest is compared with the zeros that the step was given, so that init finds a whole operation."""
    kernel = RemoteKernel(State(), likely={Place(0, number("statx")): Outcome(0, bytes(30))})
    facts = kernel.stat("/dev/null")
    assert (facts.st_mode, facts.st_rdev) == (0, 0)
    packed = kernel.operations[0].pack()
    data = packed[-sum(-(-size // 8) * 8 for _, size in kernel.operations[0].looked) :]
    assert kernel.operations[0].looked == {(28, 2), (128, 4), (132, 4)}
    assert data == bytes(24)


def test_the_outcome_of_another_call_is_not_expected() -> None:
    """A step that took another branch has another call in that position."""
    kernel = RemoteKernel(State(), likely={Place(0, number("openat")): Outcome(7)})
    with pytest.raises(Stop):
        kernel.stat("/dev/null")
    assert kernel.operations[0].flags & Flag.REPORTED


def test_the_facts_of_a_travelling_descriptor_are_expected() -> None:
    """A cell's input costs no question: the notebook has the same file."""
    with open(os.devnull, "rb") as null:  # noqa: PTH123
        kernel = RemoteKernel(State(), origins={6: Origin.of(null.fileno())})
        assert kernel.fstat(6).st_rdev == os.makedev(1, 3)
    assert not kernel.operations[0].flags & Flag.REPORTED


@pytest.mark.parametrize("text", ["", "root:x:0:0::/root:/bin/sh\n", "a" * 40000])
def test_a_file_is_read_as_elsewhere(text: str) -> None:
    """In pieces, to its end, and closed."""
    raw = text.encode()
    pieces = [raw[start : start + (1 << 14)] for start in range(0, len(raw), 1 << 14)]
    outcomes = [Outcome(6), *(Outcome(len(piece), piece) for piece in pieces), Outcome(0), Outcome(0)]
    kernel = RemoteKernel(State(), outcomes)
    assert kernel.read_text("/etc/passwd") == text
    assert kernel.state == State()


def test_a_directory_is_listed_by_names() -> None:
    """Init compares the names, and not the numbers of files, which differ in each file system."""
    entries = b"".join(
        struct.pack("=QqHB", number, number, 24, 4) + name.ljust(5, b"\0")
        for number, name in enumerate((b".", b"..", b"cpu0"))
    )
    listed = {
        Place(1, number("getdents64")): Outcome(len(entries), entries),
        Place(2, number("getdents64")): Outcome(0),
    }
    kernel = RemoteKernel(State(), likely=listed)
    assert kernel.listdir("/sys") == ["cpu0"]
    assert kernel.operations[1].looked == {(19, 2), (43, 3), (67, 5)}


def test_an_operation_has_all_its_memory() -> None:
    """Its size is a multiple of eight, and the strings of a program are in it."""
    kernel = RemoteKernel(State())
    assert kernel.posix_spawn("/bin/sh", ("sh", "-c", "x"), {"A": "b"}, setsid=True, setsigdef=(13,)) == 2
    packed = kernel.operations[0].pack()
    assert len(packed) % 8 == 0
    assert all(word in packed for word in (b"/bin/sh\0", b"-c\0", b"A=b\0"))
    assert Operation.pack(kernel.operations[0]) == packed
