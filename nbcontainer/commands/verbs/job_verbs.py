"""The verbs about jobs: which there are, what they wrote, and how they ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nbcontainer.commands.command import Verb
from nbcontainer.commands.grammar import Command, Option
from nbcontainer.commands.options.limits import parse_seconds
from nbcontainer.commands.several import raise_first, tried
from nbcontainer.commands.views.job_views import JobEnds, JobRow, LogOutput, Piece, job_list
from nbcontainer.containers.jobs import following
from nbcontainer.containers.jobs.log import LogStream
from nbcontainer.containers.jobs.log_selection import Selection, moment
from nbcontainer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nbcontainer.commands.command import Invocation, View
    from nbcontainer.containers.jobs.following import JobFacts
    from nbcontainer.containers.jobs.log import LogRecord

_BILLION = 10**9


def _jobs(call: Invocation) -> View:
    return job_list([_row(facts) for facts in following.list_jobs(call.engine)])


def _row(facts: JobFacts) -> JobRow:
    end = facts.end
    return JobRow(
        facts.name,
        facts.image,
        "running" if end is None else end.describe(),
        facts.started,
        facts.seconds,
        facts.command,
        facts.notebook,
        facts.health,
        outcome=None if end is None else end.outcome,
        running=end is None,
    )


def _wait(call: Invocation) -> View:
    timeout = parse_seconds(call.words.one("timeout"))
    names, began = call.words.operands, time.monotonic()
    raise_first(tried(names, lambda name: following.check_has_job(call.engine, name))[1])  # before anything waits
    ends, errors = tried(names, lambda name: following.wait(call.engine, name, timeout, began))
    found = JobEnds({name: (end.describe(), end.outcome) for name, end in ends})
    raise_first(errors, str(found).replace("\n", "; "))
    return found


def _logs(call: Invocation) -> View:
    words, (name,) = call.words, call.words.operands
    follow = words.has("follow")
    since, until = (words.one(option) for option in ("since", "until"))
    selected = Selection(
        moment(since, "--since") if since else Selection.since,
        moment(until, "--until") if until else Selection.until,
        _lines(words.one("tail", "all")),
    )
    log = following.open_log(call.engine, name)
    runs = following.runs(call.engine, name) if follow else None

    def pieces() -> Iterator[Piece]:
        with log:
            yield from _shown(selected.records(log, runs), stamped=words.has("timestamps"))

    return LogOutput(pieces(), name=name, follow=follow, inert=log.inert)


def _shown(records: Iterable[LogRecord], *, stamped: bool) -> Iterator[Piece]:
    """Yield the pieces of records."""
    stamps = {stream: Stamped() for stream in LogStream}
    for record in records:
        data = stamps[record.stream].with_times(record) if stamped else record.data
        yield Piece(data, error=record.stream is LogStream.ERR)


class Stamped:
    """Puts the time before each line of one stream, as `docker logs -t` does."""

    def __init__(self) -> None:
        self._at_start = True

    def with_times(self, record: LogRecord) -> bytes:
        """Return the data of a record with its time before each line that begins in it."""
        seconds, rest = divmod(record.time, _BILLION)
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z ".encode()
        at_start, self._at_start = self._at_start, record.data.endswith(b"\n")
        lines = _lines_of(record.data)
        return b"".join((stamp if number or at_start else b"") + line for number, line in enumerate(lines))


def _lines_of(data: bytes) -> list[bytes]:
    """Return the lines with their ends; the last one may have none."""
    *lines, last = data.split(b"\n")
    return [*(line + b"\n" for line in lines), *([last] if last else [])]


def _lines(text: str) -> int | None:
    if text in ("all", "-1"):
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"invalid number of lines '{text}' for --tail", hint="write a number, or all")
    return int(text)


JOB_VERBS = (
    Verb(Command("jobs", "", "List the jobs of this notebook, and those that run in other ones."), _jobs),
    Verb(
        Command(
            "logs",
            "CONTAINER",
            "Show the output of the last job in a container.",
            (
                Option(("-f", "--follow"), "", "show new output as it comes, until the job ends"),
                Option(("-n", "--tail"), "LINES", "show the last lines alone"),
                Option(("-t", "--timestamps"), "", "show the time before each line"),
                Option(
                    ("--since",),
                    "TIME",
                    "leave out older output: a time ago (10m, 1m30s), a date or time of RFC 3339 (in UTC if it has no "
                    "zone), or seconds since 1970",
                ),
                Option(("--until",), "TIME", "leave out newer output, likewise"),
            ),
            least=1,
            most=1,
        ),
        _logs,
    ),
    Verb(
        Command(
            "wait",
            "CONTAINER...",
            "Wait until the jobs in containers have ended, and show how.",
            (Option(("--timeout",), "SECONDS", "fail if they still run after this time"),),
            least=1,
            most=999,
        ),
        _wait,
    ),
)
