"""Which part of a log is selected: by lines, and by times in the forms of Docker and of Python."""

from __future__ import annotations

import itertools
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from nbcontainer.containers.jobs.log import LogRecord, LogStream
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.containers.jobs.log_selection import Selection, last_lines, moment
from nbcontainer.errors import UsageError
from nbcontainer.runs.job_output import selection

if TYPE_CHECKING:
    from collections.abc import Iterator


def records(*parts: bytes) -> list[LogRecord]:
    return [LogRecord(number, number, LogStream.OUT, part) for number, part in enumerate(parts)]


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
        ((b"a\n", b"b\n"), 1, b"b\n"),
        ((b"a\n",), 0, b""),
        ((), 5, b""),
    ],
)
def test_tail_keeps_the_last_lines(parts: tuple[bytes, ...], number: int, kept: bytes) -> None:
    """Lines are counted over the pieces in which they came; a last line without an end is a line."""
    found = [record.data for record in last_lines(records(*parts), number)]
    assert b"".join(found) == kept
    assert all(found)


class Endless(LogReader):
    """A log with more records than any memory holds."""

    def __init__(self) -> None:
        """Opens no file."""

    def records(self) -> Iterator[LogRecord]:
        """One after the other."""
        return (LogRecord(number, number, LogStream.OUT, b"x") for number in itertools.count())


def test_a_log_is_read_record_by_record() -> None:
    """It is not in memory as a whole, unless its last lines are asked for."""
    assert next(Selection(since=5).records(Endless())).time == 5


class Fixed(LogReader):
    """A log with these records."""

    def __init__(self, found: list[LogRecord]) -> None:
        self.found = found

    def records(self) -> Iterator[LogRecord]:
        """All of them."""
        yield from self.found


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
    assert moment(text, "--since") == seconds * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-01-02T00:00:00.912651583Z", 912_651_583),
        ("2026-01-02T00:00:00.25", 250_000_000),
        ("2026-01-02T01:00:00.000000001+01:00", 1),
        ("2026-01-02T00:00:00.1234567891Z", 123_456_789),
        ("1767312000.123456789", 123_456_789),
    ],
)
def test_times_are_exact_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    """The time that `logs -t` prints for a line selects that line, and not the one a nanosecond before or after."""
    found = moment(text, "--since")
    assert found == DAY * 10**9 + nanoseconds
    near = [LogRecord(number, found - 1 + number, LogStream.OUT, b"x") for number in range(3)]
    assert [*Selection(since=found).records(Fixed(near))] == near[1:]
    assert [*Selection(until=found).records(Fixed(near))] == near[:2]


def test_a_datetime_is_exact_to_the_microsecond() -> None:
    """As exact as it is itself."""
    found = selection(None, datetime(2026, 1, 2, 0, 0, 0, 912_651, tzinfo=UTC), None).since
    assert found == DAY * 10**9 + 912_651_000


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-01-02T", "-5m", "1h-", "9" * 30])
def test_other_times_are_refused(text: str) -> None:
    """The error names the option."""
    with pytest.raises(UsageError, match="invalid time"):
        moment(text, "--since")


@pytest.mark.parametrize(
    "value", [DAY, float(DAY), datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02", datetime.fromtimestamp(DAY)]
)
def test_times_of_python(value: Any) -> None:
    """A datetime with a zone, or of local time; seconds since 1970; text as on a command line."""
    assert selection(3, value, None) == Selection(DAY * 10**9, math.inf, 3)
    assert selection(None, None, value) == Selection(0, DAY * 10**9)


@pytest.mark.parametrize("value", [b"10m", [], math.nan, "soon"])
def test_other_values_are_no_times(value: Any) -> None:
    """The error names the argument."""
    with pytest.raises(UsageError, match=r"invalid time.* for until"):
        selection(None, None, value)


@pytest.mark.parametrize("tail", [-1, 1.5, "10", "all"])
def test_tail_is_a_number_of_lines(tail: Any) -> None:
    """A number of lines is 0 or more."""
    with pytest.raises(UsageError, match="invalid number of lines"):
        selection(tail, None, None)
