"""What `logs` selects and shows of a log."""

from __future__ import annotations

import time

import pytest

from nbcontainer.commands.verbs import job_verbs
from nbcontainer.commands.verbs.job_verbs import Stamped, last_lines
from nbcontainer.commands.views.job_views import LogOutput, Piece
from nbcontainer.containers.jobs.log import LogRecord, LogStream
from nbcontainer.errors import UsageError


def records(*parts: bytes) -> list[LogRecord]:
    return [LogRecord(number, 1_500_000_000 * 10**9 + number, LogStream.OUT, part) for number, part in enumerate(parts)]


@pytest.mark.parametrize(
    ("parts", "number", "kept"),
    [
        ((b"a\nb\nc\n",), 1, b"c\n"),
        ((b"a\nb\nc\n",), 2, b"b\nc\n"),
        ((b"a\nb\nc\n",), 9, b"a\nb\nc\n"),
        ((b"a\nb", b"b\nc"), 2, b"bb\nc"),
        ((b"x\ny\n", b"a\nb\nc\n"), 3, b"a\nb\nc\n"),
        ((b"x\ny\n", b"a\nb\nc\n"), 4, b"y\na\nb\nc\n"),
        ((b"a\n\n", b"\n"), 2, b"\n\n"),
        ((b"a\n",), 0, b""),
        ((), 5, b""),
    ],
)
def test_tail_keeps_the_last_lines(parts: tuple[bytes, ...], number: int, kept: bytes) -> None:
    """Lines are counted over the pieces in which they came; a last line without an end is a line."""
    assert b"".join(record.data for record in last_lines(records(*parts), number)) == kept


def test_times_stand_before_lines_and_not_inside_them() -> None:
    """Each line gets the time of the piece in which it begins, also a line that comes in pieces."""
    stamped = Stamped()
    text = b"".join(stamped.with_times(record) for record in records(b"a\nb", b"b\r\n", b"c\n"))
    stamp = "2017-07-14T02:40:00.{:09d}Z "
    assert text.decode() == f"{stamp.format(0)}a\n{stamp.format(0)}bb\r\n{stamp.format(2)}c\n"


def test_the_output_of_an_untrusted_job_controls_nothing() -> None:
    """With `inert`, control sequences are replaced, as text and on a terminal; a pipe gets the bytes."""
    pieces = [Piece(b"\x1b[2Jred\n")]
    assert "\x1b" not in str(LogOutput(pieces, inert=True))
    shown: list[bytes] = []
    LogOutput(pieces, inert=True).write(shown.append, shown.append, terminal=True)
    assert b"\x1b" not in b"".join(shown)
    shown.clear()
    LogOutput(pieces, inert=True).write(shown.append, shown.append)
    assert shown == [b"\x1b[2Jred\n"]


DAY = 1_767_312_000
"""2026-01-02T00:00:00Z in seconds since 1970."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-02", DAY),
        ("2026-01-02T03:04", DAY + 3 * 3600 + 4 * 60),
        ("2026-01-02T03:04:05", DAY + 3 * 3600 + 4 * 60 + 5),
        ("2026-01-02T03:04:05Z", DAY + 3 * 3600 + 4 * 60 + 5),
        ("2026-01-02T03:04:05+01:00", DAY + 2 * 3600 + 4 * 60 + 5),
        ("1767312000", DAY),
        ("1767312000.5", DAY + 0.5),
        ("0", 0),
        ("10m", 2_000_000_000 - 600),
        ("1m30s", 2_000_000_000 - 90),
        ("500ms", 2_000_000_000 - 0.5),
    ],
)
def test_times_have_the_forms_of_docker(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time ago, a date, a time, or seconds since 1970."""
    monkeypatch.setattr(time, "time_ns", lambda: 2_000_000_000 * 10**9)
    assert job_verbs._moment(text, "--since") == seconds * 10**9


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-01-02T", "-5m", "1h-", "9" * 30])
def test_other_times_are_refused(text: str) -> None:
    """The error names the option."""
    with pytest.raises(UsageError, match="invalid time"):
        job_verbs._moment(text, "--since")
