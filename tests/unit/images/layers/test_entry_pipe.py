"""Entries through a pipe: what goes in comes out, whatever its size."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images.layers import tar_format
from nbcontainer.images.layers.entry_pipe import IN_PIPE, Receiver, Sender
from nbcontainer.images.layers.tar_reader import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def member(name: bytes, size: int = 0) -> Member:
    """A file's entry."""
    return Member(name, tar_format.REGULAR, 0o644, 1, 2, size, 3, b"", size)


@contextlib.contextmanager
def sending(send: Callable[[Sender], None]) -> Iterator[int]:
    """The reading end of a pipe that another thread sends through, and then closes."""
    reading, writing = os.pipe()

    def work() -> None:
        try:
            sender = Sender(writing)
            send(sender)
            sender.flush()
        finally:
            os.close(writing)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield reading
    finally:
        thread.join()
        os.close(reading)


def nothing() -> None:
    """What a sender that has not failed says at its end."""


def failed() -> None:
    """What a sender that has failed says."""
    raise ValueError("the sender's own error")


SIZES = [0, 1, 100, 65_535, 65_536, 300_000, 3_000_000]


def test_entries_and_their_data(tmp_path: Path) -> None:
    """Entries come in order with all their fields, and data of any size reaches its file whole."""
    whole = member(b"everything", 7)
    whole.xattrs = {b"user.a": b"b"}
    whole.sparse = [(0, 3), (100, 4)]
    whole.real_size, whole.link, whole.device = 104, b"link", (1, 3)

    def send(sender: Sender) -> None:
        for number, size in enumerate(SIZES):
            sender.entry(member(b"%d" % number, size), IN_PIPE)
            for at in range(0, size, 100_000):
                sender.data(bytes([number]) * min(100_000, size - at))
        sender.entry(whole, IN_PIPE)

    with sending(send) as fd:
        receiver = Receiver(fd, None, nothing)
        for number, size in enumerate(SIZES):
            found = receiver.next()
            assert found == member(b"%d" % number, size)
            with (tmp_path / str(number)).open("wb") as file:
                receiver.copy(file.fileno(), size)
            assert (tmp_path / str(number)).read_bytes() == bytes([number]) * size
        assert receiver.next() == whole
        assert receiver.next() is None


def test_many_entries_at_once() -> None:
    """More entries than one system call takes, and than a pipe holds, come one by one."""

    def send(sender: Sender) -> None:
        for number in range(20_000):
            sender.entry(member(b"%d" % number), IN_PIPE)

    with sending(send) as fd:
        receiver = Receiver(fd, None, nothing)
        assert [found.name for found in iter(receiver.next, None)] == [b"%d" % n for n in range(20_000)]


def test_an_entry_larger_than_the_buffer() -> None:
    """A sparse map or attributes of a megabyte arrive."""
    large = member(b"large")
    large.sparse = [(number << 20, 1) for number in range(60_000)]

    def send(sender: Sender) -> None:
        sender.entry(member(b"before"), IN_PIPE)
        sender.entry(large, IN_PIPE)
        sender.entry(member(b"after"), IN_PIPE)

    with sending(send) as fd:
        receiver = Receiver(fd, None, nothing)
        assert [receiver.next(), receiver.next(), receiver.next()] == [member(b"before"), large, member(b"after")]


def test_the_senders_error_is_the_receivers(tmp_path: Path) -> None:
    """Where the pipe ends because the sender failed, its error comes out: of the next entry, or of its data."""
    with sending(lambda sender: None) as fd, pytest.raises(ValueError, match="the sender's own error"):
        Receiver(fd, None, failed).next()

    def send(sender: Sender) -> None:
        sender.entry(member(b"f", 100), IN_PIPE)
        sender.data(b"less")

    with sending(send) as fd:
        receiver = Receiver(fd, None, failed)
        receiver.next()
        with (tmp_path / "f").open("wb") as file, pytest.raises(ValueError, match="the sender's own error"):
            receiver.copy(file.fileno(), 100)


def test_data_that_was_not_taken_is_skipped(tmp_path: Path) -> None:
    """The next entry is found whether the last one's data was taken, in part, or not at all."""

    def send(sender: Sender) -> None:
        for size in (100, 300_000, 0, 70_000):
            sender.entry(member(b"%d" % size, size), IN_PIPE)
            sender.data(b"x" * size)

    with sending(send) as fd:
        receiver = Receiver(fd, None, nothing)
        names = []
        while (found := receiver.next()) is not None:
            names.append(found.name)
            if found.size == 70_000:
                with (tmp_path / "f").open("wb") as file:
                    receiver.copy(file.fileno(), 10)
        assert names == [b"100", b"300000", b"0", b"70000"]


def test_data_from_the_store(tmp_path: Path) -> None:
    """Stored data is copied from the file, as far as it is there, and skipped by not being copied."""
    stored = tmp_path / "stored"
    stored.write_bytes(b"")
    data = bytes(range(256)) * 1000

    def send(sender: Sender) -> None:
        with stored.open("ab") as file:
            file.write(data[:1000])
            file.flush()
            sender.stored(1000)
            sender.entry(member(b"early", 500), 100)
            sender.entry(member(b"skipped", 50_000), 600)
            sender.entry(member(b"late", 200_000), 50_000)
            for at in range(1000, len(data), 10_000):
                file.write(data[at : at + 10_000])
                file.flush()
                sender.stored(min(at + 10_000, len(data)))
            sender.entry(member(b"last"), len(data))

    with sending(send) as fd, stored.open("rb") as file:
        receiver = Receiver(fd, file.fileno(), nothing)
        for name, part in ((b"early", data[100:600]), (b"skipped", None), (b"late", data[50_000:250_000])):
            found = receiver.next()
            assert found is not None
            assert found.name == name
            if part is not None:
                with (tmp_path / "out").open("wb") as out:
                    receiver.copy(out.fileno(), len(part))
                assert (tmp_path / "out").read_bytes() == part
        assert receiver.next() == member(b"last")
        assert receiver.next() is None


def test_a_sender_that_fails_before_all_is_stored(tmp_path: Path) -> None:
    """Where data never comes to be stored, the sender's error comes out of the copy."""
    (tmp_path / "stored").write_bytes(b"x" * 10)

    def send(sender: Sender) -> None:
        sender.stored(10)
        sender.entry(member(b"f", 100), 0)

    with sending(send) as fd, (tmp_path / "stored").open("rb") as file, (tmp_path / "out").open("wb") as out:
        receiver = Receiver(fd, file.fileno(), failed)
        receiver.next()
        with pytest.raises(ValueError, match="the sender's own error"):
            receiver.copy(out.fileno(), 100)
