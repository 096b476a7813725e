"""The input of a cell from a descriptor of the caller, with pipes and files in the place of both."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from typing import TYPE_CHECKING

import pytest

from nbcontainer.errors import SandboxError
from nbcontainer.sandbox import protocol
from nbcontainer.sandbox.supervision.feed import Feed, feed_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Fed:
    """A cell with an input: `source` is what the caller has, `typist` writes there, `reader` is the cell's end."""

    def __init__(self, source: int, typist: int = -1, taken: bytes = b"") -> None:
        self.source, self.typist = source, typist
        self.feed = Feed(source, taken)
        self.reader = self.feed.reader
        self.poll = select.poll()
        self.feed.connect(self.poll)

    def go_on(self) -> int:
        """Handles what is ready, until nothing is; returns how many events there were."""
        count = 0
        while ready := self.poll.poll(0):
            for fd, _ in ready:
                assert self.feed.take(fd)
                count += 1
        return count

    def read_all(self) -> bytes:
        """What the cell reads to the end."""
        found = b""
        self.go_on()
        while data := os.read(self.reader, 1 << 16):
            found += data
            self.go_on()
        return found

    def close(self) -> None:
        self.feed.close()
        protocol.close((self.source, self.typist, self.reader))


@pytest.fixture
def fed() -> Iterator[Fed]:
    """One whose caller has a pipe."""
    made = Fed(*os.pipe())
    yield made
    made.close()


def test_what_is_written_arrives_and_ends(fed: Fed) -> None:
    """The input arrives as it comes, and its end is the end of the cell's input."""
    assert fed.go_on() == 0
    os.write(fed.typist, b"one\n")
    fed.go_on()
    assert os.read(fed.reader, 100) == b"one\n"
    os.write(fed.typist, b"two\n")
    os.close(fed.typist)
    assert fed.read_all() == b"two\n"
    assert fed.feed.writer is None
    assert not fed.feed.take(fed.source)


def test_a_file_of_any_size_arrives_whole(tmp_path: Path) -> None:
    """No more is read than the pipe takes; the caller's descriptor stands where its input was read to."""
    data = os.urandom(3 << 20)
    (tmp_path / "data").write_bytes(data)
    fed = Fed(os.open(tmp_path / "data", os.O_RDONLY))
    fed.go_on()
    assert os.lseek(fed.source, 0, os.SEEK_CUR) < len(data)
    assert fed.read_all() == data
    fed.close()


def test_a_cell_that_reads_no_more_ends_the_feed(fed: Fed) -> None:
    """The caller's input is not read any more, and nothing is polled."""
    os.close(fed.reader)
    assert fed.go_on() == 1
    os.write(fed.typist, b"unread\n")
    assert fed.go_on() == 0
    assert os.read(fed.source, 100) == b"unread\n"


def test_a_cell_that_does_not_read_costs_nothing(fed: Fed) -> None:
    """A full pipe causes no events; when the cell ends, the feed ends."""
    os.set_blocking(fed.typist, False)
    events = 1
    while events:
        with contextlib.suppress(BlockingIOError):
            os.write(fed.typist, bytes(1 << 16))
        events = fed.go_on()
    os.close(fed.reader)
    assert fed.go_on() > 0
    assert fed.feed.writer is None


def test_an_input_that_does_not_block_is_waited_for(fed: Fed) -> None:
    """Another program may have set O_NONBLOCK: that nothing is there yet is not the end."""
    os.set_blocking(fed.source, False)
    assert fed.feed.take(fed.source)
    os.write(fed.typist, b"late\n")
    fed.go_on()
    assert os.read(fed.reader, 100) == b"late\n"


def test_what_another_process_has_read_is_not_waited_for(fed: Fed) -> None:
    """A pipe that the caller shares may be empty again when it is read."""
    os.write(fed.typist, b"taken\n")
    assert fed.poll.poll(0)
    os.read(fed.source, 100)
    assert fed.feed.take(fed.source)
    assert fed.go_on() == 0


def test_an_input_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """The cell does not take a part of its input for the whole."""
    fed = Fed(os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(SandboxError, match="cannot read the standard input: Is a directory"):
        fed.go_on()
    fed.close()


def test_a_terminal_that_was_hung_up_is_at_its_end() -> None:
    """EIO is what a terminal without its other end gives."""
    typist, terminal = os.openpty()
    fed = Fed(terminal)
    os.close(typist)
    assert fed.read_all() == b""
    fed.close()


def test_sealed_memory_needs_no_feed(tmp_path: Path) -> None:
    """A memory file that nothing can change is the cell's own; every other file is fed."""
    sealed = protocol.memory_file("stdin", b"data")
    empty = protocol.empty_memory_file("stdin")
    fcntl.fcntl(empty, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)  # it can still be cut off
    plain = os.open(tmp_path / "file", os.O_RDONLY | os.O_CREAT)
    assert feed_of(sealed) is None
    for fd in (empty, plain):
        feed = feed_of(fd)
        assert feed is not None
        os.close(feed.reader)
        feed.close()
    protocol.close((sealed, empty, plain))


def test_another_container_gets_what_no_program_has_read(fed: Fed) -> None:
    """If a container could not start, the next one has the whole input, also what was on the way to the first."""
    os.write(fed.typist, b"one\n")
    fed.go_on()
    os.write(fed.typist, b"two\n")
    fed.go_on()
    fed.feed.close()
    again = Fed(os.dup(fed.source), taken=bytes(fed.feed.taken))
    os.write(fed.typist, b"three\n")
    os.close(fed.typist)
    assert again.read_all() == b"one\ntwo\nthree\n"
    again.close()


def test_what_a_program_has_read_is_kept_for_no_other(tmp_path: Path) -> None:
    """More than a pipe holds has been read by a program, which has begun: none of it is kept in memory."""
    (tmp_path / "data").write_bytes(bytes(3 << 20))
    fed = Fed(os.open(tmp_path / "data", os.O_RDONLY))
    fed.go_on()
    assert len(fed.feed.taken) > 0
    fed.read_all()
    assert fed.feed.taken == b""
    fed.close()
