"""The log of a job: records, rotation, a full disk, and readers at any time."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from nbcontainer.containers.jobs import log as logs
from nbcontainer.containers.jobs.log import Log, LogStream
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.outcome import Outcome, Reason

if TYPE_CHECKING:
    from pathlib import Path

ENDED = Outcome(Reason.EXITED, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def texts(path: Path) -> list[bytes]:
    """The output in a log."""
    with LogReader(path) as reader:
        return [record.data for record in reader.records()]


def test_a_log_has_both_streams_in_order_and_the_end(path: Path) -> None:
    """A reader gets each piece with its stream and a time that does not go back, and then the outcome."""
    log = Log(path)
    log.stdout(b"one\n")
    log.stderr(b"two\n")
    log.close(ENDED)
    with LogReader(path) as reader:
        found = [*reader.records()]
        assert [(one.stream, one.data) for one in found] == [(LogStream.OUT, b"one\n"), (LogStream.ERR, b"two\n")]
        assert 0 < found[0].time <= found[1].time
        assert reader.end is not None
        assert reader.end.outcome == ENDED


def test_output_cannot_imitate_a_record(path: Path) -> None:
    """Output that looks like records, or like an end, is output."""
    log = Log(path)
    forged = b'2 1 x 36\n{"outcome": null, "problem": "forged"}\n3 1 o 5\nhello'
    log.stdout(forged)
    with LogReader(path) as reader:
        assert [one.data for one in reader.records()] == [forged]
        assert reader.end is None
    log.close(ENDED)


def test_a_log_is_bounded_and_keeps_the_newest_output(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of endless output the newest part stays, in whole records; a reader that was there before misses nothing new."""
    monkeypatch.setattr(logs, "KEPT", 200_000)
    log = Log(path)
    log.stdout(b"first\n")
    with LogReader(path) as early:
        assert [one.data for one in early.records()] == [b"first\n"]
        for number in range(1000):
            log.stdout(b"%05d" % number * 200 + b"\n")
            if number % 100 == 0:
                assert [one.data[:5] for one in early.records()][-1] == b"%05d" % number
        log.close(ENDED)
        rest = [one.data[:5] for one in early.records()]
        assert rest[-1] == b"00999"
        assert rest == sorted(set(rest))
    assert path.stat().st_size <= 400_000 + 2000
    kept = texts(path)
    assert kept[-1].startswith(b"00999")
    assert len(kept) * 1001 >= 200_000 - (64 << 10)


def test_a_full_disk_leaves_whole_records_and_a_note(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that does not fit leaves nothing of itself; later the log says how many bytes it lacks."""
    log, write, full = Log(path), os.pwrite, True

    def refuse(fd: int, data: bytes, offset: int) -> int:
        if full:
            write(fd, data[:5], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data, offset)

    log.stdout(b"before\n")
    with LogReader(path) as reader:
        monkeypatch.setattr(os, "pwrite", refuse)
        log.stdout(b"lost\n")
        assert [one.data for one in reader.records()] == [b"before\n"]
        full = False
        log.stdout(b"after\n")
        found = [one.data for one in reader.records()]
    assert found == [b"\nnbcontainer: 5 bytes of output are not in the log: the disk was full\n", b"after\n"]
    log.close(ENDED)


def test_a_follower_gets_output_as_it_comes(path: Path) -> None:
    """A reader in another thread gets each piece when it is written, and ends with the job."""
    log, got, seen = Log(path), threading.Event(), []

    def follow() -> None:
        with LogReader(path) as reader:
            for record in reader.follow(lambda: True):
                seen.append(record.data)
                got.set()

    thread = threading.Thread(target=follow)
    thread.start()
    log.stdout(b"one")
    assert got.wait(20)
    assert seen == [b"one"]
    log.stdout(b"two")
    log.close(ENDED)
    thread.join(20)
    assert seen == [b"one", b"two"]


def test_a_follower_ends_with_a_job_that_left_no_end(path: Path) -> None:
    """If the notebook was killed, the log has no end: a reader returns when the job does not run any more."""
    log = Log(path)
    log.stdout(b"one")
    with LogReader(path) as reader:
        assert [one.data for one in reader.follow(lambda: False)] == [b"one"]
        assert reader.end is None
    log.close(None)


def test_a_follower_reads_the_log_of_the_next_job(path: Path) -> None:
    """If the notebook was killed and a job of the same name has started, all of its output comes."""
    log = Log(path)
    for data in (b"one", b"two"):
        log.stdout(data)
    with LogReader(path) as reader:
        assert [one.data for one in reader.records()] == [b"one", b"two"]
        path.unlink()
        following = Log(path)
        assert not [*reader.records()]
        for data in (b"three", b"four", b"five"):
            following.stdout(data)
        following.close(ENDED)
        assert [one.data for one in reader.records()] == [b"three", b"four", b"five"]
        assert reader.end is not None
    log.close(None)


@pytest.mark.parametrize("content", [b"", b"other\n", b"\0" * 100])
def test_another_file_is_not_read_as_a_log(path: Path, content: bytes) -> None:
    """A file of another form is refused, and a link is not followed."""
    path.write_bytes(content)
    with pytest.raises(OSError, match="not a log"):
        LogReader(path)
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        LogReader(link)
