"""How `logs` shows the output of a job."""

from __future__ import annotations

from nbcontainer.commands.verbs.job_verbs import Stamped
from nbcontainer.commands.views.job_views import LogOutput, Piece
from nbcontainer.containers.jobs.log import LogRecord, LogStream


def records(*parts: bytes) -> list[LogRecord]:
    return [LogRecord(number, 1_500_000_000 * 10**9 + number, LogStream.OUT, part) for number, part in enumerate(parts)]


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
