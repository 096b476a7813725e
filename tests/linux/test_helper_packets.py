"""The compiled init gets packets of every form: only getpid(2) is ever called, all else in them is changed."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbcontainer.linux.libc import number
from nbcontainer.sandbox.helper import operations, program
from nbcontainer.sandbox.helper.operations import Kind, Operation, Outcome
from tests.requirements import program_or_skip

_ASKED = os.environ.get("NBCONTAINER_FUZZ", "")

EXAMPLES = int(_ASKED or 60)
"""How many packets the helper gets in each fuzz test: the same ones each time, unless the variable says how many."""

CHOSEN = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not _ASKED,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def helper(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(program.SWITCH, "1")
        content = program_or_skip()
    path = tmp_path_factory.mktemp("helper") / "helper"
    path.write_bytes(content)
    path.chmod(0o700)
    return str(path)


def _answers(helper: str, packet: bytes) -> tuple[int | None, bytes | None]:
    """Return what comes of an order: the signal or status with which the server ends, and what its init reports."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(os.getpid())
    given = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs.fileno(), pidfd, pidfd)]
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(given, 3)]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in range(6, 10)]
    with ours:
        pid = os.posix_spawn(helper, ["helper"], {}, file_actions=actions)
        theirs.close()
        for fd in (*given, pidfd):
            os.close(fd)
        assert ours.recv(100) == bytes(8)  # it has begun
        ours.send(packet)
        _, files, _, _ = socket.recv_fds(ours, 100, 2)
        report = None
        if len(files) == 2:
            with socket.socket(fileno=files[1]) as channel:
                report = channel.recv(operations.OUTPUT_LIMIT + 64)
            os.close(files[0])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), report


_GETPID = Operation(Kind.CALL, number("getpid"), (), Outcome(0))


def test_an_outcome_that_was_not_expected_is_reported(helper: str) -> None:
    """With the number of the operation, and nothing is done after it."""
    packed = operations.batch(2, _GETPID.pack() * 2)
    status, report = _answers(helper, operations.order(1, 0, packed))
    assert status == 0
    assert report is not None
    message = operations.read_message(report)
    assert isinstance(message, operations.Report)
    assert message.sequence == 0
    assert message.outcome.result > 0


@CHOSEN
@given(packet=st.binary(min_size=1, max_size=300))
def test_no_packet_does_more_than_end_the_server(helper: str, packet: bytes) -> None:
    """It ends by itself, and not by a signal."""
    status, report = _answers(helper, packet)
    assert (status, report) == (0, None)


_WORD = st.integers(0, 2**32 - 1)
_FIELD = st.one_of(st.integers(0, 300), _WORD)


@CHOSEN
@given(
    kind=st.integers(0, 5),
    pointers=st.integers(0, 255),
    flags=st.integers(0, 15),
    output=st.integers(0, 255),
    counts=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    sizes=st.tuples(_FIELD, _FIELD),
    arguments=st.lists(st.one_of(_FIELD, st.integers(0, 2**64 - 1)), min_size=6, max_size=6),
    words=st.lists(_FIELD, max_size=60),
    cut=st.integers(0, 400),
)
def test_no_operation_reads_or_writes_outside_its_packet(
    helper: str,
    kind: int,
    pointers: int,
    flags: int,
    output: int,
    counts: tuple[int, int],
    sizes: tuple[int, int],
    arguments: list[int],
    words: list[int],
    cut: int,
) -> None:
    """Whatever an operation says of itself, init reports or ends; no signal ends it, and the server lives."""
    kind = 0 if kind == Kind.SPAWN else kind  # its data would be calls
    head = (sizes[0], kind, pointers, flags, output, number("getpid"), *counts, 0, sizes[1], 0, 0)
    packed = operations._OPERATION.pack(*head, *arguments) + struct.pack(f"={len(words)}I", *words)
    packed = packed[: len(packed) - cut] if cut < 8 else packed
    status, report = _answers(helper, operations.order(1, 0, operations.batch(1, packed)))
    assert status == 0
    assert report == b"" or isinstance(operations.read_message(report or b""), operations.Report)


def test_the_program_depends_on_nothing_of_the_host(helper: str) -> None:
    """No library is loaded, and no interpreter is named in it."""
    with open(helper, "rb") as file:  # noqa: PTH123
        content = file.read()
    assert len(content) < 1 << 15
    assert b"ld-linux" not in content
