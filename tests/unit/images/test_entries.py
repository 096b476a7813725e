"""Entries through a pipe: what goes in comes out, whatever its size."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.images import tar_format
from nbcontainer.images.entries import Receiver, Sender
from nbcontainer.images.tar_reader import Member

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
            sender.entry(member(b"%d" % number, size))
            for at in range(0, size, 100_000):
                sender.data(bytes([number]) * min(100_000, size - at))
        sender.entry(whole)

    with sending(send) as fd:
        receiver = Receiver(fd, nothing)
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
            sender.entry(member(b"%d" % number))

    with sending(send) as fd:
        receiver = Receiver(fd, nothing)
        assert [found.name for found in iter(receiver.next, None)] == [b"%d" % n for n in range(20_000)]


def test_an_entry_larger_than_the_buffer() -> None:
    """A sparse map or attributes of a megabyte arrive."""
    large = member(b"large")
    large.sparse = [(number << 20, 1) for number in range(60_000)]

    def send(sender: Sender) -> None:
        sender.entry(member(b"before"))
        sender.entry(large)
        sender.entry(member(b"after"))

    with sending(send) as fd:
        receiver = Receiver(fd, nothing)
        assert [receiver.next(), receiver.next(), receiver.next()] == [member(b"before"), large, member(b"after")]


def test_the_senders_error_is_the_receivers(tmp_path: Path) -> None:
    """Where the pipe ends because the sender failed, its error comes out: of the next entry, or of its data."""
    with sending(lambda sender: None) as fd, pytest.raises(ValueError, match="the sender's own error"):
        Receiver(fd, failed).next()

    def send(sender: Sender) -> None:
        sender.entry(member(b"f", 100))
        sender.data(b"less")

    with sending(send) as fd:
        receiver = Receiver(fd, failed)
        receiver.next()
        with (tmp_path / "f").open("wb") as file, pytest.raises(ValueError, match="the sender's own error"):
            receiver.copy(file.fileno(), 100)
