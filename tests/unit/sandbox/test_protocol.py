"""Messages over a pair of sockets."""

from __future__ import annotations

import array
import errno
import json
import os
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.sandbox import protocol
from tests.running import open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = protocol.pair()
    other.settimeout(10)
    with one, other:
        yield one, other


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"a": 1, "b": [True, None, 1.5], "c": {"d": "é\n\0€"}},
        {"path": os.fsdecode(b"/caf\xe9")},
        {"long": "x" * (protocol.PACKET_LIMIT - 11)},
        {"longer": "x" * protocol.PACKET_LIMIT},
        {"longest": "ü" * (4 << 20)},
    ],
    ids=["empty", "mixed", "a path that is no UTF-8", "nearly a packet", "more than a packet", "24 MB"],
)
def test_a_message_arrives_as_it_was_sent(pair: Pair, message: dict[str, Any]) -> None:
    """What is sent is what is received, of any size, and no descriptor is left of it."""
    before = open_descriptors()
    protocol.send(pair[0], message)
    assert protocol.receive(pair[1]) == message
    assert open_descriptors() == before


def test_messages_keep_their_bounds(pair: Pair) -> None:
    """Two messages sent before either is read are two messages."""
    protocol.send(pair[0], {"n": 1})
    protocol.send(pair[0], {"n": 2})
    assert [protocol.receive(pair[1]), protocol.receive(pair[1])] == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("text", ["short", "x" * (2 * protocol.PACKET_LIMIT)], ids=["short", "long"])
def test_descriptors_come_along_in_order(pair: Pair, text: str) -> None:
    """Copies of the descriptors arrive in their order, close-on-exec, with a message of any length."""
    ends = [os.pipe() for _ in range(3)]
    protocol.send(pair[0], {"text": text}, [write for _, write in ends])
    came: list[int] = []
    assert protocol.receive(pair[1], came) == {"text": text}
    for number, fd in enumerate(came):
        assert not os.get_inheritable(fd)
        os.write(fd, b"%d" % number)
        os.close(fd)
    assert [os.read(read, 10) for read, _ in ends] == [b"0", b"1", b"2"]
    for one in ends:
        protocol.close(one)


def test_as_many_descriptors_as_promised(pair: Pair) -> None:
    """FILES_LIMIT descriptors fit one message, and those of a long one with its own."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(protocol.FILES_LIMIT)]
    came: list[int] = []
    protocol.send(pair[0], {}, fds)
    protocol.receive(pair[1], came)
    assert len(came) == protocol.FILES_LIMIT
    protocol.close(came)
    came.clear()
    protocol.send(pair[0], {"text": "x" * protocol.PACKET_LIMIT}, fds[:-1])
    protocol.receive(pair[1], came)
    assert len(came) == protocol.FILES_LIMIT - 1
    protocol.close([*came, *fds])


def test_descriptors_that_nobody_wants_are_closed(pair: Pair) -> None:
    """A receiver that asks for no descriptors keeps none."""
    before = open_descriptors()
    protocol.send(pair[0], {}, [0, 1, 2])
    assert protocol.receive(pair[1]) == {}
    assert open_descriptors() == before


def test_a_closed_peer_is_the_end(pair: Pair) -> None:
    """What was sent before the end is still read; then there is None, and None again."""
    protocol.send(pair[0], {"last": 1})
    pair[0].close()
    assert protocol.receive(pair[1]) == {"last": 1}
    assert protocol.receive(pair[1]) is None
    assert protocol.receive(pair[1]) is None


def test_a_peer_that_died_with_mail_unread_is_the_end(pair: Pair) -> None:
    """What it sent before is read, though it read nothing of what it was sent; then there is the end."""
    protocol.send(pair[1], {"unread": 1})
    protocol.send(pair[0], {"last": 1})
    pair[0].close()
    assert protocol.receive(pair[1]) == {"last": 1}
    assert protocol.receive(pair[1]) is None


def test_sending_to_nobody_is_an_error_and_no_signal(pair: Pair) -> None:
    """EPIPE is raised, and SIGPIPE does not end the process."""
    pair[1].close()
    with pytest.raises(BrokenPipeError):
        protocol.send(pair[0], {"a": 1})
    with pytest.raises(BrokenPipeError):
        protocol.send(pair[0], {"a": "x" * (2 * protocol.PACKET_LIMIT)})


@pytest.mark.parametrize(
    "packet",
    [b"no json", b"[1]", b'"text"', b"1", b"\xff\xfe", b"{", b"memory file", b"[" * 60000],
    ids=["words", "list", "string", "number", "no UTF-8", "half", "no memory file", "deep"],
)
def test_a_packet_that_is_no_message_is_an_oserror(pair: Pair, packet: bytes) -> None:
    """Whatever arrives instead of a JSON object is one kind of error, and its descriptors are closed."""
    before = open_descriptors()
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))]
    pair[0].sendmsg([packet], ancillary if packet != b"memory file" else [])
    came: list[int] = []
    with pytest.raises(OSError, match="a message is not"):
        protocol.receive(pair[1], came)
    assert came == []
    assert open_descriptors() == before


def test_a_memory_file_that_is_none_is_an_oserror(pair: Pair) -> None:
    """A long message whose descriptor is a pipe has nothing in it: an error, and nothing is left open."""
    before = open_descriptors()
    ends = os.pipe()
    pair[0].sendmsg([b"memory file"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [ends[0]]))])
    protocol.close(ends)
    with pytest.raises(OSError, match="a message is not"):
        protocol.receive(pair[1])
    assert open_descriptors() == before


def test_a_packet_that_is_too_long_is_cut_off(pair: Pair) -> None:
    """A packet beyond the limit is refused instead of read in part."""
    pair[0].send(json.dumps({"a": "x" * protocol.PACKET_LIMIT}).encode())
    with pytest.raises(OSError, match="cut off"):
        protocol.receive(pair[1])


def test_too_many_open_files_are_the_reason(pair: Pair) -> None:
    """Descriptors that this process may not have are an error that says so, and those that came are closed."""
    protocol.send(pair[0], {"a": 1}, [0, 1, 2])
    before, limits = open_descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    for more in range(3):
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files") as raised:
                protocol.receive(pair[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert raised.value.errno == errno.EMFILE
        assert open_descriptors() == before
        protocol.send(pair[0], {"a": 1}, [0, 1, 2])


def test_a_memory_file_is_sealed() -> None:
    """Who gets a memory file can read it from its start and cannot change it."""
    fd = protocol.memory_file("x", b"hello")
    assert protocol.read_memory_file(fd) == b"hello"
    assert os.read(fd, 10) == b"hello"
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        os.write(fd, b"y")
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        os.ftruncate(fd, 1)
    os.close(fd)


def test_closing_what_is_closed_is_no_error() -> None:
    """Every descriptor is closed, also after one that is closed already."""
    one, other = os.pipe()
    os.close(one)
    protocol.close([one, other])
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(other)
