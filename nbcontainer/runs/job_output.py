"""The output of a job for the Python API: which part of it is selected, and as events while it comes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from datetime import datetime

from nbcontainer.containers.jobs.log import LogStream
from nbcontainer.containers.jobs.log_reader import LogReader
from nbcontainer.containers.jobs.log_selection import Selection, moment
from nbcontainer.errors import UsageError
from nbcontainer.runs import arguments
from nbcontainer.runs.output_events import EventDecoder, OutputEvent, Stream

Moment = datetime | float | str | None
"""A time: a datetime, seconds since 1970, or text as in `%container logs --since`; None for no limit."""

_MOST_SECONDS = 1e18  # more than the age of the world; its nanoseconds are a float

_STREAMS = {LogStream.OUT: Stream.STDOUT, LogStream.ERR: Stream.STDERR}


def selection(tail: int | None, since: Moment, until: Moment) -> Selection:
    """Return what the arguments of `Container.logs` ask for. Raises `UsageError`."""
    return Selection(_nanoseconds(since, "since", 0.0), _nanoseconds(until, "until", math.inf), _lines(tail))


def events(opened: Callable[[], LogReader], chosen: Selection, runs: Callable[[], bool]) -> Generator[OutputEvent]:
    """Yield the selected output as it comes, until `runs` returns false for the job. Raises `StoreError`, `OSError`."""
    decoder = EventDecoder()
    with opened() as log:
        for record in chosen.records(log, runs):
            yield decoder.event(_STREAMS[record.stream], record.data)
    yield from decoder.rest()


def _lines(tail: int | None) -> int | None:
    if tail is None:
        return None
    if (lines := arguments.whole(tail)) is None or lines < 0:
        raise UsageError(f"invalid number of lines: {tail!r}", hint="write tail=10, or leave it out for all lines")
    return lines


def _nanoseconds(value: Moment, name: str, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, str):
        return moment(value, name)
    if isinstance(value, datetime):
        with contextlib.suppress(ValueError, OverflowError, OSError):  # a year that the system does not have
            return round(value.timestamp() * 1e6) * 1000
    found = arguments.number(value)
    if found is None or not (abs(found) <= _MOST_SECONDS or math.isinf(found)):
        raise UsageError(f"invalid time for {name}: {value!r}", hint="write a datetime, seconds since 1970, or '10m'")
    return found * 1e9
